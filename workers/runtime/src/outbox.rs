//! Outcomes on their way to the queue. What the queue refuses is offered again, with growing pauses, until it is accepted: an
//! outcome lost here would cost a second run. It holds no more answers than the worker holds steps, because a step keeps its place
//! until its outcome is accepted.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tasker_queue::{Outgoing, Queue, SendError, SendResult};
use tasker_wire::{CompleteStep, Outcome, limits, outcome::Failure};
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is to be sent, what is being sent, and what was refused.
pub(crate) struct Outbox<Q> {
    queue: Arc<Q>,
    fresh: Vec<Unsent>,
    refused: Vec<Unsent>,
    sending: Option<BoxFuture<'static, Vec<(Unsent, SendResult)>>>,
    pause: Duration,
    offer_again: Instant,
    /// The last send brought nothing through, so fresh outcomes wait too.
    down: bool,
}

/// When there is something to send.
enum Due {
    Now,
    At(Instant),
    Never,
}

struct Unsent {
    message: Arc<CompleteStep>,
    answer: bool,
}

impl Unsent {
    /// It already says that the outcome was too large: nothing smaller can be said.
    fn is_small(&self) -> bool {
        matches!(&self.message.outcome, Outcome::Failure(failure) if failure.error_type == TOO_LARGE)
    }

    /// A failure in place of an outcome that the queue cannot carry.
    fn replaced(mut self, error: &SendError) -> Self {
        let message =
            format!("what the handler answered cannot be sent: {error}. Store large data elsewhere and return a reference");
        Arc::make_mut(&mut self.message).outcome = Outcome::Failure(Failure::permanent(TOO_LARGE, message));
        self
    }
}

const TOO_LARGE: &str = "result_too_large";

impl<Q: Queue> Outbox<Q> {
    pub fn new(queue: Arc<Q>) -> Self {
        let now = Instant::now();
        Self { queue, fresh: vec![], refused: vec![], sending: None, pause: FIRST_PAUSE, offer_again: now, down: false }
    }

    /// Takes the outcome of a step. It is sent with whatever else waits by then.
    pub fn put_answer(&mut self, message: CompleteStep) {
        self.fresh.push(Unsent { message: Arc::new(message), answer: true });
    }

    /// Takes a start report or heartbeat. It is offered once: a later one says the same.
    pub fn put_report(&mut self, message: CompleteStep) {
        if !self.down {
            self.fresh.push(Unsent { message: Arc::new(message), answer: false });
        }
    }

    /// Sends what there is, and returns the answers that the queue accepted. Waits for ever when there is nothing to send.
    /// Dropping the future loses nothing: the send goes on with the next call.
    pub async fn deliver(&mut self) -> Vec<Arc<CompleteStep>> {
        if self.sending.is_none() {
            match self.due() {
                Due::Now => {}
                Due::At(instant) => tokio::time::sleep_until(instant).await,
                Due::Never => std::future::pending().await,
            }
            self.begin();
        }
        let Some(sending) = &mut self.sending else { return std::future::pending().await };
        let results = sending.await;
        self.sending = None;
        self.sort(results)
    }

    fn due(&self) -> Due {
        if !self.fresh.is_empty() && !self.down {
            return Due::Now;
        }
        if self.refused.is_empty() { Due::Never } else { Due::At(self.offer_again) }
    }

    fn begin(&mut self) {
        let due = Instant::now() >= self.offer_again;
        let mut unsent = if due { std::mem::take(&mut self.refused) } else { Vec::new() };
        unsent.append(&mut self.fresh);
        // The rest goes with the next send.
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
                Err(error @ SendError::TooLarge { .. }) if unsent.answer && !unsent.is_small() => {
                    self.fresh.push(unsent.replaced(&error));
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
                tracing::warn!(waiting = self.refused.len(), "{why}; outcomes wait and are offered again");
            }
            self.offer_again = Instant::now() + self.pause;
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

    /// Carries failures, and nothing that is larger.
    #[derive(Default)]
    struct Small(Mutex<Vec<Arc<CompleteStep>>>);

    impl Queue for Small {
        async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
            let take = |outgoing: Outgoing| match outgoing {
                Outgoing::CompleteStep(m) if matches!(m.outcome, Outcome::Failure(_)) => {
                    self.0.lock().push(m);
                    Ok(())
                }
                _ => Err(SendError::TooLarge { bytes: 2_000_000, most: 1_048_576 }),
            };
            messages.into_iter().map(take).collect()
        }
    }

    #[tokio::test]
    async fn an_outcome_that_the_queue_cannot_carry_is_a_failure_that_says_so() {
        let queue = Arc::new(Small::default());
        let mut outbox = Outbox::new(queue.clone());
        let success = Outcome::Success { result: to_raw_value("large").unwrap(), metadata: None };
        outbox.put_answer(
            step(StepId { task: TaskId::from_fresh(Uuid::from_u128(1 << 90)), no: 0 }, "f").complete(success, "w", 1),
        );
        assert!(outbox.deliver().await.is_empty(), "it is not safe yet");
        assert_eq!(outbox.deliver().await.len(), 1);
        let sent = queue.0.lock();
        let Outcome::Failure(failure) = &sent[0].outcome else { panic!("a failure") };
        assert!(failure.error_type == TOO_LARGE && !failure.retryable, "{failure:?}");
        assert!(failure.message.contains("2000000") && failure.message.contains("1048576"), "{failure:?}");
    }
}
