//! The worker as a Lambda function: receives the messages of its pool's queue in invocations, and reports those whose outcome is not
//! accepted as failures of the batch. The process is frozen between invocations, so nothing relies on time passing there.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::{event::sqs::SqsEvent, sqs::SqsBatchResponse};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tasker_aws::{Clients, SqsQueue, SqsSource, batch_response};
use tasker_queue::{Delivery, Disposition, Receipt, Source, refuse, unquoted};
use tasker_wire::RunStep;
use tasker_worker::{Command, Executor, StartError, WorkerSettings};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{deployment::Deployment, invocations::Invocations};

/// How long before its end an invocation answers, with the remaining messages as failures.
const TO_ANSWER: Duration = Duration::from_secs(1);
/// How long before its end an invocation stops changing the visibility of failed messages.
const TO_LEAVE: Duration = Duration::from_millis(300);

/// A start that exceeds the child's timeout by more than this was frozen with its process.
const FROZEN: Duration = Duration::from_secs(5);

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
            let executor = start(command, &settings, &invocations).await?;
            // Lambda ends the process between invocations, when nothing runs.
            tasker_worker::run(invocations, Arc::new(queue), executor, settings, CancellationToken::new()).await;
            Ok::<_, StartError>(())
        }
    });
    let function = Arc::new(Function { clients, queue_url, invocations });
    let invoked = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let function = function.clone();
        async move { function.invoke(&event.payload, event.context.deadline).await }
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

/// Starts the child. If Lambda freezes the process before its first invocation, the child's timeout has passed when the process
/// continues, although the child is not at fault.
async fn start(command: Command, settings: &WorkerSettings, gate: &Arc<Invocations>) -> Result<Executor, StartError> {
    loop {
        let begun = Instant::now();
        match Executor::gated(command.clone(), settings, gate.clone()).await {
            Err(error) if begun.elapsed() > settings.ready_timeout + FROZEN => {
                tracing::warn!(%error, "this process was frozen while the child started; the child is started again");
            }
            started => return started,
        }
    }
}

struct Function {
    clients: Clients,
    queue_url: String,
    invocations: Arc<Invocations>,
}

/// The result of a message in its invocation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handled {
    /// Its outcome is accepted, so the message may leave the queue.
    Safe,
    NotSafe,
    Panicked,
}

impl Function {
    async fn invoke(&self, event: &RawValue, deadline_ms: u64) -> Result<SqsBatchResponse, Diagnostic> {
        let event: SqsEvent = serde_json::from_str(event.get()).map_err(|error| no_messages(&error))?;
        let begun = Instant::now();
        let ends = begun + time_until(deadline_ms);
        let source = SqsSource::new(self.clients.sqs.clone(), self.queue_url.clone(), CancellationToken::new());
        let messages = source.deliveries(event.records);
        let until = ends.checked_sub(TO_ANSWER).unwrap_or(begun);
        let (answer, later) = answer(messages, until, |message| self.handle(&source, message, ends)).await;
        // These messages are not at fault: they are delivered again after a short, growing delay instead of the whole visibility
        // timeout. A failure here only lengthens that delay.
        let later = later.into_iter().map(|receipt| (receipt, Disposition::RetryLater)).collect();
        let _ = timeout_at(ends.checked_sub(TO_LEAVE).unwrap_or(begun), source.settle(later)).await;
        Ok(answer)
    }

    async fn handle(
        &self,
        source: &SqsSource<RunStep>,
        Delivery { message, receipt }: Delivery<RunStep>,
        ends: Instant,
    ) -> Handled {
        let (receipt, disposition) = match message {
            // A released step would be dispatched again immediately, and endlessly if this machine's clock is wrong.
            Ok(step) if self.invocations.began_too_late(&step, ends) => {
                tracing::warn!(
                    message_id = receipt.id,
                    "the invocation started with too little time for a step; its message is delivered again"
                );
                (receipt, Disposition::RetryLater)
            }
            Ok(step) => (receipt, self.invocations.put(step, ends).await.unwrap_or(Disposition::RetryLater)),
            Err(unreadable) => refuse(receipt, unreadable),
        };
        let safe = match disposition {
            Disposition::Done => true,
            Disposition::RetryLater => false,
            Disposition::Dead(reason) => source.dead_letter(&receipt, &reason).await,
        };
        if safe { Handled::Safe } else { Handled::NotSafe }
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

/// Handles messages concurrently. At `until` it returns the failures of the batch, and the receipts of those that did not panic. A
/// panic affects only its own message.
async fn answer<F>(
    messages: Vec<Delivery<RunStep>>,
    until: Instant,
    handle: impl Fn(Delivery<RunStep>) -> F,
) -> (SqsBatchResponse, Vec<Receipt>)
where
    F: Future<Output = Handled>,
{
    let mut handled: Vec<_> = messages.iter().map(|message| (message.receipt.clone(), Handled::NotSafe)).collect();
    let handle = &handle;
    let one = |(place, message)| {
        AssertUnwindSafe(async move { handle(message).await }).catch_unwind().map(move |result| (place, result))
    };
    let mut handling: FuturesUnordered<_> = messages.into_iter().enumerate().map(one).collect();
    while let Ok(Some((place, result))) = timeout_at(until, handling.next()).await {
        handled[place].1 = result.unwrap_or_else(|_| {
            tracing::error!(message_id = handled[place].0.id, "handling a message panicked; it is delivered again");
            Handled::Panicked
        });
    }
    drop(handling);
    handled.retain(|(_, handled)| *handled != Handled::Safe);
    if !handled.is_empty() {
        tracing::warn!(messages = handled.len(), "messages without an accepted outcome are delivered again");
    }
    let answer = batch_response(handled.iter().map(|(receipt, _)| receipt.id.clone()));
    let later = handled.into_iter().filter(|(_, handled)| *handled == Handled::NotSafe).map(|(receipt, _)| receipt);
    (answer, later.collect())
}

#[cfg(test)]
mod tests {
    use tasker_queue::Unreadable;

    use super::*;

    fn message(id: &str) -> Delivery<RunStep> {
        let receipt = Receipt { id: id.into(), handle: id.into(), receives: 1 };
        Delivery { message: Err(Unreadable::OtherVersion(2)), receipt }
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_message_and_unfinished_messages_are_delivered_again() {
        let messages = ["panics", "is done", "hangs", "is refused"].map(message).to_vec();
        let until = Instant::now() + Duration::from_millis(50);
        let answered = answer(messages, until, |message| async move {
            match message.receipt.id.as_str() {
                "panics" => panic!("as planned"),
                "hangs" => std::future::pending().await,
                "is done" => Handled::Safe,
                _ => Handled::NotSafe,
            }
        });
        let (answer, later) = answered.await;
        let failed: Vec<String> = answer.batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
        assert_eq!(failed, ["panics", "hangs", "is refused"]);
        assert_eq!(
            later.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(),
            ["hangs", "is refused"],
            "a message that panicked keeps its visibility timeout"
        );
    }
}
