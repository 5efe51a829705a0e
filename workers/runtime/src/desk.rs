//! The steps that came from a queue of SQS, from the message to the safe outcome. Each hand-over is here once, however many messages
//! bring it, and each message waits for its hand-over's outcome to be accepted. It runs nothing and sends nothing itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tasker_domain::{CompleteStep, Message, Outcome, Outgoing, Queue, RunStep, SendResult, message::HandOver, outcome::Failure};
use tasker_worker::{Deliveries, Gate};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// Seconds that must be left when the handler has used all of its time: to end its process, and to send what came of it.
const ANSWER_SECONDS: u32 = 5;

/// When the process will be frozen.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Until then answers count.
    pub ends: Instant,
    /// The most that an invocation had at its beginning.
    pub longest: Duration,
}

/// What is to be run, and what runs.
#[derive(Default)]
pub struct Desk {
    state: Mutex<State>,
    arrived: Notify,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<RunStep>,
    held: HashMap<HandOver, Held>,
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

impl Desk {
    /// Takes steps in, all at once. Each receiver hears when the outcome of its step was accepted, or is closed when the step is not run
    /// here. A step whose receivers were dropped before it began is forgotten.
    pub fn put(&self, steps: Vec<RunStep>, window: Option<Window>) -> Vec<oneshot::Receiver<()>> {
        let mut state = self.lock();
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
            state.held.remove(&step.hand_over());
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
        let held = state.held.get(&step.hand_over())?;
        let window = held.window?;
        let needed = Duration::from_secs(u64::from(step.timeout_seconds) + u64::from(ANSWER_SECONDS));
        if needed > window.longest {
            return Some(Outcome::Failure(never_fits(step.timeout_seconds, window.longest)));
        }
        let fits = held.is_awaited() && window.ends.saturating_duration_since(now) >= needed;
        (!fits).then_some(Outcome::Released {})
    }

    fn accept(&self, answer: &Answer) {
        let Some(held) = self.lock().held.remove(&answer.hand_over) else { return };
        answer.log(&held.step);
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
        if let Some(held) = self.held.get_mut(&step.hand_over()) {
            held.window = held.window.zip(window).map(|(one, other)| if other.ends > one.ends { other } else { one });
            held.accepted.push(sender);
        } else if !self.closed {
            let held = Held { step: step.step_name.clone(), window, accepted: vec![sender] };
            self.held.insert(step.hand_over(), held);
            self.waiting.push_back(step);
        }
        receiver
    }

    fn demand(&self) -> usize {
        self.places.saturating_sub(self.waiting.len())
    }

    fn take(&mut self, max: usize) -> Vec<RunStep> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(step) = self.waiting.pop_front() else { break };
            let key = step.hand_over();
            if self.held.get(&key).is_some_and(Held::is_awaited) {
                taken.push(step);
            } else {
                self.held.remove(&key);
            }
        }
        taken
    }
}

impl Deliveries for Desk {
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
struct NoPlacesWhenDropped<'a>(&'a Desk);

impl Drop for NoPlacesWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.lock().places = 0;
    }
}

/// The outcome of a step that no invocation of this function could ever finish.
fn never_fits(timeout_seconds: u32, longest: Duration) -> Failure {
    // Cut, not rounded: it must not look as if it fitted.
    let has = (longest.as_secs_f64() * 10.0).floor() / 10.0;
    Failure::permanent(
        "timeout_exceeds_pool",
        format!(
            "the step's timeout_seconds ({timeout_seconds}) and {ANSWER_SECONDS} s for its answer do not fit into the {has} s that an \
             invocation of its pool has; give the step to a pool whose function has a longer time-out, or let its handler \
             checkpoint and have a shorter timeout_seconds"
        ),
    )
}

/// A queue that tells a desk which outcomes it accepted.
pub struct Noting<Q> {
    pub queue: Q,
    pub desk: Arc<Desk>,
}

impl<Q: Queue> Queue for Noting<Q> {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let answers: Vec<Option<Answer>> = messages.iter().map(Answer::of).collect();
        let results = self.queue.send(messages).await;
        for (answer, result) in answers.iter().zip(&results) {
            if let (Some(answer), Ok(())) = (answer, result) {
                self.desk.accept(answer);
            }
        }
        results
    }

    fn send_lease(&self) -> Option<Duration> {
        self.queue.send_lease()
    }
}

/// What is known of an outcome once it is sent.
struct Answer {
    hand_over: HandOver,
    attempt: i32,
    outcome: &'static str,
    duration_ms: u64,
    correlation_id: Option<String>,
    trace_id: Option<String>,
}

impl Answer {
    fn of(outgoing: &Outgoing) -> Option<Self> {
        let Message::CompleteStep(complete) = &outgoing.message else { return None };
        let CompleteStep { attempt, execution_time_ms, correlation_id, traceparent, outcome, .. } = &**complete;
        if matches!(outcome, Outcome::Started {} | Outcome::Heartbeat {}) {
            return None;
        }
        Some(Self {
            hand_over: complete.hand_over(),
            attempt: *attempt,
            outcome: outcome.kind(),
            duration_ms: *execution_time_ms,
            correlation_id: correlation_id.map(|id| id.to_string()),
            trace_id: traceparent.as_deref().and_then(tasker_aws::trace_id).map(str::to_owned),
        })
    }

    fn log(&self, step: &str) {
        let Self { hand_over, attempt, outcome, duration_ms, correlation_id, trace_id } = self;
        let task_id = hand_over.task.to_string();
        tracing::info!(task_id, step, attempt, outcome, correlation_id, trace_id, duration_ms, "step answered");
    }
}
