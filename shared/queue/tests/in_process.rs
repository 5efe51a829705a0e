//! The queue inside one process passes the conformance suite, and keeps a lease and a body for each step as it says.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tasker_queue::{Bodies, Completions, Disposition, InProcess, MAX_RECEIVES, Outgoing, Queue, Source, WakeUps};
use tasker_test_support::conformance::{self, Fixture, conformance};
use tasker_wire::{Lease, RunStep, StepId, TaskId, limits};
use uuid::Uuid;

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
