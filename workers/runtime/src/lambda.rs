//! A function of Lambda: takes the messages of its pool's queue one invocation after the other, and answers which of them must come
//! again: all whose outcome is not safe. The process is frozen between invocations, so nothing rests on time passing there.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::{event::sqs::SqsEvent, sqs::SqsBatchResponse};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tasker_aws::{Batch, Clients, Received, SqsQueue, SqsSource, unquoted};
use tasker_wire::RunStep;
use tasker_worker::{Command, Executor, Settings, StartError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    deployment::Deployment,
    inbox::{Inbox, Window, needed},
    noting::Noting,
    post::{Sorted, sort},
};

/// Left of an invocation when it answers, whatever is not safe then.
const TO_ANSWER: Duration = Duration::from_secs(1);
/// Left of it when messages have been put off, or that is given up.
const TO_LEAVE: Duration = Duration::from_millis(300);

/// More than this over the time in which a child must be ready: the process was frozen, and the child with it.
const FROZEN: Duration = Duration::from_secs(5);

/// Serves invocations until the platform ends the process. Returns only when something is wrong.
pub async fn serve(command: Command, deployment: Deployment) -> Result<(), Box<dyn std::error::Error>> {
    let whole = deployment.timeout()?;
    let Deployment { queues, queue_url, settings } = deployment;
    let clients = Clients::from_env().await;
    let desk = Arc::new(Inbox::default());
    let settings = Settings { gate: desk.gate(), ..settings };
    let queue = Noting { queue: SqsQueue::new(clients.sqs.clone(), queues), desk: desk.clone() };
    // The platform ends the process between invocations, when nothing runs.
    let never = CancellationToken::new();
    // The platform gives a start ten seconds, and a child may need more: whoever comes before it is ready waits at the desk.
    let running = tokio::spawn({
        let desk = desk.clone();
        async move {
            let executor = start(command, &settings).await?;
            tasker_worker::run(desk, Arc::new(queue), executor, settings, never).await;
            Ok::<_, StartError>(())
        }
    });
    let function = Arc::new(Function { mailbox: SqsSource::new(clients.sqs, queue_url), desk, whole });
    let invoked = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let function = function.clone();
        async move { function.invoke(&event.payload, event.context.deadline).await }
    });
    tokio::select! {
        ended = lambda_runtime::run(invoked) => ended.map_err(|error| error.to_string().into()),
        // Whoever is being answered for now is answered for by the platform: all of it comes again.
        ended = running => match ended {
            Ok(Err(error)) => Err(error.into()),
            _ => Err("the worker's loop ended by itself".into()),
        },
    }
}

/// Starts the child. A process that is frozen before its first invocation is thawed when the child's time seems to be over, which
/// says nothing of the child.
async fn start(command: Command, settings: &Settings) -> Result<Executor, StartError> {
    loop {
        let begun = Instant::now();
        match Executor::child(command.clone(), settings).await {
            Err(error) if begun.elapsed() > settings.ready_timeout + FROZEN => {
                tracing::warn!(%error, "this process was frozen while the child started; it is started again");
            }
            started => return started,
        }
    }
}

struct Function {
    mailbox: SqsSource,
    desk: Arc<Inbox>,
    /// What an invocation of this function has, by its settings.
    whole: Duration,
}

impl Function {
    async fn invoke(&self, event: &RawValue, deadline_ms: u64) -> Result<SqsBatchResponse, Diagnostic> {
        let window = self.window(deadline_ms);
        let event: SqsEvent = serde_json::from_str(event.get()).map_err(|e| Diagnostic {
            error_type: "InvocationFailed".into(),
            error_message: format!(
                "this function takes the messages of its pool's queue, and was invoked with something else: {}",
                unquoted(&e)
            ),
        })?;
        let handle = |received: Received| self.handle(received, window);
        let messages = Batch::of(event).messages;
        let begun = Instant::now();
        let (answer, later) = answer(&messages, window.ends.checked_sub(TO_ANSWER).unwrap_or(begun), handle).await;
        // They are not at fault: soon, and later each time, instead of after the whole visibility time-out. What does not go through is no loss.
        let _ = tokio::time::timeout_at(window.ends.checked_sub(TO_LEAVE).unwrap_or(begun), self.mailbox.postpone(&later)).await;
        Ok(answer)
    }

    fn window(&self, deadline_ms: u64) -> Window {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_millis(deadline_ms).saturating_sub(since_epoch);
        Window { ends: Instant::now() + left, whole: self.whole }
    }

    /// A step that would fit into an invocation of this function, and does not into what this one had at its beginning.
    fn cannot_begin(&self, step: &RunStep, window: Window) -> bool {
        let left = window.ends.saturating_duration_since(Instant::now());
        needed(step) > left && needed(step) < self.whole
    }

    /// True once the message may leave the queue.
    async fn handle(&self, received: Received, window: Window) -> bool {
        match sort(&received) {
            // Handed over again at once, it would come again at once, and for ever if this machine's clock is wrong.
            Sorted::Step(step) if self.cannot_begin(&step, window) => {
                tracing::warn!(message_id = received.id, "the invocation began with too little time for a step; it comes again");
                false
            }
            Sorted::Step(step) => match self.desk.put(vec![*step], Some(window)).pop() {
                Some(accepted) => accepted.await.is_ok(),
                None => false,
            },
            Sorted::Dead(reason) => self.mailbox.bury(&received, &reason).await,
            Sorted::Again => false,
        }
    }
}

/// Handles messages beside each other, and answers at `until` with all that are not done with by then; and those of them that are not
/// at fault. A panic is one message's own.
async fn answer<F>(messages: &[Received], until: Instant, handle: impl Fn(Received) -> F) -> (SqsBatchResponse, Vec<&Received>)
where
    F: Future<Output = bool>,
{
    let mut safe = vec![false; messages.len()];
    let mut at_fault = vec![false; messages.len()];
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
            at_fault[place] = true;
            false
        });
    }
    drop(handled);
    let unsafe_ones = || messages.iter().zip(safe.iter().zip(&at_fault)).filter(|(_, (safe, _))| !**safe);
    let again: Vec<&Received> = unsafe_ones().map(|(message, _)| message).collect();
    let later = unsafe_ones().filter(|(_, (_, at_fault))| !**at_fault).map(|(message, _)| message).collect();
    if !again.is_empty() {
        tracing::warn!(messages = again.len(), "messages whose outcome is not safe come again");
    }
    (Batch::answer(again), later)
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
        let answered = answer(&messages, until, |received| async move {
            match received.id.as_str() {
                "panics" => panic!("as planned"),
                "hangs" => std::future::pending().await,
                id => id == "is done",
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
