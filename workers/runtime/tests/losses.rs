//! Steps that a child loses: it neither runs nor answers them, and its process is well. Once it says so they are delivered again.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use common::{Rig, is_alive, python, receipt, runs, step, until};
use serde_json::json;
use tasker_wire::{Outcome, RunStep};
use tasker_worker::{Stats, WorkerSettings};

/// A worker with two places that looks for lost steps several times a second.
async fn looking(child: &str) -> Rig {
    let look_for_lost = Duration::from_millis(200);
    let settings = WorkerSettings { max_concurrent_handlers: 2, look_for_lost, ..WorkerSettings::new("test") };
    Rig::with(&python(child), settings).await
}

fn count(notes: &Path, name: &str) -> usize {
    runs(notes).iter().filter(|(step, _)| step == name).count()
}

/// A step that does in each of its runs what `each` says.
fn step_of_runs(rig: &Rig, no: i32, each: &[&str]) -> RunStep {
    step(no, "each_run", json!({ "runs": rig.path("runs"), "asked": rig.path("asked"), "each": each }))
}

fn lost(rig: &Rig) -> Vec<i32> {
    let lost = rig.steps.lost.lock().unwrap();
    lost.iter().map(|lost| (0..10).find(|no| receipt(*no) == *lost).unwrap()).collect()
}

#[tokio::test]
async fn a_swallowed_step_is_delivered_again_under_its_lease_and_its_neighbour_runs_undisturbed() {
    let rig = looking("plain.py says_held").await;
    let (notes, gate) = (rig.path("runs"), rig.path("gate"));
    rig.steps
        .put([step(0, "wait_for", json!({ "runs": notes, "gate": gate })), step_of_runs(&rig, 1, &["swallow", "swallow", "ok"])]);
    let answer = rig.answer(1).await;
    assert_eq!((answer.lease, answer.attempt, answer.token.as_str()), (1, 1, "token 1"));
    std::fs::write(&gate, "").unwrap();
    rig.success(0).await;
    assert_eq!((lost(&rig), count(&notes, "step_0"), count(&notes, "step_1")), (vec![1, 1], 1, 3));
    assert!(runs(&notes).iter().all(|(_, pid)| *pid == runs(&notes)[0].1), "the process lives on");
    assert_eq!(rig.finish().await, Stats { answered: 2, abandoned: 0 });
}

#[tokio::test]
async fn the_place_of_a_swallowed_step_is_free_again() {
    let rig = looking("plain.py says_held").await;
    let notes = rig.path("runs");
    rig.steps.put((0..2).map(|no| step_of_runs(&rig, no, &["swallow", "ok"])));
    for no in 0..2 {
        rig.success(no).await;
    }
    assert_eq!((count(&notes, "step_0"), count(&notes, "step_1")), (2, 2));
    rig.finish().await;
}

#[tokio::test]
async fn a_child_that_ignores_the_question_keeps_a_swallowed_step_until_its_timeout() {
    let rig = looking("plain.py").await;
    let (notes, asked) = (rig.path("runs"), rig.path("asked"));
    let swallowed = step_of_runs(&rig, 0, &["swallow", "ok"]);
    rig.steps.put([RunStep { timeout_seconds: 2, ..swallowed }]);
    assert_eq!(rig.failure(0).await.error_type, "timeout");
    assert!(count(&asked, "step_0") >= 3, "it was asked");
    assert_eq!((lost(&rig), count(&notes, "step_0")), (vec![], 1));
    rig.finish().await;
}

#[tokio::test]
async fn a_long_step_that_its_child_says_it_has_runs_once() {
    let rig = looking("plain.py says_held").await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "long", json!({ "runs": notes, "asked": rig.path("asked") }))]);
    assert_eq!(rig.success(0).await, json!({"attempt": 1}));
    assert_eq!((lost(&rig), count(&notes, "step_0")), (vec![], 1));
    rig.finish().await;
}

#[tokio::test]
async fn a_reply_that_crosses_the_outcome_of_its_step_changes_nothing() {
    let rig = looking("plain.py says_held").await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "until_asked", json!({ "runs": notes }))]);
    rig.success(0).await;
    // The child writes the reply to the question about the first step before it reads of the second one.
    rig.steps.put([step(1, "ok", json!({ "runs": notes }))]);
    rig.success(1).await;
    assert_eq!((lost(&rig), runs(&notes).len(), runs(&notes)[0].1), (vec![], 2, runs(&notes)[1].1));
    assert_eq!(rig.finish().await, Stats { answered: 2, abandoned: 0 });
}

#[tokio::test]
async fn a_step_that_its_child_lost_is_not_run_again_after_it_was_told_to_stop_and_its_process_lives_on() {
    let rig = looking("plain.py says_held").await;
    let notes = rig.path("runs");
    let denied = |no, timeout_seconds| RunStep { timeout_seconds, ..step(no, "deny", json!({ "runs": notes })) };
    rig.steps.put([denied(0, 50), denied(1, 1)]);
    until("both run", || runs(&notes).len() == 2).await;
    rig.steps.cancel([0]);
    assert!(matches!(rig.answer(0).await.outcome, Outcome::Released {}));
    assert_eq!(rig.failure(1).await.error_type, "timeout");
    rig.steps.put([step(2, "ok", json!({ "runs": notes }))]);
    rig.success(2).await;
    assert!(lost(&rig).is_empty() && runs(&notes).len() == 3 && runs(&notes).iter().all(|(_, pid)| *pid == runs(&notes)[0].1));
    rig.finish().await;
}

#[tokio::test]
async fn a_step_that_runs_alone_and_is_swallowed_is_delivered_again_and_its_process_goes() {
    let rig = looking("plain.py says_held").await;
    let (notes, crash) = (rig.path("runs"), rig.path("crash"));
    rig.steps
        .put([step_of_runs(&rig, 0, &["hang", "swallow", "ok"]), step(1, "die_after", json!({ "runs": notes, "gate": crash }))]);
    until("both run", || runs(&notes).len() == 2).await;
    std::fs::write(&crash, "").unwrap();
    rig.failure(1).await;
    rig.success(0).await;
    let of_step_0: Vec<i32> = runs(&notes).into_iter().filter(|(name, _)| name == "step_0").map(|(_, pid)| pid).collect();
    assert_eq!((lost(&rig), of_step_0.len()), (vec![0], 3));
    until("the lone process is gone", || !is_alive(of_step_0[1])).await;
    // Nothing is aside any more, so the worker takes no more steps than it has places.
    rig.steps.most_held.store(0, Ordering::SeqCst);
    rig.steps.put((2..8).map(|no| step(no, "count", json!({ "naps": 2 }))));
    for no in 2..8 {
        rig.success(no).await;
    }
    assert_eq!(rig.steps.most_held.load(Ordering::SeqCst), 2);
    assert_eq!(rig.finish().await, Stats { answered: 8, abandoned: 0 });
}

#[tokio::test]
async fn a_step_that_the_python_sdk_loses_is_found_and_a_long_neighbour_runs_once() {
    let rig = looking("losing.py").await;
    let (notes, gate) = (rig.path("runs"), rig.path("gate"));
    rig.steps.put([
        step(0, "wait", json!({ "runs": notes, "gate": gate })),
        step(1, "lost", json!({ "runs": notes, "mark": rig.path("mark") })),
    ]);
    assert_eq!(rig.success(1).await, json!({"attempt": 1}));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.success(0).await, json!({"waited": true}));
    assert_eq!((lost(&rig), count(&notes, "step_0"), count(&notes, "step_1")), (vec![1], 1, 1));
    rig.finish().await;
}
