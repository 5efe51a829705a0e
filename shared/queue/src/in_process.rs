//! The queue inside one process. It writes nothing, and is lost with its process.
//!
//! It holds the lease of every dispatch that waits or runs, and drops further messages with the same lease. It keeps the bodies of steps
//! up to a limit of memory; [`Bodies`] loads the others when their turn comes. After a crash the engine recovers the dispatches from
//! the database.

mod channel;
mod steps;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tasker_wire::{CompleteStep, Evaluate, Lease, Outcome, TaskId, limits};

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

    /// Drops the waiting messages of a cancelled task.
    pub fn forget(&self, task: TaskId) {
        self.0.pools.lock().forget(task);
    }

    /// Whether this dispatch, or a later one of its step, waits or runs.
    pub fn holds(&self, lease: Lease) -> bool {
        self.0.pools.lock().held.get(&lease.step).is_some_and(|&number| number >= lease.number)
    }

    /// The number of steps that wait in all pools.
    pub fn waiting(&self) -> usize {
        self.0.pools.lock().waiting()
    }

    /// Stops the delivery of steps, because another process may own the database, or continues it.
    pub fn set_stopped(&self, stopped: bool) {
        self.0.pools.lock().set_stopped(stopped);
    }

    /// Whether messages were given up since the last call. If so, recover: only the database knows their steps.
    pub fn gave_up(&self) -> bool {
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
        for completion in &given_up {
            let (step_id, lease) = (completion.step_id, completion.lease);
            tracing::error!(%step_id, lease, "a completion was given up; its step runs again");
        }
        let mut pools = self.0.0.pools.lock();
        pools.gave_up |= !given_up.is_empty();
        for completion in done.iter().chain(&given_up) {
            // A report of a start or a heartbeat leaves the step running.
            if !matches!(completion.outcome, Outcome::Started {} | Outcome::Heartbeat {}) {
                pools.release(completion.lease());
            }
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

fn pause(receives: u32) -> Duration {
    Duration::from_millis((25u64 << receives.min(7)).min(2000))
}

/// The approximate size of a completion in bytes.
fn bytes_of(completion: &CompleteStep) -> usize {
    use tasker_wire::Outcome::{Checkpoint, Success};
    512 + match &completion.outcome {
        Success { result, metadata } => result.get().len() + metadata.as_ref().map_or(0, |m| m.get().len()),
        Checkpoint { cursor, accumulated, .. } => cursor.get().len() + accumulated.as_ref().map_or(0, |a| a.get().len()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use tasker_wire::{RunStep, StepId};
    use tokio::time::{Instant, timeout};
    use uuid::Uuid;

    use super::*;
    use crate::conformance::{self, Fixture, conformance};

    struct Inside {
        queue: InProcess,
        completions: Completions,
        wake_ups: WakeUps,
    }

    impl Fixture for Inside {
        const MAX_RECEIVES: u32 = MAX_RECEIVES;
        const LIFETIME: Option<Duration> = None;
        type Queue = InProcess;
        type Completions = Completions;
        type WakeUps = WakeUps;

        fn queue(&self) -> &InProcess {
            &self.queue
        }

        fn completions(&self) -> &Completions {
            &self.completions
        }

        fn wake_ups(&self) -> &WakeUps {
            &self.wake_ups
        }

        async fn send_text(&self, _text: &str) -> bool {
            false
        }

        async fn dead(&self, count: usize) -> Vec<String> {
            assert!(self.queue.gave_up() && !self.queue.gave_up(), "told once");
            vec!["13".into(); count]
        }

        fn too_large(&self) -> Option<Outgoing> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_inside_the_process_conforms() {
        let queue = InProcess::default();
        let (completions, wake_ups) = (queue.completions(), queue.wake_ups());
        conformance(&Inside { queue, completions, wake_ups }).await;
    }

    /// Loads every body, and counts them.
    #[derive(Default)]
    struct Loader(Mutex<usize>);

    impl Bodies for Loader {
        async fn load_bodies(self: &Arc<Self>, leases: &[Lease]) -> (Vec<RunStep>, Vec<Lease>) {
            *self.0.lock() += leases.len();
            (leases.iter().map(|lease| run(lease.step, lease.number, 0)).collect(), Vec::new())
        }
    }

    fn step(no: i32) -> StepId {
        TaskId::from_fresh(Uuid::from_u128(7 << 100)).step(no)
    }

    fn run(step_id: StepId, lease: i32, context_bytes: usize) -> RunStep {
        let message = serde_json::json!({"v": 1, "task_id": step_id.task.uuid(), "step_id": step_id, "step_name": "a", "lease": lease,
            "attempt": 1, "max_attempts": 1, "token": "", "timeout_seconds": 1, "correlation_id": Uuid::nil(), "namespace": "default",
            "handler": {"callable": "a"}, "context": "x".repeat(context_bytes), "dependency_results": {}});
        serde_json::from_value(message).unwrap()
    }

    async fn send(queue: &InProcess, step: RunStep) {
        queue.send(vec![Outgoing::RunStep { pool: "default".into(), step: Box::new(step) }]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_dispatch_is_delivered_once_until_it_is_given_back_and_a_later_one_replaces_it() {
        let (queue, loader) = (InProcess::default(), Arc::new(Loader::default()));
        let steps = queue.steps("default", loader.clone());
        send(&queue, run(step(0), 1, 0)).await;
        send(&queue, run(step(0), 1, 0)).await;
        let [first] = &steps.receive(10).await[..] else { panic!("one step") };
        assert_eq!(queue.waiting(), 0, "the duplicate was not taken");
        assert!(queue.holds(Lease { step: step(0), number: 1 }));
        steps.settle(vec![(first.receipt.clone(), Disposition::RetryLater)]).await;
        let [again] = &steps.receive(10).await[..] else { panic!("it comes again") };
        assert_eq!((again.receipt.receives, *loader.0.lock()), (2, 1), "and was loaded");
        send(&queue, run(step(0), 2, 0)).await;
        steps.extend(std::slice::from_ref(&again.receipt), Duration::ZERO).await;
        let [later] = &steps.receive(10).await[..] else { panic!("one step") };
        assert_eq!(later.message.as_ref().unwrap().lease, 2, "what was replaced is not delivered");
        steps.settle(vec![(later.receipt.clone(), Disposition::Dead("no".into()))]).await;
        assert!(queue.gave_up() && !queue.holds(Lease { step: step(0), number: 2 }));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_beyond_the_bound_are_loaded_when_their_turn_comes() {
        let (queue, loader) = (InProcess::default(), Arc::new(Loader::default()));
        let steps = queue.steps("default", loader.clone());
        for no in 0..3 {
            send(&queue, run(step(no), 1, limits::QUEUED_BYTES / 2)).await;
        }
        let mut received = 0;
        while received < 3 {
            received += steps.receive(10).await.len();
        }
        assert_eq!((*loader.0.lock(), queue.waiting()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_full_with_its_capacity_and_an_outcome_that_is_done_with_makes_room() {
        let queue = InProcess::with_capacity(1);
        let completion = conformance::completion(1);
        send(&queue, run(completion.step_id, completion.lease, 0)).await;
        assert!(queue.is_full());
        queue.send(vec![Outgoing::CompleteStep(completion)]).await;
        let delivery = queue.completions().receive(1).await.remove(0);
        queue.completions().settle(vec![(delivery.receipt, Disposition::Done)]).await;
        assert!(!queue.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn a_completion_that_is_too_much_waits_until_there_is_room() {
        let channel = Channel::new(10);
        channel.send(1, 20, Duration::ZERO).await;
        let begin = Instant::now();
        let second = channel.send(2, 1, Duration::ZERO);
        tokio::pin!(second);
        assert!(timeout(Duration::from_secs(1), &mut second).await.is_err(), "the first one is larger than all of it");
        let first = channel.receive(1).await.remove(0);
        channel.settle(vec![(first.receipt, Disposition::Done)]);
        second.await;
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }
}
