//! Sends outcomes to the queue. Those that the queue refuses are sent again, with growing pauses, until they are accepted: a lost
//! outcome would cost a second run. The outbox holds no more outcomes than the worker holds steps, because a step keeps its place until
//! its outcome is accepted.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde_json::json;
use tasker_queue::{Outgoing, Queue, SendError, SendResult};
use tasker_wire::{CompleteStep, Outcome, limits, outcome::Failure};
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Outcomes that are new, being sent, or refused.
pub(crate) struct Outbox<Q> {
    queue: Arc<Q>,
    fresh: Vec<Unsent>,
    refused: Vec<Unsent>,
    sending: Option<BoxFuture<'static, Vec<(Unsent, SendResult)>>>,
    pause: Duration,
    retry_at: Instant,
    /// The queue refused the whole last send, so new outcomes wait too.
    down: bool,
}

struct Unsent {
    message: Arc<CompleteStep>,
    /// Whether it ends the step.
    answer: bool,
    /// Whether it was too large for the queue and is cut: nothing smaller is possible.
    cut: bool,
}

impl Unsent {
    /// The same, small enough for the queue: a failure without its context, and a failure that says so instead of anything else.
    fn cut(mut self, error: &SendError) -> Self {
        self.cut = true;
        let outcome = &mut Arc::make_mut(&mut self.message).outcome;
        *outcome = match std::mem::replace(outcome, Outcome::Released {}) {
            Outcome::Failure(failure) => {
                let context =
                    failure.context.is_some().then(|| json!({ "left_out": format!("a context that cannot be sent: {error}") }));
                Outcome::Failure(Failure { context, ..failure }.kept())
            }
            _ => {
                let message =
                    format!("the handler's outcome cannot be sent: {error}. Store large data elsewhere and return a reference");
                Outcome::Failure(Failure::permanent(TOO_LARGE, message))
            }
        };
        self
    }
}

const TOO_LARGE: &str = "result_too_large";

impl<Q: Queue> Outbox<Q> {
    pub fn new(queue: Arc<Q>) -> Self {
        let now = Instant::now();
        Self { queue, fresh: vec![], refused: vec![], sending: None, pause: FIRST_PAUSE, retry_at: now, down: false }
    }

    /// Takes a message for the queue. A start report or heartbeat is sent only once, because a later one replaces it.
    pub fn put(&mut self, message: CompleteStep) {
        let answer = !matches!(message.outcome, Outcome::Started {} | Outcome::Heartbeat {});
        if answer || !self.down {
            self.fresh.push(Unsent { message: Arc::new(message), answer, cut: false });
        }
    }

    /// Sends what waits, and returns the outcomes that the queue accepted. Waits indefinitely if there is nothing to send. Dropping the
    /// future loses nothing: the next call continues the send.
    pub async fn deliver(&mut self) -> Vec<Arc<CompleteStep>> {
        if self.sending.is_none() {
            let must_wait = self.fresh.is_empty() || self.down;
            if must_wait && self.refused.is_empty() {
                return std::future::pending().await;
            }
            if must_wait {
                tokio::time::sleep_until(self.retry_at).await;
            }
            self.begin();
        }
        let Some(sending) = &mut self.sending else { return std::future::pending().await };
        let results = sending.await;
        self.sending = None;
        self.sort(results)
    }

    fn begin(&mut self) {
        let due = Instant::now() >= self.retry_at;
        let mut unsent = if due { std::mem::take(&mut self.refused) } else { Vec::new() };
        unsent.append(&mut self.fresh);
        // The next send takes the rest.
        if unsent.len() > limits::COMPLETION_BATCH {
            self.fresh = unsent.split_off(limits::COMPLETION_BATCH);
        }
        let queue = self.queue.clone();
        self.sending = Some(Box::pin(async move {
            let outgoing = unsent.iter().map(|unsent| Outgoing::CompleteStep(unsent.message.clone()));
            let results = queue.send(outgoing.collect()).await;
            unsent.into_iter().zip(results).collect()
        }));
    }

    fn sort(&mut self, results: Vec<(Unsent, SendResult)>) -> Vec<Arc<CompleteStep>> {
        let sent = results.len();
        let mut refusals = 0;
        let mut accepted = Vec::new();
        let mut why = None;
        for (unsent, result) in results {
            match result {
                Ok(()) if unsent.answer => accepted.push(unsent.message),
                Ok(()) => {}
                Err(error @ SendError::TooLarge { .. }) if unsent.answer && !unsent.cut => {
                    self.fresh.push(unsent.cut(&error));
                }
                Err(error) => {
                    refusals += 1;
                    why = Some(error);
                    if unsent.answer {
                        self.refused.push(unsent);
                    }
                }
            }
        }
        let was_down = std::mem::replace(&mut self.down, sent > 0 && refusals == sent && !self.refused.is_empty());
        if let Some(why) = why {
            if self.down && !was_down {
                tracing::warn!(waiting = self.refused.len(), "{why}; outcomes wait and are sent again");
            }
            self.retry_at = Instant::now() + self.pause;
            self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        } else if self.refused.is_empty() {
            self.pause = FIRST_PAUSE;
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::value::to_raw_value;
    use tasker_wire::{StepId, TaskId};
    use uuid::Uuid;

    use super::*;
    use crate::testing::step;

    /// Accepts messages of up to 1 MiB, as SQS does.
    #[derive(Default)]
    struct Small(Mutex<Vec<Arc<CompleteStep>>>);

    const MOST: usize = 1_048_576;

    impl Queue for Small {
        async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
            let take = |outgoing: Outgoing| {
                let Outgoing::CompleteStep(message) = outgoing else { panic!("a worker sends outcomes only") };
                let bytes = serde_json::to_string(&message).unwrap().len();
                if bytes > MOST {
                    return Err(SendError::TooLarge { bytes, most: MOST });
                }
                self.0.lock().push(message);
                Ok(())
            };
            messages.into_iter().map(take).collect()
        }
    }

    /// The failure that the queue accepts in place of an outcome that is too large.
    async fn accepted_for(outcome: Outcome) -> Failure {
        let queue = Arc::new(Small::default());
        let mut outbox = Outbox::new(queue.clone());
        outbox.put(step(StepId { task: TaskId::from_fresh(Uuid::from_u128(1 << 90)), no: 0 }, "f").complete(outcome, "w", 1));
        assert!(outbox.deliver().await.is_empty(), "it is not accepted yet");
        assert_eq!(outbox.deliver().await.len(), 1);
        let sent = queue.0.lock();
        let Outcome::Failure(failure) = &sent[0].outcome else { panic!("a failure") };
        failure.clone()
    }

    #[tokio::test]
    async fn a_result_that_is_too_large_for_the_queue_becomes_a_failure_that_says_so() {
        let success = Outcome::success(to_raw_value(&"x".repeat(2_000_000)).unwrap(), None);
        let failure = accepted_for(success).await;
        assert!(failure.error_type == TOO_LARGE && !failure.retryable, "{failure:?}");
        assert!(failure.message.contains("of 2000") && failure.message.contains("1048576"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_failure_that_is_too_large_for_the_queue_is_cut_and_stays_the_failure_that_it_is() {
        for retryable in [true, false] {
            let large = Failure {
                error_code: Some("card".into()),
                delay_seconds: Some(2.0),
                retryable,
                context: Some(json!("x".repeat(2_000_000))),
                ..Failure::permanent("my_type", "declined ".repeat(200_000))
            };
            let failure = accepted_for(Outcome::Failure(large.clone())).await;
            assert!(failure.message.starts_with("declined declined ") && failure.message.chars().count() == limits::ERROR_CHARS);
            assert!(failure.context.as_ref().unwrap()["left_out"].as_str().unwrap().contains("1048576"), "{failure:?}");
            let cut = Failure { message: large.message.clone(), context: large.context.clone(), ..failure };
            assert_eq!(cut, large);
        }
    }
}
