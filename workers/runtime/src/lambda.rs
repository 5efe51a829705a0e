//! A function of Lambda: takes the messages of its pool's queue one invocation after the other, and answers which of them must come
//! again: all whose outcome is not safe. The process is frozen between invocations, so nothing rests on time passing there.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::{event::sqs::SqsEvent, sqs::SqsBatchResponse};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tasker_aws::{Batch, Clients, Mailbox, Received, SqsQueue};
use tasker_worker::{Command, Executor, Settings};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    deployment::Deployment,
    desk::{Desk, Window},
    noting::Noting,
    post::{Sorted, sort},
};

/// Left of an invocation when it answers, whatever is not safe then.
const TO_ANSWER: Duration = Duration::from_secs(1);

/// Serves invocations until the platform ends the process. Returns only when something is wrong.
pub async fn serve(command: Command, deployment: Deployment) -> Result<(), Box<dyn std::error::Error>> {
    let Deployment { queues, queue_url, settings } = deployment;
    let clients = Clients::from_env().await;
    let desk = Arc::new(Desk::default());
    let settings = Settings { gate: desk.gate(), ..settings };
    let executor = Executor::child(command, &settings).await?;
    let queue = Noting { queue: SqsQueue::new(clients.sqs.clone(), queues), desk: desk.clone() };
    // The platform ends the process between invocations, when nothing runs.
    let never = CancellationToken::new();
    let running = tokio::spawn(tasker_worker::run(desk.clone(), Arc::new(queue), executor, settings, never));
    let function = Arc::new(Function { mailbox: Mailbox::new(clients.sqs, queue_url), desk, longest: Mutex::default() });
    let invoked = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let function = function.clone();
        async move { function.invoke(&event.payload, event.context.deadline).await }
    });
    tokio::select! {
        ended = lambda_runtime::run(invoked) => ended.map_err(|error| error.to_string().into()),
        // Whoever is being answered for now is answered for by the platform: all of it comes again.
        _ = running => Err("the worker's loop ended by itself".into()),
    }
}

struct Function {
    mailbox: Mailbox,
    desk: Arc<Desk>,
    /// The most time that an invocation had at its beginning.
    longest: Mutex<Duration>,
}

/// Why an invocation failed as a whole; the platform tells it to whoever invoked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

impl From<Failed> for Diagnostic {
    fn from(Failed(error_message): Failed) -> Self {
        Self { error_type: "InvocationFailed".into(), error_message }
    }
}

impl Function {
    async fn invoke(&self, event: &RawValue, deadline_ms: u64) -> Result<SqsBatchResponse, Failed> {
        let window = self.window(deadline_ms);
        let event: SqsEvent = serde_json::from_str(event.get()).map_err(|e| {
            Failed(format!("this function takes the messages of its pool's queue, and was invoked with something else: {e}"))
        })?;
        let handle = |received: Received| self.handle(received, window);
        Ok(answer(Batch::of(event).messages, window.ends - TO_ANSWER, handle).await)
    }

    fn window(&self, deadline_ms: u64) -> Window {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_millis(deadline_ms).saturating_sub(since_epoch);
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = left.max(*longest);
        Window { ends: Instant::now() + left, longest: *longest }
    }

    /// True once the message may leave the queue.
    async fn handle(&self, received: Received, window: Window) -> bool {
        match sort(&received) {
            Sorted::Step(step) => match self.desk.put(vec![*step], Some(window)).pop() {
                Some(accepted) => accepted.await.is_ok(),
                None => false,
            },
            Sorted::Dead(reason) => self.mailbox.bury(&received, &reason).await,
            Sorted::Again => false,
        }
    }
}

/// Handles messages beside each other, and answers at `until` with all that are not done with by then. A panic is one message's own.
async fn answer<F>(messages: Vec<Received>, until: Instant, handle: impl Fn(Received) -> F) -> SqsBatchResponse
where
    F: Future<Output = bool>,
{
    let mut safe = vec![false; messages.len()];
    let mut handled: FuturesUnordered<_> = messages
        .iter()
        .enumerate()
        .map(|(place, received)| {
            let received = received.clone();
            let handle = &handle;
            let handled = AssertUnwindSafe(async move { handle(received).await }).catch_unwind();
            async move { (place, handled.await) }
        })
        .collect();
    while let Ok(Some((place, result))) = tokio::time::timeout_at(until, handled.next()).await {
        safe[place] = result.unwrap_or_else(|_| {
            tracing::error!(message_id = messages[place].id, "handling a message panicked; it comes again");
            false
        });
    }
    drop(handled);
    let again: Vec<&Received> = messages.iter().zip(safe).filter(|(_, safe)| !safe).map(|(message, _)| message).collect();
    if !again.is_empty() {
        tracing::warn!(messages = again.len(), "messages whose outcome is not safe come again");
    }
    Batch::answer(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Received {
        Received { id: id.into(), receipt: id.into(), receives: 1, body: String::new(), traceparent: None, source_id: None }
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_message_and_what_is_not_done_in_time_comes_again() {
        let messages = ["panics", "is done", "hangs", "is refused"].map(message).to_vec();
        let until = Instant::now() + Duration::from_millis(50);
        let answer = answer(messages, until, |received| async move {
            match received.id.as_str() {
                "panics" => panic!("as planned"),
                "hangs" => std::future::pending().await,
                id => id == "is done",
            }
        });
        let failed: Vec<String> = answer.await.batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
        assert_eq!(failed, ["panics", "hangs", "is refused"]);
    }
}
