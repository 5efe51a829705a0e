//! The steps that came from a queue of SQS, from the message to the safe outcome. Each hand-over is here once, however many messages
//! bring it, and each message waits for its hand-over's outcome to be accepted. It runs nothing and sends nothing itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tasker_wire::{Outcome, RunStep, message::Lease, outcome::Failure};
use tasker_worker::{Deliveries, Gate};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// Seconds that must be left when the handler has used all of its time: to end its process, and to send what came of it.
const ANSWER_SECONDS: u32 = 5;
/// What may be gone of an invocation before its steps begin.
const TO_BEGIN: Duration = Duration::from_secs(1);

/// What must be left when a step is begun.
pub fn needed(step: &RunStep) -> Duration {
    Duration::from_secs(u64::from(step.timeout_seconds) + u64::from(ANSWER_SECONDS))
}

/// When the process will be frozen.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Until then answers count.
    pub ends: Instant,
    /// What an invocation of this function has, by its settings.
    pub whole: Duration,
}

/// What is to be run, and what runs.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<RunStep>,
    held: HashMap<Lease, Held>,
    /// Steps that the loop would take now.
    places: usize,
    closed: bool,
}

/// A hand-over whose outcome is not safe yet.
struct Held {
    step: String,
    /// Of those that wait for it, the one that ends last. None: it has all the time that it wants.
    window: Option<Window>,
    /// Of each message that brought it.
    accepted: Vec<oneshot::Sender<()>>,
}

impl Held {
    fn is_awaited(&self) -> bool {
        self.accepted.iter().any(|message| !message.is_closed())
    }
}

impl Inbox {
    /// Takes steps in, all at once. Each receiver hears when the outcome of its step was accepted, or is closed when the step is not run
    /// here. A step whose receivers were dropped before it began is forgotten.
    pub fn put(&self, steps: Vec<RunStep>, window: Option<Window>) -> Vec<oneshot::Receiver<()>> {
        let mut state = self.lock();
        state.forget();
        let receivers = steps.into_iter().map(|step| state.put(step, window)).collect();
        drop(state);
        self.arrived.notify_one();
        receivers
    }

    /// Waits until more steps could be begun than there are, and says how many.
    pub async fn demand(&self) -> usize {
        loop {
            let wanted = self.wanted.notified();
            let count = self.lock().demand();
            if count > 0 {
                return count;
            }
            wanted.await;
        }
    }

    /// No step is begun any more; those that were not are not run here.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for step in std::mem::take(&mut state.waiting) {
            state.held.remove(&step.lease());
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// What has no outcome now will have none here.
    pub fn abandon(&self) {
        self.lock().held.clear();
    }

    /// The gate that keeps steps from being begun which would not be done in time.
    pub fn gate(self: &Arc<Self>) -> Gate {
        let desk = self.clone();
        Gate::new(move |step| desk.refusal(step, Instant::now()))
    }

    fn refusal(&self, step: &RunStep, now: Instant) -> Option<Outcome> {
        let state = self.lock();
        let held = state.held.get(&step.lease())?;
        let window = held.window?;
        let needed = needed(step);
        if needed + TO_BEGIN > window.whole {
            return Some(Outcome::Failure(never_fits(step.timeout_seconds, window.whole)));
        }
        let fits = held.is_awaited() && window.ends.saturating_duration_since(now) >= needed;
        (!fits).then_some(Outcome::Released {})
    }

    /// The outcome of a hand-over is safe: `tell` hears the step's name, and then all messages that brought it are answered.
    pub fn accept(&self, hand_over: Lease, tell: impl FnOnce(&str)) {
        let Some(held) = self.lock().held.remove(&hand_over) else { return };
        // First, for once its messages are answered this process may be frozen.
        tell(&held.step);
        for message in held.accepted {
            // Whose invocation is over has answered without it.
            let _ = message.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, step: RunStep, window: Option<Window>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if let Some(held) = self.held.get_mut(&step.lease()) {
            held.window = held.window.zip(window).map(|(one, other)| if other.ends > one.ends { other } else { one });
            held.accepted.retain(|message| !message.is_closed());
            held.accepted.push(sender);
        } else if !self.closed {
            let held = Held { step: step.step_name.clone(), window, accepted: vec![sender] };
            self.held.insert(step.lease(), held);
            self.waiting.push_back(step);
        }
        receiver
    }

    fn demand(&self) -> usize {
        self.places.saturating_sub(self.waiting.len())
    }

    fn take(&mut self, max: usize) -> Vec<RunStep> {
        self.forget();
        let count = self.waiting.len().min(max);
        self.waiting.drain(..count).collect()
    }

    /// What nobody waits for and was not begun comes again with its message.
    fn forget(&mut self) {
        let Self { waiting, held, .. } = self;
        waiting.retain(|step| {
            let key = step.lease();
            let awaited = held.get(&key).is_some_and(Held::is_awaited);
            if !awaited {
                held.remove(&key);
            }
            awaited
        });
    }
}

impl Deliveries for Inbox {
    async fn receive(&self, max: usize) -> Vec<RunStep> {
        let _end = NoPlacesWhenDropped(self);
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.lock();
                let taken = state.take(max);
                if !taken.is_empty() || state.closed {
                    return taken;
                }
                state.places = max;
            }
            self.wanted.notify_one();
            arrived.await;
        }
    }
}

/// Nobody who does not wait for steps has places for them.
struct NoPlacesWhenDropped<'a>(&'a Inbox);

impl Drop for NoPlacesWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.lock().places = 0;
    }
}

/// The outcome of a step that no invocation of this function could ever finish.
fn never_fits(timeout_seconds: u32, whole: Duration) -> Failure {
    let has = whole.as_secs();
    Failure::permanent(
        "timeout_exceeds_pool",
        format!(
            "the step's timeout_seconds ({timeout_seconds}) and 6 s to begin and to answer do not fit into the {has} s that an \
             invocation of its pool has; give the step to a pool whose function has a longer time-out, or let its handler \
             checkpoint and have a shorter timeout_seconds"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_MINUTE: Duration = Duration::from_secs(60);

    /// A step that has so many seconds.
    fn step(no: i32, timeout_seconds: u32) -> RunStep {
        let id = tasker_wire::TaskId::from_fresh(uuid::Uuid::nil()).step(no);
        let message = serde_json::json!({
            "v": 1, "task_id": id.task, "step_id": id, "step_name": "s", "lease": 1, "attempt": 1, "max_attempts": 3, "token": "t",
            "timeout_seconds": timeout_seconds, "correlation_id": uuid::Uuid::nil(), "namespace": "default",
            "handler": {"callable": "c"}, "context": {}, "dependency_results": {},
        });
        serde_json::from_str(&message.to_string()).unwrap()
    }

    fn kind(outcome: Option<Outcome>) -> Option<&'static str> {
        outcome.map(|outcome| outcome.kind())
    }

    #[test]
    fn a_step_begins_with_its_time_and_five_seconds_left_and_not_with_less() {
        let (desk, now) = (Inbox::default(), Instant::now());
        let window = Window { ends: now + Duration::from_secs(35), whole: A_MINUTE };
        let _wait = desk.put(vec![step(0, 30), step(1, 31), step(2, 55)], Some(window));
        let refusal = |step, after| kind(desk.refusal(&step, now + after));
        assert_eq!(refusal(step(0, 30), Duration::ZERO), None);
        assert_eq!(refusal(step(0, 30), Duration::from_millis(1)), Some("released"));
        assert_eq!(refusal(step(1, 31), Duration::ZERO), Some("released"));
        assert_eq!(refusal(step(2, 55), Duration::ZERO), Some("failure"), "no invocation has so much");
    }

    #[test]
    fn a_step_that_polling_brought_has_all_the_time_that_it_wants() {
        let desk = Inbox::default();
        let _wait = desk.put(vec![step(0, 86_400)], None);
        assert_eq!(kind(desk.refusal(&step(0, 86_400), Instant::now() + A_MINUTE)), None);
    }

    #[test]
    fn a_step_whose_invocation_is_over_is_not_begun_even_if_its_clock_stood_still() {
        let (desk, now) = (Inbox::default(), Instant::now());
        let window = Window { ends: now + A_MINUTE, whole: A_MINUTE };
        drop(desk.put(vec![step(0, 30)], Some(window)));
        assert_eq!(kind(desk.refusal(&step(0, 30), now)), Some("released"));
        let _again = desk.put(vec![step(0, 30)], Some(window));
        assert_eq!(kind(desk.refusal(&step(0, 30), now)), None);
    }

    #[tokio::test]
    async fn what_waits_for_an_invocation_that_is_over_is_forgotten() {
        let desk = Inbox::default();
        drop(desk.put(vec![step(0, 30)], None));
        let _wait = desk.put(vec![step(1, 30)], None);
        assert_eq!(desk.receive(10).await.iter().map(|step| step.step_id.no).collect::<Vec<_>>(), [1]);
        assert_eq!(desk.lock().held.len(), 1);
    }

    #[test]
    fn closing_gives_up_what_was_not_begun_and_keeps_what_was() {
        let desk = Inbox::default();
        let mut begun = desk.put(vec![step(0, 30)], None);
        assert_eq!(desk.lock().take(1).len(), 1);
        let mut waiting = desk.put(vec![step(1, 30)], None);
        desk.close();
        assert_eq!(waiting[0].try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(begun[0].try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(desk.put(vec![step(2, 30)], None)[0].try_recv(), Err(oneshot::error::TryRecvError::Closed), "too late");
    }
}
