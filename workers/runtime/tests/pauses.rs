//! A worker that was stopped and continued, as on a machine that slept: what was answered meanwhile counts.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
mod program;

use std::time::Duration;

use common::{runs, step, until};
use nix::sys::signal::Signal;
use program::Program;
use serde_json::{Value, json};
use tasker_wire::RunStep;

/// Longer than all timeouts of the steps, and than the delay that a busy machine explains.
const PAUSE: Duration = Duration::from_secs(5);

fn is_success(answer: &Value) -> bool {
    answer["outcome"]["success"].is_object()
}

#[tokio::test]
async fn what_was_answered_while_the_worker_stood_still_is_read_before_anything_is_late() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut program = Program::start(&["--max-concurrent-handlers", "24"]);
    for no in 0..24 {
        // Each answers with a third of what a pipe holds: most of them wait until the worker reads.
        let context = json!({"runs": path("runs"), "gate": path("gate"), "done": path("done"), "bytes": 20_000});
        program.send(&RunStep { timeout_seconds: 4, ..step(no, "large_after", context) });
    }
    until("all run", || runs(&path("runs")).len() == 24).await;
    program.signal(Signal::SIGSTOP);
    std::fs::write(path("gate"), "").unwrap();
    until("all are done", || std::fs::read_to_string(path("done")).unwrap_or_default().lines().count() == 24).await;
    // The pause itself is what is tested.
    tokio::time::sleep(PAUSE).await;
    program.signal(Signal::SIGCONT);
    let answers: Vec<Value> = (0..24).map(|_| program.receive()).collect();
    assert!(answers.iter().all(is_success), "{answers:#?}");
    assert_eq!(runs(&path("runs")).len(), 24, "none ran twice");
    program.end();
}

#[tokio::test]
async fn steps_whose_processes_stood_still_too_get_the_time_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let notes = folder.path().join("runs");
    let mut program = Program::start(&[]);
    // It needs more than a second in which it runs.
    program.send(&RunStep { timeout_seconds: 4, ..step(0, "count", json!({"runs": notes, "naps": 30})) });
    until("it runs", || runs(&notes).len() == 1).await;
    let child = nix::unistd::Pid::from_raw(runs(&notes)[0].1);
    program.signal(Signal::SIGSTOP);
    nix::sys::signal::kill(child, Signal::SIGSTOP).unwrap();
    tokio::time::sleep(PAUSE).await;
    program.signal(Signal::SIGCONT);
    nix::sys::signal::kill(child, Signal::SIGCONT).unwrap();
    assert!(is_success(&program.receive()));
    assert_eq!(runs(&notes).len(), 1);
    program.end();
}

#[tokio::test]
async fn a_step_that_hangs_is_late_after_a_pause_too() {
    let folder = tempfile::TempDir::new().unwrap();
    let notes = folder.path().join("runs");
    let mut program = Program::start(&[]);
    program.send(&RunStep { timeout_seconds: 1, ..step(0, "hang", json!({"runs": notes})) });
    until("it runs", || runs(&notes).len() == 1).await;
    program.signal(Signal::SIGSTOP);
    tokio::time::sleep(PAUSE).await;
    program.signal(Signal::SIGCONT);
    assert_eq!(program.receive()["outcome"]["failure"]["error_type"], "timeout");
    program.end();
}

#[tokio::test]
async fn a_drain_does_not_end_during_a_pause() {
    let folder = tempfile::TempDir::new().unwrap();
    let (notes, gate) = (folder.path().join("runs"), folder.path().join("gate"));
    let mut program = Program::start(&["--drain-timeout", "3"]);
    program.send(&step(0, "wait", json!({"runs": notes, "gate": gate})));
    until("it runs", || runs(&notes).len() == 1).await;
    program.signal(Signal::SIGTERM);
    program.logged("waiting at most 3 s for 1 running steps");
    program.signal(Signal::SIGSTOP);
    std::fs::write(&gate, "").unwrap();
    tokio::time::sleep(PAUSE).await;
    program.signal(Signal::SIGCONT);
    assert!(is_success(&program.receive()));
    program.end();
}
