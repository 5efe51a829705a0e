//! The gate: the last word on whether a step is started.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Bench, python, runs, step};
use serde_json::json;
use tasker_wire::Outcome;
use tasker_worker::{Executor, Gate, Settings, Stats};

/// Open for so many steps, and closed after them.
fn gate_open_for(steps: usize) -> Settings {
    let asked = AtomicUsize::new(0);
    let gate = Gate::new(move |_| (asked.fetch_add(1, Ordering::SeqCst) >= steps).then_some(Outcome::Released {}));
    Settings { gate, ..Settings::new("test") }
}

#[tokio::test]
async fn a_step_that_the_gate_refuses_is_answered_and_not_run() {
    let bench = Bench::with(&python("steps.py"), gate_open_for(1)).await;
    let notes = bench.path("runs");
    bench.steps.put((0..2).map(|no| step(no, "ok", json!({ "runs": notes }))));
    assert!(matches!(bench.answer(1).await.outcome, Outcome::Released {}));
    bench.success(0).await;
    assert_eq!(runs(&notes).len(), 1);
    assert_eq!(bench.finish().await, Stats { answered: 2, abandoned: 0 });
}

#[tokio::test]
async fn the_gate_is_asked_again_when_a_step_would_run_again() {
    let bench = Bench::with(&python("steps.py"), gate_open_for(1)).await;
    let notes = bench.path("runs");
    bench.steps.put([step(0, "exit", json!({ "runs": notes }))]);
    assert!(matches!(bench.answer(0).await.outcome, Outcome::Released {}));
    assert_eq!(runs(&notes).len(), 1);
    assert_eq!(bench.finish().await, Stats { answered: 1, abandoned: 0 });
}

#[tokio::test]
async fn the_gate_holds_for_handlers_in_process_too() {
    let settings = gate_open_for(0);
    let executor = Executor::in_process(&settings, |_, _| async { panic!("it must not run") });
    let bench = Bench::around(executor, settings);
    bench.steps.put([step(0, "ok", json!({}))]);
    assert!(matches!(bench.answer(0).await.outcome, Outcome::Released {}));
    bench.finish().await;
}
