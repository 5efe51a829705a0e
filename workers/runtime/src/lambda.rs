//! The worker as a Lambda function: receives the messages of its pool's queue in invocations, and reports those whose outcome is not
//! accepted as failures of the batch. The process is frozen between invocations, so nothing relies on time passing there.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::{event::sqs::SqsEvent, sqs::SqsBatchResponse};
use futures::future::{join_all, try_join_all};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tasker_aws::{Clients, SqsQueue, SqsSource, batch_response};
use tasker_queue::{Consumer, Delivery, Disposition, Limits, Receipt, Source, WorkError, consume, unquoted};
use tasker_wire::RunStep;
use tasker_worker::{Command, Executor, StartError};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{deployment::Deployment, invocations::Invocations};

/// How long before its end an invocation answers, with the remaining messages as failures.
const TO_ANSWER: Duration = Duration::from_secs(1);
/// How long before its end an invocation stops changing the visibility of failed messages.
const TO_LEAVE: Duration = Duration::from_millis(300);

/// How long the logs of an invocation may take.
const TO_LOG: Duration = Duration::from_millis(200);

/// Serves invocations until Lambda ends the process. Returns only on an error.
pub async fn serve(command: Command, deployment: Deployment) -> Result<(), Box<dyn std::error::Error>> {
    let invocations = Arc::new(Invocations::new(deployment.timeout()?));
    let Deployment { queues, queue_url, settings } = deployment;
    let clients = Clients::from_env().await;
    let queue = SqsQueue::new(clients.sqs.clone(), queues);
    // Lambda allows ten seconds for the init phase, and a child may need more: messages wait until it is ready.
    let running = tokio::spawn({
        let invocations = invocations.clone();
        async move {
            let executor = Executor::gated(command, &settings, invocations.clone()).await?;
            // Lambda ends the process between invocations, when nothing runs.
            tasker_worker::run(invocations, Arc::new(queue), executor, settings, CancellationToken::new()).await;
            Ok::<_, StartError>(())
        }
    });
    let function = Arc::new(Function { clients, queue_url, invocations });
    let invoked = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let function = function.clone();
        async move {
            let response = function.invoke(&event.payload, event.context.deadline).await;
            // The process is frozen once the response is sent.
            tasker_process::flush(TO_LOG);
            response
        }
    });
    tokio::select! {
        ended = lambda_runtime::run(invoked) => ended.map_err(|error| error.to_string().into()),
        // The current invocation fails with the process, so all of its messages are delivered again.
        ended = running => match ended {
            Ok(Err(error)) => Err(error.into()),
            _ => Err("the worker's loop ended unexpectedly".into()),
        },
    }
}

struct Function {
    clients: Clients,
    queue_url: String,
    invocations: Arc<Invocations>,
}

/// The steps of an invocation that ends at `ends`.
struct Invoked<'a> {
    invocations: &'a Invocations,
    ends: Instant,
}

impl Consumer for Invoked<'_> {
    type Message = RunStep;
    type Note = ();

    async fn work(&self, steps: Arc<[RunStep]>) -> Result<Vec<Disposition>, WorkError> {
        let run = async |step: &RunStep| {
            // A released step would be dispatched again immediately, and endlessly if this machine's clock is wrong.
            if self.invocations.began_too_late(step, self.ends) {
                return Err(WorkError::Later(format!("the invocation started with too little time for step {}", step.step_id)));
            }
            Ok(self.invocations.put(step.clone(), self.ends).await.unwrap_or(Disposition::RetryLater))
        };
        try_join_all(steps.iter().map(run)).await
    }
}

impl Function {
    async fn invoke(&self, event: &RawValue, deadline_ms: u64) -> Result<SqsBatchResponse, Diagnostic> {
        let event: SqsEvent = serde_json::from_str(event.get()).map_err(|error| no_messages(&error))?;
        let begun = Instant::now();
        let ends = begun + time_until(deadline_ms);
        let source = SqsSource::new(self.clients.sqs.clone(), self.queue_url.clone(), CancellationToken::new());
        let until = ends.checked_sub(TO_ANSWER).unwrap_or(begun);
        let steps = Invoked { invocations: &self.invocations, ends };
        let later = not_done(source.deliveries(event.records), until, &steps, &source).await;
        let response = batch_response(later.iter().map(|(receipt, _)| receipt.id.clone()));
        // Delivered again after a short, growing delay instead of the whole visibility timeout. A failure here only lengthens that delay.
        let _ = timeout_at(ends.checked_sub(TO_LEAVE).unwrap_or(begun), source.settle(later)).await;
        Ok(response)
    }
}

fn time_until(deadline_ms: u64) -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(deadline_ms).saturating_sub(since_epoch)
}

fn no_messages(error: &serde_json::Error) -> Diagnostic {
    let error_message =
        format!("this function handles messages of its pool's queue, but its event is something else: {}", unquoted(error));
    Diagnostic { error_type: "InvocationFailed".into(), error_message }
}

/// Works on each message alone, because a step may take the whole invocation, and all at the same time. At `until` it returns those to
/// deliver again.
async fn not_done<C: Consumer<Message = RunStep>>(
    deliveries: Vec<Delivery<RunStep>>,
    until: Instant,
    consumer: &C,
    source: &SqsSource<RunStep>,
) -> Vec<(Receipt, Disposition)> {
    // Only the queue knows its maximum of receives.
    let limits = Limits { max_receives: u32::MAX, until: Some(until) };
    let each = deliveries.into_iter().map(async |delivery| {
        let (receipt, disposition) = consume(vec![delivery], limits, consumer).await.pop()?;
        let is_done = match disposition {
            Disposition::Done => true,
            Disposition::RetryLater | Disposition::Postponed => false,
            Disposition::Dead(reason) => timeout_at(until, source.dead_letter(&receipt, &reason)).await.unwrap_or(false),
        };
        (!is_done).then_some((receipt, Disposition::RetryLater))
    });
    join_all(each).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted;

    impl Consumer for Scripted {
        type Message = RunStep;
        type Note = ();

        async fn work(&self, steps: Arc<[RunStep]>) -> Result<Vec<Disposition>, WorkError> {
            match steps[0].step_name.as_str() {
                "panics" => panic!("as planned"),
                "hangs" => std::future::pending().await,
                "is done" => Ok(vec![Disposition::Done]),
                _ => Ok(vec![Disposition::RetryLater]),
            }
        }
    }

    fn delivery(name: &str) -> Delivery<RunStep> {
        let step = crate::testing::step(tasker_wire::TaskId::from_fresh(uuid::Uuid::nil()).step(0), name);
        Delivery { message: Ok(step), receipt: Receipt { id: name.into(), handle: name.into(), receives: 1 } }
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_message_and_unfinished_messages_are_delivered_again() {
        let source = SqsSource::new(Clients::from_env().await.sqs, String::new(), CancellationToken::new());
        let deliveries = ["panics", "is done", "hangs", "is refused"].map(delivery).to_vec();
        let later = not_done(deliveries, Instant::now() + Duration::from_millis(50), &Scripted, &source).await;
        let again: Vec<_> = later.into_iter().map(|(receipt, disposition)| (receipt.id, disposition)).collect();
        assert_eq!(again, ["panics", "hangs", "is refused"].map(|id| (id.to_owned(), Disposition::RetryLater)));
    }
}
