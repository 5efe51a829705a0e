//! The life cycle of a worker: it starts or reports why not, receives no more than it can run, loses no outcome, and drains.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{os::fd::AsRawFd, sync::atomic::Ordering, time::Duration};

use common::{Rig, is_answer, python, receipt, reported, runs, step, until};
use serde_json::json;
use tasker_queue::Disposition;
use tasker_wire::Outcome;
use tasker_worker::{Executor, Stats, WorkerSettings};

async fn start_error(command: &str) -> String {
    // Only the one that sleeps is to run into it.
    let ready_timeout = if command.starts_with("sleep") { Duration::from_millis(500) } else { Duration::from_secs(60) };
    let settings = WorkerSettings { ready_timeout, ..WorkerSettings::new("shop") };
    Executor::child(command.parse().unwrap(), &settings).await.expect_err("it cannot start").to_string()
}

#[tokio::test]
async fn a_command_that_is_no_worker_is_refused_with_one_sentence() {
    for (command, said) in [
        ("no-such-program --x", "worker shop: the program of `no-such-program --x` was not found"),
        ("/", "worker shop: `/` cannot be started"),
        (
            "sh -c 'echo what a pity >&2; exit 7'",
            "ended before it was ready: it exited with status 7; run the command by hand to see why; it wrote: what a pity",
        ),
        ("true", "without an error; does it call its SDK's run()?"),
        ("sleep 3600", "was not ready within 0.5 s"),
        ("sh -c 'echo hello >&4; sleep 3600'", "wrote `hello` instead of its ready line"),
        (
            r#"sh -c 'echo "{\"ready\":{\"protocol\":2}}" >&4; sleep 3600'"#,
            "speaks version 2 of the worker protocol, and this program version 1",
        ),
        ("sh -c 'exec 4>&-; sleep 3600'", "closed its pipes before it was ready"),
    ] {
        let error = start_error(command).await;
        assert!(error.contains(said), "{command}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn it_tells_which_handlers_the_child_has() {
    let executor = Executor::child(python("steps.py").parse().unwrap(), &WorkerSettings::new("test")).await.unwrap();
    assert!(executor.handlers().contains(&"ok".to_owned()));
    executor.close().await;
}

#[tokio::test]
async fn a_child_inherits_its_five_descriptors_and_nothing_else() {
    let leaked = nix::unistd::dup(std::io::stderr()).unwrap();
    let rig = Rig::start().await;
    rig.steps.put([step(0, "descriptors", json!({}))]);
    // The sixth is the folder that the handler reads.
    assert_eq!(rig.success(0).await, json!({"open": [0, 1, 2, 3, 4, 5]}), "we had {} open", leaked.as_raw_fd());
    rig.finish().await;
}

#[tokio::test]
async fn a_thousand_steps_on_one_slow_child_run_once_each_and_wait_in_the_queue() {
    let settings = WorkerSettings { max_concurrent_handlers: 2, ..WorkerSettings::new("test") };
    let rig = Rig::with(&python("steps.py"), settings).await;
    let notes = rig.path("runs");
    rig.steps.put((0..1000).map(|no| step(no, "ok", json!({ "runs": notes }))));
    rig.steps.close();
    let (steps, outcomes) = (rig.steps.clone(), rig.outcomes.clone());
    outcomes.wait_for("all answers", |received| (received.len() == 1000).then_some(())).await;
    assert_eq!(runs(&notes).len(), 1000);
    assert!(steps.most_held.load(Ordering::SeqCst) <= 2);
    assert!(outcomes.received.lock().unwrap().iter().all(|c| c.attempt == 1 && matches!(c.outcome, Outcome::Success { .. })));
    assert_eq!(rig.ended().await, Stats { answered: 1000, abandoned: 0 });
}

#[tokio::test]
async fn a_shutdown_waits_for_what_runs_and_takes_nothing_more() {
    let rig = Rig::start().await;
    let gate = rig.path("gate");
    rig.steps.put([reported(step(0, "wait", json!({ "gate": gate })))]);
    rig.started(0).await;
    rig.shutdown.cancel();
    tokio::task::yield_now().await;
    rig.steps.put([step(1, "ok", json!({}))]);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.success(0).await, json!({"waited": true}));
    let steps = rig.steps.clone();
    assert_eq!(rig.ended().await, Stats { answered: 1, abandoned: 0 });
    assert_eq!(steps.waiting(), 1);
}

#[tokio::test]
async fn a_shutdown_gives_up_after_its_time_and_leaves_no_process() {
    let settings = WorkerSettings { drain_timeout: Duration::from_millis(50), ..WorkerSettings::new("test") };
    let rig = Rig::with(&python("steps.py"), settings).await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "hang", json!({ "runs": notes }))]);
    until("it hangs", || runs(&notes).len() == 1).await;
    let pid = runs(&notes)[0].1;
    rig.shutdown.cancel();
    let steps = rig.steps.clone();
    assert_eq!(rig.ended().await, Stats { answered: 0, abandoned: 1 });
    assert!(!common::is_alive(pid));
    assert_eq!(*steps.extended.lock().unwrap(), [(receipt(0), Duration::ZERO)], "it is given back");
    assert!(steps.settled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn dropping_the_worker_kills_the_child() {
    let rig = Rig::start().await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "hang", json!({ "runs": notes }))]);
    until("it hangs", || runs(&notes).len() == 1).await;
    let pid = runs(&notes)[0].1;
    rig.abort();
    until("the child is gone", || !common::is_alive(pid)).await;
}

#[tokio::test]
async fn an_outcome_that_the_queue_refuses_is_offered_until_it_is_accepted() {
    let rig = Rig::start().await;
    rig.outcomes.refusals.store(3, Ordering::SeqCst);
    rig.steps.put([step(0, "ok", json!({})), step(1, "ok", json!({}))]);
    rig.success(0).await;
    rig.success(1).await;
    let steps = rig.steps.clone();
    assert_eq!(rig.finish().await, Stats { answered: 2, abandoned: 0 });
    let mut settled = std::mem::take(&mut *steps.settled.lock().unwrap());
    settled.sort_by_key(|(receipt, _)| receipt.id.clone());
    assert_eq!(settled, [0, 1].map(|no| (receipt(no), Disposition::Done)));
    assert!(steps.extended.lock().unwrap().is_empty());
}

#[tokio::test]
async fn starts_and_heartbeats_are_reported_for_steps_that_ask_for_it_and_not_too_often() {
    let rig = Rig::start().await;
    rig.steps.put([reported(step(0, "beat", json!({}))), step(1, "beat", json!({}))]);
    rig.success(0).await;
    rig.success(1).await;
    let outcomes = rig.outcomes.clone();
    rig.finish().await;
    let received = outcomes.received.lock().unwrap();
    let of = |no: i32| received.iter().filter(move |c| c.step_id.no == no);
    assert_eq!(of(0).filter(|c| matches!(c.outcome, Outcome::Started {})).count(), 1);
    assert_eq!(of(0).filter(|c| matches!(c.outcome, Outcome::Heartbeat {})).count(), 1);
    assert_eq!(of(1).filter(|c| !is_answer(c)).count(), 0);
    assert!(matches!(of(0).next().unwrap().outcome, Outcome::Started {}), "the start comes first");
}

#[tokio::test]
async fn errors_of_the_sdk_arrive_as_failures() {
    let rig = Rig::start().await;
    rig.steps.put([step(0, "fail", json!({"permanent": true})), step(1, "fail", json!({})), step(2, "nobody", json!({}))]);
    let permanent = rig.failure(0).await;
    assert_eq!(
        (permanent.error_type.as_str(), permanent.retryable, permanent.message.as_str()),
        ("permanent_error", false, "never")
    );
    let retryable = rig.failure(1).await;
    assert_eq!(
        (retryable.error_type.as_str(), retryable.retryable, retryable.delay_seconds),
        ("retryable_error", true, Some(2.0))
    );
    assert_eq!(rig.failure(2).await.error_type, "handler_not_found");
    rig.finish().await;
}

#[tokio::test]
async fn a_context_over_several_lines_reaches_the_handler() {
    let rig = Rig::start().await;
    let mut pretty = step(0, "ok", json!({}));
    pretty.context = serde_json::from_str("{\r\n  \"a\": \"b\"\n}").unwrap();
    rig.steps.put([pretty]);
    assert_eq!(rig.success(0).await, json!({"attempt": 1}));
    rig.finish().await;
}
