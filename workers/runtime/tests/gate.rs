//! The gate decides whether a step starts.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{Rig, runs, step};
use futures::{FutureExt, future::BoxFuture};
use serde_json::json;
use tasker_wire::{Outcome, RunStep};
use tasker_worker::{Gate, Stats};
use tokio::sync::Notify;

/// Open for so many steps, and closed after them.
struct OpenFor(AtomicUsize);

impl Gate for OpenFor {
    fn refusal<'a>(&'a self, _: &'a RunStep) -> BoxFuture<'a, Option<Outcome>> {
        let open = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        std::future::ready((!open).then_some(Outcome::Released {})).boxed()
    }
}

/// Lets the step with number 0 wait until it is opened, and all others pass.
#[derive(Clone, Default)]
struct Slow {
    asked: Arc<Notify>,
    opened: Arc<Notify>,
}

impl Gate for Slow {
    fn refusal<'a>(&'a self, step: &'a RunStep) -> BoxFuture<'a, Option<Outcome>> {
        async move {
            if step.step_id.no == 0 {
                self.asked.notify_one();
                self.opened.notified().await;
            }
            None
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_step_that_the_gate_refuses_is_answered_and_not_run() {
    let rig = Rig::gated(OpenFor(1.into())).await;
    let notes = rig.path("runs");
    rig.steps.put((0..2).map(|no| step(no, "ok", json!({ "runs": notes }))));
    assert!(matches!(rig.answer(1).await.outcome, Outcome::Released {}));
    rig.success(0).await;
    assert_eq!(runs(&notes).len(), 1);
    assert_eq!(rig.finish().await, Stats { answered: 2, abandoned: 0 });
}

#[tokio::test]
async fn the_gate_is_asked_again_when_a_step_would_run_again() {
    let rig = Rig::gated(OpenFor(1.into())).await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "exit", json!({ "runs": notes }))]);
    assert!(matches!(rig.answer(0).await.outcome, Outcome::Released {}));
    assert_eq!(runs(&notes).len(), 1);
    assert_eq!(rig.finish().await, Stats { answered: 1, abandoned: 0 });
}

#[tokio::test]
async fn a_step_that_waits_at_the_gate_does_not_delay_others() {
    let gate = Slow::default();
    let rig = Rig::gated(gate.clone()).await;
    rig.steps.put([step(0, "ok", json!({}))]);
    gate.asked.notified().await;
    rig.steps.put([step(1, "ok", json!({}))]);
    rig.success(1).await;
    gate.opened.notify_one();
    rig.success(0).await;
    assert_eq!(rig.finish().await, Stats { answered: 2, abandoned: 0 });
}

#[tokio::test]
async fn a_step_that_waits_at_the_gate_is_not_blamed_when_the_process_dies_and_is_asked_about_again() {
    let gate = Slow::default();
    let rig = Rig::gated(gate.clone()).await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "ok", json!({ "runs": notes }))]);
    gate.asked.notified().await;
    rig.steps.put([step(1, "exit", json!({}))]);
    assert_eq!(rig.failure(1).await.error_type, "worker_crashed");
    gate.asked.notified().await;
    gate.opened.notify_one();
    rig.success(0).await;
    assert_eq!(runs(&notes).len(), 1);
    assert_eq!(rig.finish().await, Stats { answered: 2, abandoned: 0 });
}
