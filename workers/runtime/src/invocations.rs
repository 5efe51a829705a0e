//! The steps of a function's invocations, as a source for the worker's loop. Several messages with the same lease are delivered once.
//! Each invocation waits until the outcomes of its messages are accepted. This is also the function's gate: a step does not start if
//! its invocation has too little time left.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tasker_queue::{Delivery, Disposition, Receipt, Source};
use tasker_wire::{Outcome, RunStep, outcome::Failure};
use tasker_worker::Gate;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::inbox::receipt_of;

/// Seconds that must be left after the step's timeout: to end its process, and to send its outcome.
const ANSWER_SECONDS: u32 = 5;
/// The time from the start of an invocation to the start of its steps.
const TO_BEGIN: Duration = Duration::from_secs(1);

/// The time that must be left when a step starts.
fn needed(step: &RunStep) -> Duration {
    Duration::from_secs(u64::from(step.timeout_seconds) + u64::from(ANSWER_SECONDS))
}

pub struct Invocations {
    /// The timeout of the function.
    timeout: Duration,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<RunStep>,
    /// The steps whose outcome is not accepted yet, by receipt.
    held: HashMap<Receipt, Held>,
}

struct Held {
    /// The end of the last invocation that waits for the step.
    ends: Instant,
    /// One per message that brought the step.
    messages: Vec<oneshot::Sender<Disposition>>,
}

impl Held {
    fn is_awaited(&self) -> bool {
        self.messages.iter().any(|message| !message.is_closed())
    }
}

impl Invocations {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, state: Mutex::default(), arrived: Notify::new() }
    }

    /// Whether a step fits into a whole invocation, but not into what is left of this one.
    pub fn began_too_late(&self, step: &RunStep, ends: Instant) -> bool {
        let left = ends.saturating_duration_since(Instant::now());
        needed(step) > left && needed(step) < self.timeout
    }

    /// Takes a step of an invocation that ends at `ends`. The receiver gets the disposition of its message, which is `Done` once its
    /// outcome is accepted. A step whose receivers are dropped before it starts is removed.
    pub fn put(&self, step: RunStep, ends: Instant) -> oneshot::Receiver<Disposition> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        state.remove_abandoned();
        let receipt = receipt_of(step.lease());
        if let Some(held) = state.held.get_mut(&receipt) {
            held.ends = held.ends.max(ends);
            held.messages.retain(|message| !message.is_closed());
            held.messages.push(sender);
        } else {
            state.held.insert(receipt, Held { ends, messages: vec![sender] });
            state.waiting.push_back(step);
        }
        drop(state);
        self.arrived.notify_one();
        receiver
    }

    fn refusal_at(&self, now: Instant, step: &RunStep) -> Option<Outcome> {
        let state = self.state.lock();
        let held = state.held.get(&receipt_of(step.lease()))?;
        let needed = needed(step);
        if needed + TO_BEGIN > self.timeout {
            return Some(Outcome::Failure(never_fits(step.timeout_seconds, self.timeout)));
        }
        let fits = held.is_awaited() && held.ends.saturating_duration_since(now) >= needed;
        (!fits).then_some(Outcome::Released {})
    }
}

impl State {
    fn take(&mut self, max: usize) -> Vec<Delivery<RunStep>> {
        self.remove_abandoned();
        let count = self.waiting.len().min(max);
        let delivery = |step: RunStep| Delivery { receipt: receipt_of(step.lease()), message: Ok(step) };
        self.waiting.drain(..count).map(delivery).collect()
    }

    /// Removes waiting steps whose invocations have ended. Their messages are delivered again.
    fn remove_abandoned(&mut self) {
        let Self { waiting, held } = self;
        waiting.retain(|step| {
            let receipt = receipt_of(step.lease());
            let awaited = held.get(&receipt).is_some_and(Held::is_awaited);
            if !awaited {
                held.remove(&receipt);
            }
            awaited
        });
    }
}

impl Gate for Invocations {
    fn refusal<'a>(&'a self, step: &'a RunStep) -> BoxFuture<'a, Option<Outcome>> {
        std::future::ready(self.refusal_at(Instant::now(), step)).boxed()
    }
}

impl Source for Invocations {
    type Message = RunStep;

    async fn receive(&self, max: usize) -> Vec<Delivery<RunStep>> {
        loop {
            let taken = self.state.lock().take(max);
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        for (receipt, disposition) in settled {
            let held = self.state.lock().held.remove(&receipt);
            for message in held.into_iter().flat_map(|held| held.messages) {
                // The invocation may have ended and responded without this message.
                let _ = message.send(disposition.clone());
            }
        }
    }

    /// A returned step is delivered again by its queue. A longer time is not needed: the visibility timeout exceeds an invocation's.
    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        if time.is_zero() {
            self.settle(deliveries.iter().map(|receipt| (receipt.clone(), Disposition::RetryLater)).collect()).await;
        }
    }
}

/// The failure of a step that no invocation of this function can finish.
fn never_fits(timeout_seconds: u32, timeout: Duration) -> Failure {
    let has = timeout.as_secs();
    Failure::permanent(
        "timeout_exceeds_pool",
        format!(
            "the step's timeout_seconds ({timeout_seconds}) plus 6 s to start and answer do not fit into the {has} s of an invocation \
             of its pool; assign the step to a pool whose function has a longer timeout, or let its handler checkpoint and shorten \
             timeout_seconds"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_MINUTE: Duration = Duration::from_secs(60);

    /// A step that has so many seconds.
    fn step(no: i32, timeout_seconds: u32) -> RunStep {
        let step = crate::testing::step(tasker_wire::TaskId::from_fresh(uuid::Uuid::nil()).step(no), "s");
        RunStep { timeout_seconds, ..step }
    }

    fn kind(outcome: Option<Outcome>) -> Option<&'static str> {
        outcome.map(|outcome| outcome.kind())
    }

    fn numbers(deliveries: Vec<Delivery<RunStep>>) -> Vec<i32> {
        deliveries.into_iter().map(|delivery| delivery.message.unwrap().step_id.no).collect()
    }

    #[test]
    fn a_step_begins_with_its_time_and_five_seconds_left_and_not_with_less() {
        let (invocations, now) = (Invocations::new(A_MINUTE), Instant::now());
        let steps = [step(0, 30), step(1, 31), step(2, 55)];
        let _waiting = steps.map(|step| invocations.put(step, now + Duration::from_secs(35)));
        let refusal = |step, after| kind(invocations.refusal_at(now + after, &step));
        assert_eq!(refusal(step(0, 30), Duration::ZERO), None);
        assert_eq!(refusal(step(0, 30), Duration::from_millis(1)), Some("released"));
        assert_eq!(refusal(step(1, 31), Duration::ZERO), Some("released"));
        assert_eq!(refusal(step(2, 55), Duration::ZERO), Some("failure"), "no invocation has so much");
    }

    #[test]
    fn a_step_whose_invocation_is_over_is_not_begun_even_if_its_clock_stood_still() {
        let (invocations, now) = (Invocations::new(A_MINUTE), Instant::now());
        drop(invocations.put(step(0, 30), now + A_MINUTE));
        assert_eq!(kind(invocations.refusal_at(now, &step(0, 30))), Some("released"));
        let _again = invocations.put(step(0, 30), now + A_MINUTE);
        assert_eq!(kind(invocations.refusal_at(now, &step(0, 30))), None);
    }

    #[tokio::test]
    async fn steps_that_wait_for_an_ended_invocation_are_removed() {
        let (invocations, ends) = (Invocations::new(A_MINUTE), Instant::now() + A_MINUTE);
        drop(invocations.put(step(0, 30), ends));
        let _waiting = invocations.put(step(1, 30), ends);
        assert_eq!(numbers(invocations.receive(10).await), [1]);
        assert_eq!(invocations.state.lock().held.len(), 1);
    }

    #[tokio::test]
    async fn a_dispatch_that_two_messages_bring_is_delivered_once_and_answers_both() {
        let (invocations, ends) = (Invocations::new(A_MINUTE), Instant::now() + A_MINUTE);
        let first = invocations.put(step(0, 30), ends);
        let taken = invocations.receive(10).await;
        let second = invocations.put(step(0, 30), ends);
        assert!(invocations.state.lock().waiting.is_empty());
        invocations.settle(taken.into_iter().map(|delivery| (delivery.receipt, Disposition::Done)).collect()).await;
        assert_eq!((first.await, second.await), (Ok(Disposition::Done), Ok(Disposition::Done)));
    }

    #[tokio::test]
    async fn a_step_that_is_returned_or_dead_is_not_acknowledged_as_done() {
        let (invocations, ends) = (Invocations::new(A_MINUTE), Instant::now() + A_MINUTE);
        let waiting = [0, 1, 2].map(|no| invocations.put(step(no, 30), ends));
        let [returned, later, dead] = invocations.receive(10).await.try_into().unwrap_or_else(|_| panic!("three steps"));
        invocations.extend(&[returned.receipt], Duration::ZERO).await;
        let is_dead = Disposition::Dead("no".into());
        invocations.settle(vec![(later.receipt, Disposition::RetryLater), (dead.receipt, is_dead.clone())]).await;
        let told = futures::future::join_all(waiting).await;
        assert_eq!(told, [Ok(Disposition::RetryLater), Ok(Disposition::RetryLater), Ok(is_dead)]);
    }
}
