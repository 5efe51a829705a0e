//! After a crash: the steps that were in the process run again one at a time in a second one, and hold up nothing.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use common::{Bench, is_alive, python, runs, step, until};
use serde_json::json;
use tasker_worker::{Settings, Stats};

/// A worker with two places, both of which were taken by steps whose process has just died: `step_0` waits for the gate in
/// the quarantine, and `step_1` behind it, which will exit again.
async fn crashed_with_full_hands(settings: Settings) -> Bench {
    let bench = Bench::with(&python("steps.py"), Settings { max_concurrent_handlers: 2, ..settings }).await;
    let (notes, gate, crash) = (bench.path("runs"), bench.path("gate"), bench.path("crash"));
    bench.steps.put([
        step(0, "wait", json!({ "runs": notes, "gate": gate })),
        step(1, "exit_after", json!({ "runs": notes, "gate": crash })),
    ]);
    until("both run", || runs(&notes).len() == 2).await;
    std::fs::write(&crash, "").unwrap();
    until("the first suspect runs again", || runs(&notes).len() == 3).await;
    bench
}

/// The process of a step's last run.
fn process_of(notes: &Path, name: &str) -> i32 {
    runs(notes).into_iter().rev().find(|(step, _)| step == name).unwrap().1
}

#[tokio::test]
async fn new_steps_run_while_the_suspects_of_a_crash_wait_for_each_other() {
    let bench = crashed_with_full_hands(Settings::new("test")).await;
    let notes = bench.path("runs");
    bench.steps.put((2..6).map(|no| step(no, "ok", json!({ "runs": notes }))));
    for no in 2..6 {
        assert_eq!(bench.success(no).await, json!({"attempt": 1}));
    }
    assert_ne!(process_of(&notes, "step_0"), process_of(&notes, "step_5"));
    let names = |notes| runs(notes).into_iter().filter(|(name, _)| name == "step_1").count();
    assert_eq!(names(&notes), 1, "one suspect at a time");
    assert!(bench.steps.most_held.load(Ordering::SeqCst) <= 4, "two suspects and two new ones");
    std::fs::write(bench.path("gate"), "").unwrap();
    assert_eq!(bench.success(0).await, json!({"waited": true}));
    assert_eq!(bench.failure(1).await.error_type, "worker_crashed");
    assert_eq!(names(&notes), 4, "once with a neighbour, three times alone");
    assert_eq!(bench.finish().await, Stats { answered: 6, abandoned: 0 });
}

#[tokio::test]
async fn the_second_process_goes_when_no_suspect_is_left_and_the_first_one_stays() {
    let bench = crashed_with_full_hands(Settings::new("test")).await;
    let notes = bench.path("runs");
    std::fs::write(bench.path("gate"), "").unwrap();
    bench.success(0).await;
    bench.failure(1).await;
    bench.steps.put([step(2, "exit_on_first_run", json!({ "runs": bench.path("new") }))]);
    assert_eq!(bench.success(2).await, json!({"survived": true}));
    let quarantine = process_of(&bench.path("new"), "step_2");
    bench.steps.put([step(3, "ok", json!({ "runs": notes }))]);
    bench.success(3).await;
    until("the second process is gone", || !is_alive(quarantine)).await;
    assert!(is_alive(process_of(&notes, "step_3")));
    bench.finish().await;
}

#[tokio::test]
async fn a_shutdown_that_gives_up_leaves_neither_process() {
    let bench = crashed_with_full_hands(Settings { drain_timeout: Duration::from_millis(50), ..Settings::new("test") }).await;
    let notes = bench.path("runs");
    bench.steps.put([step(2, "hang", json!({ "runs": notes }))]);
    until("it hangs", || runs(&notes).len() == 4).await;
    let processes = [process_of(&notes, "step_0"), process_of(&notes, "step_2")];
    bench.shutdown.cancel();
    assert_eq!(bench.ended().await, Stats { answered: 0, abandoned: 3 });
    assert!(!processes.into_iter().any(is_alive));
}

#[tokio::test]
async fn dropping_the_worker_kills_both_processes() {
    let bench = crashed_with_full_hands(Settings::new("test")).await;
    let notes = bench.path("runs");
    bench.steps.put([step(2, "hang", json!({ "runs": notes }))]);
    until("it hangs", || runs(&notes).len() == 4).await;
    let processes = [process_of(&notes, "step_0"), process_of(&notes, "step_2")];
    bench.abort();
    until("both are gone", || !processes.into_iter().any(is_alive)).await;
}
