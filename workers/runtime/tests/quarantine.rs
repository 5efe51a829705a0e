//! After a crash: the steps that were in the process run again one at a time in a second one, and hold up nothing.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use common::{Rig, is_alive, python, runs, step, until};
use serde_json::json;
use tasker_worker::{Stats, WorkerSettings};

/// A worker with two places, both of which were taken by steps whose process has just died: `step_0` waits for the gate in
/// the quarantine, and `step_1` behind it, which will exit again.
async fn crashed_with_full_hands(settings: WorkerSettings) -> Rig {
    let rig = Rig::with(&python("steps.py"), WorkerSettings { max_concurrent_handlers: 2, ..settings }).await;
    let (notes, gate, crash) = (rig.path("runs"), rig.path("gate"), rig.path("crash"));
    rig.steps.put([
        step(0, "wait", json!({ "runs": notes, "gate": gate })),
        step(1, "exit_after", json!({ "runs": notes, "gate": crash })),
    ]);
    until("both run", || runs(&notes).len() == 2).await;
    std::fs::write(&crash, "").unwrap();
    until("the first suspect runs again", || runs(&notes).len() == 3).await;
    rig
}

/// The process of a step's last run.
fn process_of(notes: &Path, name: &str) -> i32 {
    runs(notes).into_iter().rev().find(|(step, _)| step == name).unwrap().1
}

#[tokio::test]
async fn new_steps_run_while_the_suspects_of_a_crash_wait_for_each_other() {
    let rig = crashed_with_full_hands(WorkerSettings::new("test")).await;
    let notes = rig.path("runs");
    rig.steps.put((2..6).map(|no| step(no, "ok", json!({ "runs": notes }))));
    for no in 2..6 {
        assert_eq!(rig.success(no).await, json!({"attempt": 1}));
    }
    assert_ne!(process_of(&notes, "step_0"), process_of(&notes, "step_5"));
    let names = |notes| runs(notes).into_iter().filter(|(name, _)| name == "step_1").count();
    assert_eq!(names(&notes), 1, "one suspect at a time");
    assert!(rig.steps.most_held.load(Ordering::SeqCst) <= 4, "two suspects and two new ones");
    std::fs::write(rig.path("gate"), "").unwrap();
    assert_eq!(rig.success(0).await, json!({"waited": true}));
    assert_eq!(rig.failure(1).await.error_type, "worker_crashed");
    assert_eq!(names(&notes), 4, "once with a neighbour, three times alone");
    assert_eq!(rig.finish().await, Stats { answered: 6, abandoned: 0 });
}

#[tokio::test]
async fn the_second_process_goes_when_no_suspect_is_left_and_the_first_one_stays() {
    let rig = crashed_with_full_hands(WorkerSettings::new("test")).await;
    let notes = rig.path("runs");
    std::fs::write(rig.path("gate"), "").unwrap();
    rig.success(0).await;
    rig.failure(1).await;
    rig.steps.put([step(2, "exit_on_first_run", json!({ "runs": rig.path("new") }))]);
    assert_eq!(rig.success(2).await, json!({"survived": true}));
    let quarantine = process_of(&rig.path("new"), "step_2");
    rig.steps.put([step(3, "ok", json!({ "runs": notes }))]);
    rig.success(3).await;
    until("the second process is gone", || !is_alive(quarantine)).await;
    assert!(is_alive(process_of(&notes, "step_3")));
    rig.finish().await;
}

#[tokio::test]
async fn a_shutdown_that_gives_up_leaves_neither_process() {
    let rig =
        crashed_with_full_hands(WorkerSettings { drain_timeout: Duration::from_millis(50), ..WorkerSettings::new("test") }).await;
    let notes = rig.path("runs");
    rig.steps.put([step(2, "hang", json!({ "runs": notes }))]);
    until("it hangs", || runs(&notes).len() == 4).await;
    let processes = [process_of(&notes, "step_0"), process_of(&notes, "step_2")];
    rig.shutdown.cancel();
    assert_eq!(rig.ended().await, Stats { answered: 0, abandoned: 3 });
    assert!(!processes.into_iter().any(is_alive));
}

#[tokio::test]
async fn dropping_the_worker_kills_both_processes() {
    let rig = crashed_with_full_hands(WorkerSettings::new("test")).await;
    let notes = rig.path("runs");
    rig.steps.put([step(2, "hang", json!({ "runs": notes }))]);
    until("it hangs", || runs(&notes).len() == 4).await;
    let processes = [process_of(&notes, "step_0"), process_of(&notes, "step_2")];
    rig.abort();
    until("both are gone", || !processes.into_iter().any(is_alive)).await;
}
