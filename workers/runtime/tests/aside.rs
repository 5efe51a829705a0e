//! After a crash or a time-out: the steps that were in the process beside the cause run again, each alone in a process, hold up nothing,
//! and are thrown back only once.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use common::{Rig, is_alive, python, runs, step, until};
use serde_json::json;
use tasker_wire::RunStep;
use tasker_worker::{Stats, WorkerSettings};

/// How often a step ran.
fn count(notes: &Path, name: &str) -> usize {
    runs(notes).iter().filter(|(step, _)| step == name).count()
}

/// The process of a step's last run.
fn process_of(notes: &Path, name: &str) -> i32 {
    runs(notes).into_iter().rev().find(|(step, _)| step == name).unwrap().1
}

/// A worker with two places, both of which were taken by steps whose process died: `step_0` waits for the gate, alone in a process, and
/// `step_1` has killed its processes three times more.
async fn crashed_with_full_hands(settings: WorkerSettings) -> Rig {
    let rig = Rig::with(&python("steps.py"), WorkerSettings { max_concurrent_handlers: 2, ..settings }).await;
    let (notes, gate, crash) = (rig.path("runs"), rig.path("gate"), rig.path("crash"));
    rig.steps.put([
        step(0, "wait", json!({ "runs": notes, "gate": gate })),
        step(1, "exit_after", json!({ "runs": notes, "gate": crash })),
    ]);
    until("both run", || runs(&notes).len() == 2).await;
    std::fs::write(&crash, "").unwrap();
    until("the first suspect runs again", || count(&notes, "step_0") == 2).await;
    assert_eq!(rig.failure(1).await.error_type, "worker_crashed");
    rig
}

#[tokio::test]
async fn new_steps_and_suspects_run_while_a_suspect_waits() {
    let rig = crashed_with_full_hands(WorkerSettings::new("test")).await;
    let notes = rig.path("runs");
    rig.steps.put((2..6).map(|no| step(no, "ok", json!({ "runs": notes }))));
    for no in 2..6 {
        assert_eq!(rig.success(no).await, json!({"attempt": 1}));
    }
    assert_ne!(process_of(&notes, "step_0"), process_of(&notes, "step_1"));
    assert_ne!(process_of(&notes, "step_0"), process_of(&notes, "step_5"));
    assert!(rig.steps.most_held.load(Ordering::SeqCst) <= 4, "two suspects and two new ones");
    std::fs::write(rig.path("gate"), "").unwrap();
    assert_eq!(rig.success(0).await, json!({"waited": true}));
    assert_eq!((count(&notes, "step_0"), count(&notes, "step_1")), (2, 4), "once with a neighbour, then alone");
    assert_eq!(rig.finish().await, Stats { answered: 6, abandoned: 0 });
}

#[tokio::test]
async fn a_lone_process_goes_when_no_step_needs_it_and_the_first_one_stays() {
    let rig = crashed_with_full_hands(WorkerSettings::new("test")).await;
    let notes = rig.path("runs");
    let lone = process_of(&notes, "step_0");
    std::fs::write(rig.path("gate"), "").unwrap();
    rig.success(0).await;
    until("the lone process is gone", || !is_alive(lone)).await;
    rig.steps.put([step(2, "ok", json!({ "runs": notes }))]);
    rig.success(2).await;
    assert!(is_alive(process_of(&notes, "step_2")));
    rig.finish().await;
}

#[tokio::test]
async fn no_more_lone_processes_run_than_are_allowed_and_each_step_gets_its_turn() {
    let rig = Rig::with(&python("plain.py"), WorkerSettings::new("test")).await;
    let (notes, crash) = (rig.path("runs"), rig.path("crash"));
    rig.steps.put((0..7).map(|no| step(no, "count", json!({ "runs": notes, "naps": 10 }))));
    rig.steps.put([step(7, "die_after", json!({ "runs": notes, "gate": crash }))]);
    until("all run", || runs(&notes).len() == 8).await;
    std::fs::write(&crash, "").unwrap();
    for no in 0..7 {
        rig.success(no).await;
    }
    assert_eq!(rig.failure(7).await.error_type, "worker_crashed");
    assert!((0..7).all(|no| count(&notes, &format!("step_{no}")) <= 2));
    rig.finish().await;
}

#[tokio::test]
async fn a_step_beside_others_that_hang_is_thrown_back_at_most_once_and_finishes() {
    let rig = Rig::with(&python("plain.py"), WorkerSettings::new("test")).await;
    let notes = rig.path("runs");
    // It needs four seconds; each of the others hangs for one, and comes when the last one has failed.
    rig.steps.put([step(0, "count", json!({ "runs": notes, "naps": 80 }))]);
    until("it runs", || runs(&notes).len() == 1).await;
    let hanging = async {
        for no in 1..=8 {
            rig.steps.put([RunStep { timeout_seconds: 1, ..step(no, "hang", json!({})) }]);
            assert_eq!(rig.failure(no).await.error_type, "timeout");
        }
    };
    let (result, ()) = tokio::join!(rig.success(0), hanging);
    assert_eq!(result, json!({"counted": true}));
    assert_eq!(count(&notes, "step_0"), 2);
    rig.finish().await;
}

#[tokio::test]
async fn the_retry_of_a_late_step_never_overlaps_its_predecessor() {
    let rig = Rig::with(&python("plain.py"), WorkerSettings::new("test")).await;
    let (lock, held, crash) = (rig.path("lock"), rig.path("held"), rig.path("crash"));
    let attempt = |no: i32| RunStep { timeout_seconds: 1, ..step(no, "hold", json!({ "lock": lock, "held": held })) };
    // The first one is late while it runs alone, so that its retry would find the other process ready.
    rig.steps.put([attempt(0), step(100, "die_after", json!({ "gate": crash }))]);
    until("it runs", || runs(&held).len() == 1).await;
    std::fs::write(&crash, "").unwrap();
    for no in 0..4 {
        assert_eq!(rig.failure(no).await.error_type, "timeout", "attempt {no}");
        rig.steps.put([attempt(no + 1)]);
    }
    rig.failure(4).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_shutdown_that_gives_up_leaves_neither_process() {
    let rig =
        crashed_with_full_hands(WorkerSettings { drain_timeout: Duration::from_millis(50), ..WorkerSettings::new("test") }).await;
    let notes = rig.path("runs");
    rig.steps.put([step(2, "hang", json!({ "runs": notes }))]);
    until("it hangs", || count(&notes, "step_2") == 1).await;
    let processes = [process_of(&notes, "step_0"), process_of(&notes, "step_2")];
    rig.shutdown.cancel();
    assert_eq!(rig.ended().await, Stats { answered: 1, abandoned: 2 });
    assert!(!processes.into_iter().any(is_alive));
}

#[tokio::test]
async fn dropping_the_worker_kills_both_processes() {
    let rig = crashed_with_full_hands(WorkerSettings::new("test")).await;
    let notes = rig.path("runs");
    rig.steps.put([step(2, "hang", json!({ "runs": notes }))]);
    until("it hangs", || count(&notes, "step_2") == 1).await;
    let processes = [process_of(&notes, "step_0"), process_of(&notes, "step_2")];
    rig.abort();
    until("both are gone", || !processes.into_iter().any(is_alive)).await;
}
