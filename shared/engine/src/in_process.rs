//! The queue inside one process: it lives and dies with it, and writes nothing.
//!
//! It keeps the key of every hand-over that is waiting or being worked on, which are also its claims: a message that is here
//! already is not taken twice. Bodies it keeps only up to a bound of memory; the engine loads the others when their turn comes.
//! What it forgets when the process dies stands in the database, and `recover` brings it back.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tasker_queue::{Outgoing, Queue, SendResult};
use tasker_wire::{CompleteStep, Evaluate, RunStep, StepId, TaskId, limits, message::Lease};
use tokio::{sync::Notify, time::Instant};

/// Channels inside this process.
pub struct InProcess {
    /// Hand-overs above which new tasks are refused.
    capacity: usize,
    state: Mutex<State>,
    completions_arrived: Notify,
    completions_taken: Notify,
    timers_changed: Notify,
}

#[derive(Default)]
struct State {
    pools: HashMap<String, Pool>,
    /// The lease under which a step is waiting here or being worked on.
    held: HashMap<StepId, i32>,
    /// Bytes of the bodies in all pools.
    body_bytes: usize,
    completions: VecDeque<CompleteStep>,
    completion_bytes: usize,
    timers: BinaryHeap<Reverse<(Instant, StepId, i32)>>,
    /// Deliveries are stopped: another process may own the database.
    stopped: bool,
}

#[derive(Default)]
struct Pool {
    waiting: VecDeque<Entry>,
    changed: Arc<Notify>,
}

struct Entry {
    key: Lease,
    body: Option<Box<RunStep>>,
    loading: bool,
}

/// What the head of a pool offers.
pub(crate) enum Head {
    /// Messages, taken.
    Ready(Vec<RunStep>),
    /// Keys whose bodies the caller shall load and give back by [`InProcess::loaded`].
    Load(Vec<Lease>),
    /// Nothing yet: wait for this.
    Empty(Arc<Notify>),
}

impl Queue for InProcess {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            match message {
                Outgoing::RunStep { pool, step } => self.push(&pool, step),
                Outgoing::CompleteStep(completion) => self.push_completion(*completion).await,
                Outgoing::Evaluate { wake_up, delay } => self.push_timer(wake_up, delay),
            }
            results.push(Ok(()));
        }
        results
    }

    fn send_lease(&self) -> Option<Duration> {
        None
    }

    fn is_full(&self) -> bool {
        self.lock().held.len() >= self.capacity
    }

    fn forget(&self, task: TaskId) {
        let mut state = self.lock();
        let State { pools, held, body_bytes, .. } = &mut *state;
        held.retain(|step, _| step.task != task);
        for pool in pools.values_mut() {
            pool.waiting.retain(|entry| {
                let stays = entry.key.step.task != task;
                *body_bytes -= entry.body.as_ref().filter(|_| !stays).map_or(0, |body| size(body));
                stays
            });
        }
    }
}

impl Default for InProcess {
    fn default() -> Self {
        Self::with_capacity(limits::HANDED_OVER)
    }
}

impl InProcess {
    /// A queue that is full with so many hand-overs.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            completions_arrived: Notify::new(),
            completions_taken: Notify::new(),
            timers_changed: Notify::new(),
        }
    }

    /// Whether this hand-over, or a later one of its step, is waiting here or being worked on.
    pub fn holds(&self, key: Lease) -> bool {
        self.lock().held.get(&key.step).is_some_and(|&lease| lease >= key.number)
    }

    /// Messages waiting in all pools, without those that are passed over.
    pub fn waiting(&self) -> usize {
        let State { pools, held, .. } = &*self.lock();
        let claimed = |e: &&Entry| held.get(&e.key.step) == Some(&e.key.number);
        pools.values().map(|p| p.waiting.iter().filter(claimed).count()).sum()
    }

    /// Stops deliveries, or lets them go on.
    pub fn set_stopped(&self, stopped: bool) {
        let mut state = self.lock();
        state.stopped = stopped;
        for pool in state.pools.values() {
            pool.changed.notify_waiters();
        }
    }

    /// This hand-over was answered.
    pub(crate) fn release(&self, key: Lease) {
        let mut state = self.lock();
        if state.held.get(&key.step) == Some(&key.number) {
            state.held.remove(&key.step);
        }
    }

    /// Takes at most `max` messages of a pool, or says what is missing. Takes nothing unless it returns it.
    pub(crate) fn head(&self, pool: &str, max: usize, load_at_once: usize) -> Head {
        let mut state = self.lock();
        let State { pools, held, body_bytes, stopped, .. } = &mut *state;
        let pool = pools.entry(pool.to_owned()).or_default();
        if *stopped {
            return Head::Empty(pool.changed.clone());
        }
        let mut ready = Vec::new();
        while ready.len() < max {
            let Some(entry) = pool.waiting.front() else { break };
            // A later hand-over of the step replaced it while it waited.
            let superseded = held.get(&entry.key.step) != Some(&entry.key.number);
            if !superseded && entry.body.is_none() {
                break;
            }
            let entry = pool.waiting.pop_front().expect("there is a front");
            let Some(body) = entry.body else { continue };
            *body_bytes -= size(&body);
            if !superseded {
                ready.push(*body);
            }
        }
        if !ready.is_empty() {
            return Head::Ready(ready);
        }
        let missing: Vec<Lease> = pool
            .waiting
            .iter_mut()
            .take(load_at_once)
            .filter(|e| e.body.is_none() && !e.loading)
            .map(|e| {
                e.loading = true;
                e.key
            })
            .collect();
        if missing.is_empty() { Head::Empty(pool.changed.clone()) } else { Head::Load(missing) }
    }

    /// Gives back what [`Head::Load`] asked for; `later` is asked for again. Another key without a body is no longer handed
    /// over, and is dropped.
    pub(crate) fn loaded(&self, pool: &str, keys: &[Lease], bodies: Vec<RunStep>, later: &[Lease]) {
        let mut bodies: HashMap<Lease, RunStep> = bodies.into_iter().map(|b| (b.lease(), b)).collect();
        let mut state = self.lock();
        let State { pools, held, body_bytes, .. } = &mut *state;
        let pool = pools.entry(pool.to_owned()).or_default();
        for entry in pool.waiting.iter_mut().filter(|e| e.loading) {
            if let Some(body) = bodies.remove(&entry.key) {
                *body_bytes += size(&body);
                entry.body = Some(Box::new(body));
                entry.loading = false;
            } else if later.contains(&entry.key) {
                entry.loading = false;
            } else if keys.contains(&entry.key) && held.get(&entry.key.step) == Some(&entry.key.number) {
                held.remove(&entry.key.step);
            }
        }
        pool.waiting.retain(|e| !(e.loading && keys.contains(&e.key)));
        pool.changed.notify_waiters();
    }

    /// The completions that wait, at most `max`; waits for one.
    pub(crate) async fn completions(&self, max: usize) -> Vec<CompleteStep> {
        loop {
            let arrived = self.completions_arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let taken = self.take_completions(max);
            if !taken.is_empty() {
                return taken;
            }
            arrived.await;
        }
    }

    /// The completions that wait now, at most `max`.
    pub(crate) fn take_completions(&self, max: usize) -> Vec<CompleteStep> {
        let mut state = self.lock();
        let n = state.completions.len().min(max);
        let taken: Vec<CompleteStep> = state.completions.drain(..n).collect();
        if !state.completions.is_empty() {
            self.completions_arrived.notify_one();
        }
        state.completion_bytes -= taken.iter().map(outcome_size).sum::<usize>();
        self.completions_taken.notify_waiters();
        taken
    }

    /// The wake-ups that are due; waits for one.
    pub(crate) async fn wake_ups(&self) -> Vec<Evaluate> {
        loop {
            let changed = self.timers_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = match self.due_timers() {
                Ok(due) => return due,
                Err(next) => next,
            };
            match next {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn due_timers(&self) -> Result<Vec<Evaluate>, Option<Instant>> {
        let mut state = self.lock();
        let mut due = Vec::new();
        let now = Instant::now();
        while due.len() < limits::COMPLETION_BATCH {
            match state.timers.peek() {
                Some(Reverse((at, step_id, lease))) if *at <= now => {
                    due.push(Evaluate { v: tasker_wire::message::VERSION, step_id: *step_id, lease: *lease });
                    state.timers.pop();
                }
                next if due.is_empty() => return Err(next.map(|Reverse((at, ..))| *at)),
                _ => break,
            }
        }
        Ok(due)
    }

    fn push(&self, pool: &str, run: Box<RunStep>) {
        let mut state = self.lock();
        let key = run.lease();
        let held = state.held.entry(key.step).or_default();
        if *held >= key.number {
            return;
        }
        *held = key.number;
        let bytes = size(&run);
        let keep = state.body_bytes + bytes <= limits::QUEUED_BYTES;
        if keep {
            state.body_bytes += bytes;
        }
        let pool = match state.pools.get_mut(pool) {
            Some(pool) => pool,
            None => state.pools.entry(pool.to_owned()).or_default(),
        };
        pool.waiting.push_back(Entry { key, body: keep.then_some(run), loading: false });
        pool.changed.notify_waiters();
    }

    /// Waits for room, so that workers cannot pile up results while the database is away.
    async fn push_completion(&self, completion: CompleteStep) {
        let bytes = outcome_size(&completion);
        loop {
            let taken = self.completions_taken.notified();
            tokio::pin!(taken);
            taken.as_mut().enable();
            {
                let mut state = self.lock();
                if state.completion_bytes == 0 || state.completion_bytes + bytes <= limits::QUEUED_BYTES {
                    state.completion_bytes += bytes;
                    state.completions.push_back(completion);
                    break;
                }
            }
            taken.await;
        }
        self.completions_arrived.notify_one();
    }

    fn push_timer(&self, evaluate: Evaluate, delay: Duration) {
        self.lock().timers.push(Reverse((Instant::now() + delay, evaluate.step_id, evaluate.lease)));
        self.timers_changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a message holds, roughly.
fn size(run: &RunStep) -> usize {
    let results: usize = run.dependency_results.iter().map(|(k, v)| k.len() + v.get().len() + 64).sum();
    let own = run.step_inputs.as_ref().map_or(0, |i| i.get().len()) + run.checkpoint.as_ref().map_or(0, |c| c.get().len());
    1024 + run.context.get().len() + results + own
}

fn outcome_size(completion: &CompleteStep) -> usize {
    use tasker_wire::Outcome::{Checkpoint, Success};
    512 + match &completion.outcome {
        Success { result, metadata } => result.get().len() + metadata.as_ref().map_or(0, |m| m.get().len()),
        Checkpoint { cursor, accumulated, .. } => cursor.get().len() + accumulated.as_ref().map_or(0, |a| a.get().len()),
        _ => 0,
    }
}
