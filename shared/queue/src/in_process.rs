//! The queue inside one process. It writes nothing, and is lost with its process.
//!
//! It holds the lease of every dispatch that waits or runs, and drops further messages with the same lease. It keeps the bodies of steps
//! up to a limit of memory; [`Bodies`] loads the others when their turn comes. After a crash the engine recovers the dispatches from
//! the database.

mod channel;
mod steps;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tasker_wire::{CompleteStep, Evaluate, Lease, Outcome, StepId, TaskId, limits};

use crate::{Delivery, Disposition, Outgoing, Queue, Receipt, SendResult, Source};
use channel::Channel;
use steps::Pools;
pub use steps::{Bodies, Steps};

/// The number of receives after which a message is given up.
pub const MAX_RECEIVES: u32 = 5;

/// The queue. Clones share it.
#[derive(Debug, Clone)]
pub struct InProcess(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The number of dispatches above which new tasks are rejected.
    capacity: usize,
    pools: Mutex<Pools>,
    completions: Channel<Arc<CompleteStep>>,
    wake_ups: Channel<Evaluate>,
}

impl Default for InProcess {
    fn default() -> Self {
        Self::with_capacity(limits::DISPATCHED_STEPS)
    }
}

impl InProcess {
    pub fn with_capacity(capacity: usize) -> Self {
        let (completions, wake_ups) = (Channel::new(limits::QUEUED_BYTES), Channel::new(usize::MAX));
        Self(Arc::new(Inner { capacity, pools: Mutex::default(), completions, wake_ups }))
    }

    /// The steps of a pool.
    pub fn steps<B: Bodies>(&self, pool: &str, bodies: Arc<B>) -> Steps<B> {
        Steps { queue: self.clone(), pool: pool.to_owned(), bodies }
    }

    /// The outcomes of steps. A lease is released when its completion is settled or given up.
    pub fn completions(&self) -> Completions {
        Completions(self.clone())
    }

    /// The retries that are due.
    pub fn wake_ups(&self) -> WakeUps {
        WakeUps(self.clone())
    }

    pub fn is_full(&self) -> bool {
        self.0.pools.lock().held.len() >= self.0.capacity
    }

    /// Drops the waiting messages of a cancelled task, and tells the workers that run its steps.
    pub fn forget(&self, task: TaskId) {
        self.0.pools.lock().forget(task);
    }

    /// The same for a step that was resolved.
    pub fn forget_step(&self, step: StepId) {
        self.0.pools.lock().forget_step(step, |_| true);
    }

    /// The same for a dispatch that is no longer its step's current one.
    pub fn forget_lease(&self, lease: Lease) {
        self.0.pools.lock().forget_step(lease.step, |number| number <= lease.number);
    }

    /// Whether this dispatch, or a later one of its step, waits or runs.
    pub fn holds(&self, lease: Lease) -> bool {
        self.0.pools.lock().held.get(&lease.step).is_some_and(|held| held.number >= lease.number)
    }

    /// The number of deliveries that their workers lost.
    pub fn lost(&self) -> u64 {
        self.0.pools.lock().lost
    }

    /// The number of steps that wait in all pools.
    pub fn waiting(&self) -> usize {
        self.0.pools.lock().waiting()
    }

    /// Stops the delivery of steps, because another process may own the database, or continues it.
    pub fn set_stopped(&self, stopped: bool) {
        self.0.pools.lock().set_stopped(stopped);
    }

    /// The dispatches whose messages were given up since the last call. If there are any, recover: only the database knows their steps.
    pub fn gave_up(&self) -> Vec<Lease> {
        std::mem::take(&mut self.0.pools.lock().gave_up)
    }
}

impl Queue for InProcess {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            match message {
                Outgoing::RunStep { pool, step } => self.0.pools.lock().push(&pool, step),
                Outgoing::CompleteStep(completion) => {
                    let bytes = bytes_of(&completion);
                    self.0.completions.send(completion, bytes, Duration::ZERO).await;
                }
                Outgoing::Evaluate { wake_up, delay } => self.0.wake_ups.send(wake_up, 0, delay).await,
            }
            results.push(Ok(()));
        }
        results
    }
}

/// See [`InProcess::completions`].
#[derive(Debug, Clone)]
pub struct Completions(InProcess);

impl Source for Completions {
    type Message = Arc<CompleteStep>;

    async fn receive(&self, max: usize) -> Vec<Delivery<Arc<CompleteStep>>> {
        self.0.0.completions.receive(max).await
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        let (done, given_up) = self.0.0.completions.settle(settled);
        // A report of a start or a heartbeat leaves the step running.
        let ends = |completion: &CompleteStep| !matches!(completion.outcome, Outcome::Started {} | Outcome::Heartbeat {});
        let mut pools = self.0.0.pools.lock();
        done.iter().filter(|completion| ends(completion)).for_each(|completion| pools.release(completion.lease()));
        for (completion, reason) in given_up.into_iter().filter(|(completion, _)| ends(completion)) {
            pools.give_up(completion.lease(), &reason);
        }
    }

    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        self.0.0.completions.extend(deliveries, time);
    }
}

/// See [`InProcess::wake_ups`]. The sweep replaces one that is given up.
#[derive(Debug, Clone)]
pub struct WakeUps(InProcess);

impl Source for WakeUps {
    type Message = Evaluate;

    async fn receive(&self, max: usize) -> Vec<Delivery<Evaluate>> {
        self.0.0.wake_ups.receive(max).await
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        self.0.0.wake_ups.settle(settled);
    }

    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        self.0.0.wake_ups.extend(deliveries, time);
    }
}

/// The pause of a postponed message.
const POSTPONED: Duration = Duration::from_millis(500);

fn pause(receives: u32) -> Duration {
    Duration::from_millis((25u64 << receives.min(7)).min(2000))
}

/// The approximate size of a completion in bytes.
fn bytes_of(completion: &CompleteStep) -> usize {
    use tasker_wire::Outcome::{Checkpoint, Success};
    let length = |text: &Option<Box<RawValue>>| text.as_ref().map_or(0, |text| text.get().len());
    512 + match &completion.outcome {
        Success { result, metadata, decision, batches } => {
            result.get().len() + length(metadata) + length(decision) + length(batches)
        }
        Checkpoint { cursor, accumulated, .. } => cursor.get().len() + length(accumulated),
        _ => 0,
    }
}
