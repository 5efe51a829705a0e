//! Steps whose outcomes are no longer needed, because their tasks were cancelled: their places are free again within seconds.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::time::{Duration, Instant};

use common::{Rig, is_alive, python, receipt, runs, step, until};
use serde_json::json;
use tasker_queue::Disposition;
use tasker_wire::{Outcome, limits};
use tasker_worker::{Stats, WorkerSettings};

async fn plain(places: usize) -> Rig {
    let settings = WorkerSettings { max_concurrent_handlers: places, ..WorkerSettings::new("test") };
    Rig::with(&python("plain.py"), settings).await
}

/// Far less than the handlers need, and far more than a loaded machine.
const SECONDS: Duration = Duration::from_secs(25);

#[tokio::test]
async fn ten_cancelled_handlers_that_listen_give_their_places_to_new_steps_of_the_same_process() {
    let rig = plain(10).await;
    let notes = rig.path("runs");
    rig.steps.put((0..10).map(|no| step(no, "beat", json!({ "runs": notes }))));
    until("all run", || runs(&notes).len() == 10).await;
    let cancelled = Instant::now();
    rig.steps.cancel(0..10);
    rig.steps.put((10..20).map(|no| step(no, "ok", json!({ "runs": notes }))));
    for no in 10..20 {
        rig.success(no).await;
    }
    assert!(cancelled.elapsed() < SECONDS);
    assert_eq!(rig.success(0).await, json!({"stopped": true}), "what it answers is still sent");
    let processes: std::collections::HashSet<i32> = runs(&notes).into_iter().map(|(_, pid)| pid).collect();
    assert_eq!(processes.len(), 1);
    let steps = rig.steps.clone();
    assert_eq!(rig.finish().await, Stats { answered: 20, abandoned: 0 });
    assert!(steps.settled.lock().unwrap().contains(&(receipt(9), Disposition::Done)));
}

#[tokio::test]
async fn the_process_of_a_cancelled_handler_that_does_not_listen_is_ended_and_its_neighbour_runs_again_once() {
    let rig = plain(2).await;
    let notes = rig.path("runs");
    // The neighbour needs longer than the grace.
    let naps = limits::STOP_MS / 50 + 40;
    rig.steps.put([step(0, "hang", json!({ "runs": notes })), step(1, "count", json!({ "runs": notes, "naps": naps }))]);
    until("both run", || runs(&notes).len() == 2).await;
    let process = runs(&notes)[0].1;
    let cancelled = Instant::now();
    rig.steps.cancel([0]);
    rig.steps.put([step(2, "ok", json!({ "runs": notes }))]);
    rig.success(2).await;
    assert!(cancelled.elapsed() < SECONDS);
    assert!(!is_alive(process));
    assert!(matches!(rig.answer(0).await.outcome, Outcome::Released {}));
    assert_eq!(rig.success(1).await, json!({"counted": true}));
    assert_eq!(runs(&notes).iter().filter(|(name, _)| name == "step_1").count(), 2);
    assert_eq!(rig.finish().await, Stats { answered: 3, abandoned: 0 });
}

#[tokio::test]
async fn a_cancelled_step_that_waits_to_run_alone_is_not_run() {
    let rig = plain(10).await;
    let (notes, gate) = (rig.path("runs"), rig.path("gate"));
    let lone = limits::LONE_PROCESSES;
    // From the crash on they hang alone, except the last one, which waits.
    let last = lone as i32;
    rig.steps.put((0..=last).map(|no| step(no, "hang", json!({ "runs": notes }))));
    rig.steps.put([step(50, "die_after", json!({ "gate": gate }))]);
    until("all run", || runs(&notes).len() == lone + 1).await;
    std::fs::write(&gate, "").unwrap();
    until("each lone process has one", || runs(&notes).len() == 2 * lone + 1).await;
    rig.steps.cancel([last]);
    assert!(matches!(rig.answer(last).await.outcome, Outcome::Released {}));
    assert_eq!(runs(&notes).len(), 2 * lone + 1);
    rig.steps.cancel((0..last).chain([50]));
    assert_eq!(rig.finish().await, Stats { answered: 2 + lone as u64, abandoned: 0 });
}

#[tokio::test]
async fn a_late_handler_that_listens_times_out_and_its_process_and_neighbour_go_on() {
    let rig = plain(2).await;
    let notes = rig.path("runs");
    rig.steps.put([
        tasker_wire::RunStep { timeout_seconds: 1, ..step(0, "beat", json!({ "runs": notes })) },
        step(1, "count", json!({ "runs": notes, "naps": 60 })),
    ]);
    assert_eq!(rig.failure(0).await.error_type, "timeout");
    assert_eq!(rig.success(1).await, json!({"counted": true}));
    rig.steps.put([step(2, "ok", json!({ "runs": notes }))]);
    rig.success(2).await;
    assert_eq!(runs(&notes).len(), 3);
    assert!(runs(&notes).iter().all(|(_, pid)| *pid == runs(&notes)[0].1));
    rig.finish().await;
}

#[tokio::test]
async fn a_step_whose_handler_left_a_thread_running_is_answered_when_the_thread_or_its_process_has_ended() {
    for hangs in [false, true] {
        let settings = WorkerSettings { max_concurrent_handlers: 1, ..WorkerSettings::new("test") };
        let rig = Rig::with(&python("steps.py"), settings).await;
        let (notes, done) = (rig.path("runs"), rig.path("done"));
        let context = json!({ "runs": notes, "done": done, "hangs": hangs });
        rig.steps.put([tasker_wire::RunStep { timeout_seconds: 1, ..step(0, "thread", context) }]);
        assert_eq!(rig.failure(0).await.error_type, "timeout");
        // A retry that begins now runs beside nothing.
        let process = runs(&notes)[0].1;
        assert!(std::fs::exists(&done).unwrap() || !is_alive(process), "the thread still runs");
        rig.steps.put([step(1, "ok", json!({ "runs": notes }))]);
        rig.success(1).await;
        if hangs {
            assert_ne!(runs(&notes)[1].1, process);
        }
        rig.finish().await;
    }
}
