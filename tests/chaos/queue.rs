//! A queue outside the process, on a clock that the driver moves: it drops, doubles, delays, reorders and refuses.
//!
//! A hash of the seed, the message and the number of its sends decides what the queue does with it, so the order of messages has
//! no influence.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tasker_queue::{Outgoing, Queue, SendError, SendResult};
use tasker_wire::{RunStep, StepId, TaskId};
use tokio_util::sync::CancellationToken;

use crate::{
    faults::{Fault, Faults},
    hash::hash,
    journal::Journal,
    sends::Sends,
};

/// Messages arrive, and the clock moves, on multiples of this. The jitter of backoff depends on the ids of tasks, which differ
/// from run to run, and is smaller.
pub const GRID_MS: u64 = 200;

/// The queue. It outlives the processes that use it.
pub struct Timed {
    seed: u64,
    faults: Arc<Faults>,
    /// Every message, in the order of arrival, and what the queue did with it.
    pub journal: Journal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now_ms: u64,
    /// The database's clock, which may be ahead of the last delivery.
    clock_ms: u64,
    sends: Sends,
    /// By time of delivery, then by a hash.
    waiting: BTreeMap<(u64, u64, u64), Outgoing>,
    sent: HashMap<u64, u64>,
    serial: u64,
    /// The position of a task in its seed. Ids differ from run to run.
    places: HashMap<TaskId, usize>,
}

/// The queue as one process sees it.
pub struct Wire {
    pub queue: Arc<Timed>,
    /// The process dies at its next send.
    pub kill: Arc<AtomicBool>,
    pub killed: CancellationToken,
    /// The seed has ended: calls of killed processes may return.
    pub over: CancellationToken,
}

/// What is due, in the order of delivery.
pub type Due = Vec<Outgoing>;

impl Timed {
    pub fn new(seed: u64, now_ms: u64, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self {
            seed,
            faults,
            journal: Journal::default(),
            state: Mutex::new(State { now_ms, clock_ms: now_ms, ..State::default() }),
        })
    }

    /// Moves the queue's clock and takes what is due.
    pub fn due(&self, now_ms: u64) -> Due {
        let mut state = self.state.lock();
        state.now_ms = now_ms;
        let later = state.waiting.split_off(&(now_ms + 1, 0, 0));
        std::mem::replace(&mut state.waiting, later).into_values().collect()
    }

    /// The database's clock was moved.
    pub fn set_clock(&self, ms: u64) {
        self.state.lock().clock_ms = ms;
    }

    /// A call has ended. `noted`: the database knows of everything that it sent.
    pub fn called(&self, noted: bool) {
        self.state.lock().sends.called(noted);
    }

    /// Fails if something was sent too early.
    pub fn check_sends(&self) -> Result<()> {
        match self.state.lock().sends.wrong() {
            Some(wrong) => bail!("{wrong}"),
            None => Ok(()),
        }
    }

    /// When the next message is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.state.lock().waiting.keys().next().map(|(at, ..)| *at)
    }

    /// The position of a task in its seed.
    pub fn place(&self, task: TaskId) -> Option<usize> {
        self.state.lock().places.get(&task).copied()
    }

    /// Puts back a message that was taken and not acknowledged; never fails.
    pub fn put_back(&self, message: Outgoing, after_ms: u64) {
        let mut state = self.state.lock();
        let at = state.now_ms + after_ms;
        state.put(at, 0, message);
    }

    /// Carries a message, or injects a fault.
    pub fn carry(&self, message: Outgoing, after: Duration) {
        let mut state = self.state.lock();
        let at = state.now_ms + after.as_millis() as u64;
        let h = self.draw(&mut state, &message);
        let said = say(&state, &message);
        let note = |fault| {
            self.journal.note(format!("{said}: {fault:?}"));
            self.faults.note(fault);
        };
        self.journal.note(said.clone());
        let wakes = matches!(message, Outgoing::Evaluate { .. });
        match if self.faults.enough() { 999 } else { h % 1000 } {
            0..300 if wakes => {
                note(Fault::Early);
                let now_ms = state.now_ms;
                state.put(now_ms, h, message);
            }
            0..40 => note(Fault::Dropped),
            40..90 => {
                note(Fault::Doubled);
                state.put(at, h, message.clone());
                state.put(at + h / 1000 % 5_000, h, message);
            }
            90..120 => {
                note(Fault::Delayed);
                state.put(at + 60_000 + h / 1000 % 1_200_000, h, message);
            }
            120..200 => {
                note(Fault::Reordered);
                state.put(at + h / 1000 % 2_000, h, message);
            }
            _ => state.put(at + h / 1000 % 20, h, message),
        }
    }

    fn note_refused(&self, message: &Outgoing, fault: Fault) {
        self.journal.note(format!("{}: {fault:?}", say(&self.state.lock(), message)));
        self.faults.note(fault);
    }

    fn note_send(&self, run: &RunStep, taken: bool) {
        let mut state = self.state.lock();
        let at_ms = state.clock_ms;
        state.sends.send(at_ms, run.lease(), run.resend.max(0) as u32, taken);
    }

    /// Whether it refuses a message, and whether it still delivers it.
    fn refuses(&self, message: &Outgoing) -> Option<Fault> {
        let mut state = self.state.lock();
        let h = hash(&[self.draw(&mut state, message), 3]);
        let refuses = !self.faults.enough() && h.is_multiple_of(30);
        refuses.then_some(if (h / 30).is_multiple_of(2) { Fault::Refused } else { Fault::RefusedAndDelivered })
    }

    /// A number that depends only on the seed, the message and the number of its sends.
    fn draw(&self, state: &mut State, message: &Outgoing) -> u64 {
        let key = match message {
            Outgoing::RunStep { step: run, .. } => {
                if let Some(place) = place_of(run.context.get()) {
                    state.places.insert(run.task_id, place);
                }
                state.key(1, run.step_id, run.lease)
            }
            Outgoing::CompleteStep(done) => state.key(2, done.step_id, done.lease),
            Outgoing::Evaluate { wake_up: evaluate, .. } => state.key(3, evaluate.step_id, evaluate.lease),
        };
        let times = state.sent.entry(key).or_default();
        *times += 1;
        hash(&[self.seed, key, *times])
    }
}

impl State {
    fn key(&self, kind: u64, step: StepId, lease: i32) -> u64 {
        let place = self.places.get(&step.task).copied().unwrap_or(usize::MAX);
        hash(&[kind, place as u64, step.no as u64, lease as u64])
    }

    fn put(&mut self, at: u64, order: u64, message: Outgoing) {
        self.serial += 1;
        self.waiting.insert((at.next_multiple_of(GRID_MS), order, self.serial), message);
    }
}

/// A message without its ids, which differ from run to run.
fn say(state: &State, message: &Outgoing) -> String {
    let (kind, step, lease, more) = match message {
        Outgoing::RunStep { step: run, .. } => ("run", run.step_id, run.lease, (run.attempt, run.resend)),
        Outgoing::CompleteStep(done) => ("complete", done.step_id, done.lease, (done.attempt, 0)),
        Outgoing::Evaluate { wake_up: evaluate, .. } => ("evaluate", evaluate.step_id, evaluate.lease, (0, 0)),
    };
    format!("{} {kind} {:?}/{} lease {lease} {more:?}", state.clock_ms, state.places.get(&step.task), step.no)
}

/// The position that the context of a task names.
pub fn place_of(context: &str) -> Option<usize> {
    serde_json::from_str::<serde_json::Value>(context).ok()?["place"].as_u64().map(|p| p as usize)
}

impl Queue for Wire {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        if self.kill.swap(false, SeqCst) {
            self.queue.faults.note(Fault::KilledBeforeSend);
            self.killed.cancel();
            self.over.cancelled().await;
        }
        if self.killed.is_cancelled() {
            return messages.iter().map(|_| Err(SendError::Refused("this process is dead".into()))).collect();
        }
        let mark = self.queue.journal.lines();
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let delay = if let Outgoing::Evaluate { delay, .. } = &message { *delay } else { Duration::ZERO };
            let refused = self.queue.refuses(&message);
            if let Some(fault) = refused {
                self.queue.note_refused(&message, fault);
            }
            if let Outgoing::RunStep { step: run, .. } = &message {
                self.queue.note_send(run, refused.is_none());
            }
            if refused != Some(Fault::Refused) {
                self.queue.carry(message, delay);
            }
            results.push(if refused.is_some() { Err(SendError::Refused("not now".into())) } else { Ok(()) });
        }
        self.queue.journal.sort_since(mark);
        results
    }
}
