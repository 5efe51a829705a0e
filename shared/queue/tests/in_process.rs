//! The queue inside one process passes the conformance suite, and keeps a lease and a body for each step as it says.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tasker_queue::{Bodies, Completions, Disposition, InProcess, MAX_RECEIVES, Outgoing, Queue, Source, Steps, WakeUps};
use tasker_test_support::conformance::{self, Fixture, POOL, conformance};
use tasker_wire::{CompleteStep, Lease, Outcome, RunStep, StepId, TaskId, limits};
use uuid::Uuid;

struct Inside {
    queue: InProcess,
    completions: Completions,
    wake_ups: WakeUps,
    steps: Steps<Loader>,
}

impl Fixture for Inside {
    const MAX_RECEIVES: u32 = MAX_RECEIVES;
    const STEP_RECEIVES: Option<u32> = None;
    const LIFETIME: Option<Duration> = None;
    const TELLS_UNWANTED: bool = true;
    type Queue = InProcess;
    type Completions = Completions;
    type WakeUps = WakeUps;
    type Steps = Steps<Loader>;

    fn queue(&self) -> &InProcess {
        &self.queue
    }

    fn completions(&self) -> &Completions {
        &self.completions
    }

    fn wake_ups(&self) -> &WakeUps {
        &self.wake_ups
    }

    fn steps(&self) -> &Steps<Loader> {
        &self.steps
    }

    async fn send_text(&self, _text: &str) -> bool {
        false
    }

    async fn dead(&self, count: usize) -> Vec<Option<StepId>> {
        let gave_up = self.queue.gave_up();
        assert_eq!((gave_up.len(), self.queue.gave_up()), (count, vec![]), "each is told once");
        gave_up.into_iter().map(|lease| Some(lease.step)).collect()
    }

    async fn dead_steps(&self, count: usize) -> Vec<Option<StepId>> {
        self.dead(count).await
    }

    fn too_large(&self) -> Option<Outgoing> {
        None
    }

    fn more_than_it_holds(&self) -> Option<Vec<Arc<CompleteStep>>> {
        let half = serde_json::value::to_raw_value(&"x".repeat(limits::QUEUED_BYTES / 2)).unwrap();
        let outcome = Outcome::success(half, None);
        let large = |no| CompleteStep { outcome: outcome.clone(), ..CompleteStep::clone(&conformance::completion(no)) };
        Some((1..=4).map(|no| Arc::new(large(no))).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn the_queue_inside_the_process_conforms() {
    let queue = InProcess::default();
    let (completions, wake_ups) = (queue.completions(), queue.wake_ups());
    let steps = queue.steps(POOL, Arc::default());
    conformance(&Inside { queue, completions, wake_ups, steps }).await;
}

/// Loads every body, and counts them.
#[derive(Default)]
struct Loader(Mutex<usize>);

impl Bodies for Loader {
    async fn load_bodies(self: &Arc<Self>, leases: &[Lease]) -> (Vec<RunStep>, Vec<Lease>) {
        *self.0.lock() += leases.len();
        (leases.iter().map(|lease| conformance::step(lease.step, lease.number, 0)).collect(), Vec::new())
    }
}

fn id(no: i32) -> StepId {
    TaskId::from_fresh(Uuid::from_u128(7 << 100)).step(no)
}

async fn send(queue: &InProcess, step: RunStep) {
    queue.send(vec![Outgoing::RunStep { pool: "default".into(), step: Box::new(step) }]).await;
}

#[tokio::test(start_paused = true)]
async fn a_dispatch_is_delivered_once_until_it_is_given_back_and_a_later_one_replaces_it() {
    let (queue, loader) = (InProcess::default(), Arc::new(Loader::default()));
    let steps = queue.steps("default", loader.clone());
    send(&queue, conformance::step(id(0), 1, 0)).await;
    send(&queue, conformance::step(id(0), 1, 0)).await;
    let [first] = &steps.receive(10).await[..] else { panic!("one step") };
    assert_eq!(queue.waiting(), 0, "the duplicate was not taken");
    assert!(queue.holds(Lease { step: id(0), number: 1 }));
    steps.settle(vec![(first.receipt.clone(), Disposition::RetryLater)]).await;
    let [again] = &steps.receive(10).await[..] else { panic!("it comes again") };
    assert_eq!((again.receipt.receives, *loader.0.lock()), (2, 1), "and was loaded");
    send(&queue, conformance::step(id(0), 2, 0)).await;
    steps.extend(std::slice::from_ref(&again.receipt), Duration::ZERO).await;
    let [later] = &steps.receive(10).await[..] else { panic!("one step") };
    assert_eq!(later.message.as_ref().unwrap().lease, 2, "what was replaced is not delivered");
    steps.settle(vec![(later.receipt.clone(), Disposition::Dead("no".into()))]).await;
    assert_eq!(queue.gave_up(), [Lease { step: id(0), number: 2 }]);
    assert!(!queue.holds(Lease { step: id(0), number: 2 }));
}

#[tokio::test(start_paused = true)]
async fn bodies_beyond_the_bound_are_loaded_when_their_turn_comes() {
    let (queue, loader) = (InProcess::default(), Arc::new(Loader::default()));
    let steps = queue.steps("default", loader.clone());
    for no in 0..3 {
        send(&queue, conformance::step(id(no), 1, limits::QUEUED_BYTES / 2)).await;
    }
    let mut received = 0;
    while received < 3 {
        received += steps.receive(10).await.len();
    }
    assert_eq!((*loader.0.lock(), queue.waiting()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_full_at_its_capacity_and_a_settled_outcome_frees_capacity() {
    let queue = InProcess::with_capacity(1);
    let completion = conformance::completion(1);
    send(&queue, conformance::step(completion.step_id, completion.lease, 0)).await;
    assert!(queue.is_full());
    queue.send(vec![Outgoing::CompleteStep(completion)]).await;
    let delivery = queue.completions().receive(1).await.remove(0);
    queue.completions().settle(vec![(delivery.receipt, Disposition::Done)]).await;
    assert!(!queue.is_full());
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_a_dispatch_that_was_given_up_does_no_harm_when_it_is_sent_again_under_its_lease() {
    let queue = InProcess::default();
    let steps = queue.steps("default", Arc::<Loader>::default());
    send(&queue, conformance::step(id(0), 1, 0)).await;
    let stale = steps.receive(1).await.remove(0).receipt;
    steps.settle(vec![(stale.clone(), Disposition::Dead("no".into()))]).await;
    send(&queue, conformance::step(id(0), 1, 0)).await;
    let current = steps.receive(1).await.remove(0).receipt;
    assert_eq!((&current.id, current.receives), (&stale.id, 1));
    steps.extend(&[stale], Duration::ZERO).await;
    assert_eq!(queue.waiting(), 0);
    steps.extend(&[current], Duration::ZERO).await;
    assert_eq!(queue.waiting(), 1);
}

#[tokio::test]
async fn what_runs_of_a_cancelled_task_a_resolved_step_or_an_old_dispatch_is_told_once_as_unwanted_and_nothing_else_is() {
    let queue = InProcess::default();
    let steps = queue.steps(POOL, Arc::<Loader>::default());
    let task = |no: u128| TaskId::from_fresh(Uuid::from_u128(no << 100));
    let of = |step: StepId| Outgoing::RunStep { pool: POOL.into(), step: Box::new(conformance::step(step, 3, 0)) };
    let [running, resolved, old, other] = [task(1).step(0), task(2).step(0), task(3).step(0), task(4).step(0)];
    queue.send([running, resolved, old, other].map(of).to_vec()).await;
    let receipts: Vec<_> = steps.receive(4).await.into_iter().map(|delivery| delivery.receipt).collect();
    queue.send(vec![of(task(1).step(16_384))]).await;
    queue.forget(task(1));
    queue.forget_step(resolved);
    queue.forget_lease(Lease { step: old, number: 3 });
    queue.forget_lease(Lease { step: other, number: 2 });
    assert_eq!(steps.unwanted().await, receipts[..3]);
    assert!(futures::poll!(std::pin::pin!(steps.unwanted())).is_pending(), "it is told once");
    assert!(futures::poll!(std::pin::pin!(steps.receive(4))).is_pending(), "what waited is dropped");
    assert!(queue.holds(Lease { step: other, number: 3 }) && !queue.holds(Lease { step: resolved, number: 3 }));
    // The answers of those that ran have no effect.
    steps.settle(receipts.into_iter().map(|receipt| (receipt, Disposition::Done)).collect()).await;
}
