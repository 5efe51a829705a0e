//! The worker as a function of Lambda: takes the messages of its pool's queue, one invocation after the other, and answers which of
//! them must come again: all whose outcome is not safe. The process is frozen between invocations, so nothing rests on time passing
//! there.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::{event::sqs::SqsEvent, sqs::SqsBatchResponse};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tasker_aws::{Clients, SqsQueue, SqsSource, batch_response, unquoted};
use tasker_queue::{Delivery, Disposition, Receipt, Source, Unreadable};
use tasker_wire::RunStep;
use tasker_worker::{Command, Executor, Settings, StartError};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{deployment::Deployment, invocations::Invocations};

/// Left of an invocation when it answers, whatever is not safe then.
const TO_ANSWER: Duration = Duration::from_secs(1);
/// Left of it when messages have been put off, or that is given up.
const TO_LEAVE: Duration = Duration::from_millis(300);

/// More than this over the time in which a child must be ready: the process was frozen, and the child with it.
const FROZEN: Duration = Duration::from_secs(5);

/// Serves invocations until the platform ends the process. Returns only when something is wrong.
pub async fn serve(command: Command, deployment: Deployment) -> Result<(), Box<dyn std::error::Error>> {
    let invocations = Arc::new(Invocations::new(deployment.timeout()?));
    let Deployment { queues, queue_url, settings } = deployment;
    let clients = Clients::from_env().await;
    let queue = SqsQueue::new(clients.sqs.clone(), queues);
    // The platform ends the process between invocations, when nothing runs.
    let never = CancellationToken::new();
    let source = SqsSource::new(clients.sqs, queue_url, never.clone());
    // The platform gives a start ten seconds, and a child may need more: messages that come before it is ready wait.
    let running = tokio::spawn({
        let invocations = invocations.clone();
        async move {
            let executor = start(command, &settings, &invocations).await?;
            tasker_worker::run(invocations, Arc::new(queue), executor, settings, never).await;
            Ok::<_, StartError>(())
        }
    });
    let function = Arc::new(Function { source, invocations });
    let invoked = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let function = function.clone();
        async move { function.invoke(&event.payload, event.context.deadline).await }
    });
    tokio::select! {
        ended = lambda_runtime::run(invoked) => ended.map_err(|error| error.to_string().into()),
        // The platform answers for the invocation under way: all of its messages come again.
        ended = running => match ended {
            Ok(Err(error)) => Err(error.into()),
            _ => Err("the worker's loop ended by itself".into()),
        },
    }
}

/// Starts the child. A process that is frozen before its first invocation is thawed when the child's time seems to be over, which
/// says nothing of the child.
async fn start(command: Command, settings: &Settings, gate: &Arc<Invocations>) -> Result<Executor, StartError> {
    loop {
        let begun = Instant::now();
        match Executor::gated(command.clone(), settings, gate.clone()).await {
            Err(error) if begun.elapsed() > settings.ready_timeout + FROZEN => {
                tracing::warn!(%error, "this process was frozen while the child started; it is started again");
            }
            started => return started,
        }
    }
}

struct Function {
    source: SqsSource<RunStep>,
    invocations: Arc<Invocations>,
}

/// What became of a message within its invocation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handled {
    /// It may leave the queue.
    Safe,
    NotSafe,
    Panicked,
}

impl Function {
    async fn invoke(&self, event: &RawValue, deadline_ms: u64) -> Result<SqsBatchResponse, Diagnostic> {
        let event: SqsEvent = serde_json::from_str(event.get()).map_err(|error| no_messages(&error))?;
        let begun = Instant::now();
        let ends = begun + time_until(deadline_ms);
        let messages = self.source.deliveries(event.records);
        let until = ends.checked_sub(TO_ANSWER).unwrap_or(begun);
        let (answer, later) = answer(messages, until, |message| self.handle(message, ends)).await;
        // They are not at fault: they come again soon, later each time, instead of after the whole visibility time-out. What does not
        // go through is no loss.
        let later = later.into_iter().map(|receipt| (receipt, Disposition::RetryLater)).collect();
        let _ = timeout_at(ends.checked_sub(TO_LEAVE).unwrap_or(begun), self.source.settle(later)).await;
        Ok(answer)
    }

    async fn handle(&self, Delivery { message, receipt }: Delivery<RunStep>, ends: Instant) -> Handled {
        let safe = match message {
            // Released, it would be dispatched again at once, and for ever if this machine's clock is wrong.
            Ok(step) if self.invocations.began_too_late(&step, ends) => {
                tracing::warn!(message_id = receipt.id, "the invocation began with too little time for a step; it comes again");
                false
            }
            Ok(step) => self.invocations.put(step, ends).await.is_ok(),
            Err(Unreadable::Malformed(reason)) => self.source.dead_letter(&receipt, &reason).await,
            Err(other @ Unreadable::OtherVersion(_)) => {
                tracing::warn!(message_id = receipt.id, reason = %other, "a message of another version; it comes again");
                false
            }
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
        format!("this function takes the messages of its pool's queue, and was invoked with something else: {}", unquoted(error));
    Diagnostic { error_type: "InvocationFailed".into(), error_message }
}

/// Handles messages beside each other. At `until` it answers with all that are not safe by then, and with those of them that are not at
/// fault. A panic costs only its own message.
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
            tracing::error!(message_id = handled[place].0.id, "handling a message panicked; it comes again");
            Handled::Panicked
        });
    }
    drop(handling);
    handled.retain(|(_, handled)| *handled != Handled::Safe);
    if !handled.is_empty() {
        tracing::warn!(messages = handled.len(), "messages whose outcome is not safe come again");
    }
    let answer = batch_response(handled.iter().map(|(receipt, _)| receipt.id.clone()));
    let later = handled.into_iter().filter(|(_, handled)| *handled == Handled::NotSafe).map(|(receipt, _)| receipt);
    (answer, later.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Delivery<RunStep> {
        let receipt = Receipt { id: id.into(), handle: id.into(), receives: 1 };
        Delivery { message: Err(Unreadable::OtherVersion(2)), receipt }
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_message_and_what_is_not_done_in_time_comes_again() {
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
            "who panicked waits its time"
        );
    }
}
