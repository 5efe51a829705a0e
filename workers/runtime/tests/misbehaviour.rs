//! What handlers and their processes can do wrong: each is an ordinary failure of its own step, and of no other.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::time::Duration;

use common::{Rig, is_alive, python, reported, runs, step, until};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::json;
use tasker_wire::RunStep;
use tasker_worker::WorkerSettings;

#[tokio::test]
async fn a_step_that_exits_three_times_alone_is_blamed_and_the_next_one_runs() {
    let rig = Rig::start().await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "exit", json!({ "runs": notes }))]);
    let failure = rig.failure(0).await;
    assert_eq!((failure.error_type.as_str(), failure.retryable), ("worker_crashed", true));
    assert!(failure.message.contains("3 times") && failure.message.contains("exited with status 3"), "{}", failure.message);
    assert!(failure.context.unwrap()["stderr"].to_string().contains("I exit now"));
    assert_eq!(runs(&notes).len(), 3);
    rig.steps.put([step(1, "ok", json!({}))]);
    assert_eq!(rig.success(1).await, json!({"attempt": 1}));
    rig.finish().await;
}

#[tokio::test]
async fn a_step_that_gets_its_process_killed_is_told_by_which_signal() {
    let rig = Rig::start().await;
    rig.steps.put([step(0, "kill", json!({}))]);
    let failure = rig.failure(0).await;
    assert!(failure.message.contains("signal 9 (SIGKILL)"), "{}", failure.message);
    rig.finish().await;
}

#[tokio::test]
async fn a_step_over_its_time_is_blamed_and_its_neighbour_runs_again_under_the_same_attempt() {
    let rig = Rig::start().await;
    let (notes, gate) = (rig.path("runs"), rig.path("gate"));
    rig.steps.put([step(0, "wait", json!({ "runs": notes, "gate": gate }))]);
    until("the neighbour runs", || runs(&notes).len() == 1).await;
    rig.steps.put([RunStep { timeout_seconds: 1, ..step(1, "hang", json!({})) }]);
    let failure = rig.failure(1).await;
    assert_eq!((failure.error_type.as_str(), failure.retryable), ("timeout", true));
    until("the neighbour's second run", || runs(&notes).len() == 2).await;
    std::fs::write(&gate, "").unwrap();
    let neighbour = rig.answer(0).await;
    assert_eq!((neighbour.lease, neighbour.attempt, neighbour.token.as_str()), (1, 1, "token 0"));
    assert_eq!(rig.success(0).await, json!({"waited": true}));
    rig.finish().await;
}

#[tokio::test]
async fn heartbeats_do_not_lengthen_a_step_s_time() {
    let rig = Rig::start().await;
    rig.steps.put([RunStep { timeout_seconds: 1, ..reported(step(0, "beat_for_ever", json!({}))) }]);
    assert_eq!(rig.failure(0).await.error_type, "timeout");
    rig.finish().await;
}

#[tokio::test]
async fn when_a_child_dies_with_two_in_flight_only_the_one_that_kills_it_alone_is_blamed() {
    let rig = Rig::start().await;
    let (notes, gate) = (rig.path("runs"), rig.path("gate"));
    rig.steps.put([
        step(0, "wait", json!({ "runs": notes, "gate": gate })),
        step(1, "exit_after", json!({ "runs": notes, "gate": gate })),
    ]);
    until("both run", || runs(&notes).len() == 2).await;
    std::fs::write(&gate, "").unwrap();
    let failure = rig.failure(1).await;
    assert_eq!(failure.error_type, "worker_crashed");
    assert_eq!(rig.success(0).await, json!({"waited": true}));
    let of = |name: &str| runs(&notes).iter().filter(|(step, _)| step == name).count();
    // The first may have answered before the process died of the second; if not, it ran again.
    assert!(of("step_0") <= 2, "{}", of("step_0"));
    assert!((3..=4).contains(&of("step_1")), "{}", of("step_1"));
    rig.finish().await;
}

#[tokio::test]
async fn a_child_killed_from_outside_is_replaced_and_its_step_runs_again() {
    let rig = Rig::start().await;
    let (notes, gate) = (rig.path("runs"), rig.path("gate"));
    rig.steps.put([step(0, "wait", json!({ "runs": notes, "gate": gate }))]);
    until("it runs", || runs(&notes).len() == 1).await;
    nix::sys::signal::kill(Pid::from_raw(runs(&notes)[0].1), Signal::SIGKILL).unwrap();
    until("it runs again", || runs(&notes).len() == 2).await;
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.success(0).await, json!({"waited": true}));
    assert_eq!(rig.answer(0).await.attempt, 1);
    rig.finish().await;
}

#[tokio::test]
async fn an_idle_child_that_is_killed_is_replaced() {
    let rig = Rig::start().await;
    let notes = rig.path("runs");
    rig.steps.put([step(0, "ok", json!({ "runs": notes }))]);
    rig.success(0).await;
    let pid = runs(&notes)[0].1;
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("it is gone", || !is_alive(pid)).await;
    rig.steps.put([step(1, "ok", json!({}))]);
    assert_eq!(rig.success(1).await, json!({"attempt": 1}));
    rig.finish().await;
}

#[tokio::test]
async fn a_protocol_violation_counts_as_a_death_and_its_reason_is_logged() {
    for (callable, reason) in [
        ("garbage", "not in the worker protocol: `this is not of the protocol`"),
        ("unknown_number", "answered step number 999999"),
        ("held_of_unknown_number", "whether it has step number 999999"),
        ("endless_line", "a line of more than"),
        ("close_pipes", "closed its pipes"),
    ] {
        let rig = Rig::start().await;
        let notes = rig.path("runs");
        rig.steps.put([step(0, callable, json!({ "runs": notes }))]);
        let failure = rig.failure(0).await;
        assert_eq!(failure.error_type, "worker_crashed", "{callable}");
        assert!(failure.message.contains(reason), "{callable}: {}", failure.message);
        assert_eq!(runs(&notes).len(), 3, "{callable}");
        rig.finish().await;
    }
}

#[tokio::test]
async fn an_invalid_outcome_fails_its_step_permanently_but_a_failure_with_a_slip_is_that_failure() {
    let rig = Rig::with(&python("bare.py"), WorkerSettings::new("test")).await;
    let bad = [r#"{"victory":{}}"#, r#"{"success":{}}"#, "7", r#"{"failure":"m"}"#, "null"];
    rig.steps.put(bad.iter().enumerate().map(|(no, outcome)| step(no as i32, outcome, json!({}))));
    for no in 0..bad.len() as i32 {
        let failure = rig.failure(no).await;
        assert_eq!((failure.error_type.as_str(), failure.retryable), ("invalid_outcome", false), "{}", bad[no as usize]);
    }
    let slip = r#"{"failure":{"message":"declined","retryable":false,"error_code":42}}"#;
    rig.steps.put([step(99, slip, json!({})), step(100, r#"{"success":{"result":[1,2]}}"#, json!({}))]);
    assert_eq!(rig.success(100).await, json!([1, 2]));
    let failure = rig.failure(99).await;
    assert_eq!((failure.message.as_str(), failure.error_code.as_deref(), failure.retryable), ("declined", Some("42"), false));
    rig.finish().await;
}

#[tokio::test]
async fn a_failure_of_20_mb_stays_the_failure_that_it_is_and_its_process_lives_on() {
    let rig = Rig::with(&python("bare.py"), WorkerSettings::new("test")).await;
    let long = [
        r#"{"failure":{"message":"<20 MB>","error_type":"mine","retryable":true,"error_code":"c"}}"#,
        r#"{"failure":{"retryable":true,"error_code":"c","context":{"a":["<20 MB>"]},"error_type":"mine","message":"xx"}}"#,
        r#"{"failure":{"context":["<20 MB>",NaN],"error_code":"c","message":"x<byte>","error_type":"mine","retryable":true}}"#,
        r#"{"failure":{"context":[NaN],"error_code":"c","message":"x\ud800\u0078","error_type":"mine","retryable":true}}"#,
    ];
    let which = r#"{"success":{"result":<pid>}}"#;
    rig.steps.put([step(100, which, json!({}))]);
    let pid = rig.success(100).await;
    rig.steps.put(long.iter().enumerate().map(|(no, outcome)| step(no as i32, outcome, json!({}))));
    for no in 0..long.len() as i32 {
        let failure = rig.failure(no).await;
        assert_eq!((failure.error_type.as_str(), failure.error_code.as_deref()), ("mine", Some("c")), "{failure:?}");
        assert!(failure.retryable && failure.message.starts_with('x') && failure.message.chars().count() <= 4000);
    }
    rig.steps.put([step(101, r#"{"success":{"result":"<20 MB>"}}"#, json!({})), step(102, which, json!({}))]);
    assert_eq!(rig.failure(101).await.error_type, "result_too_large");
    assert_eq!(rig.success(102).await, pid);
    rig.finish().await;
}

#[tokio::test]
async fn odd_failures_of_the_python_sdk_arrive_as_themselves() {
    let sdk = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let command = format!("PYTHONPATH={0}/src python3 -m tasker_worker {0}/tests/odd_handlers.py", sdk.display());
    let rig = Rig::with(&command, WorkerSettings::new("test")).await;
    for (no, (callable, error_type, retryable, words)) in [
        ("timedelta", "retryable_error", true, "busy"),
        ("mute", "handler_error", true, "Mute: <Mute>"),
        ("text_as_context", "permanent_error", false, "declined"),
        ("datetime", "retryable_error", true, "busy"),
        ("surrogate", "retryable_error", true, "no such file: caf\u{fffd}.csv"),
        ("nan", "retryable_error", true, "busy"),
        ("decimal", "permanent_error", false, "declined"),
        ("mixed", "permanent_error", false, "declined"),
        ("deep", "permanent_error", false, "declined"),
        ("large_text", "permanent_error", false, "xxx"),
        ("large_context", "permanent_error", false, "declined"),
        ("always_changing", "invalid_result", true, "another thread changed"),
    ]
    .into_iter()
    .enumerate()
    {
        rig.steps.put([step(no as i32, callable, json!({}))]);
        let failure = rig.failure(no as i32).await;
        assert_eq!((failure.error_type.as_str(), failure.retryable), (error_type, retryable), "{callable}");
        assert!(failure.message.starts_with(words), "{callable}: {}", failure.message);
        let left_out = failure.context.is_some_and(|context| context.get("left_out").is_some());
        assert!(!left_out, "{callable}: the runtime could read the context");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_result_of_10_mb_passes_and_one_above_the_line_limit_fails_as_too_large() {
    let rig = Rig::start().await;
    rig.steps.put([step(0, "large", json!({"bytes": 10_000_000}))]);
    assert_eq!(rig.success(0).await["text"].as_str().unwrap().len(), 10_000_000);
    let gate = rig.path("gate");
    rig.steps.put([reported(step(1, "wait", json!({ "gate": gate }))), step(2, "large", json!({"bytes": 20_000_000}))]);
    let failure = rig.failure(2).await;
    assert_eq!((failure.error_type.as_str(), failure.retryable), ("result_too_large", false));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.success(1).await, json!({"waited": true}));
    rig.finish().await;
}

#[tokio::test]
async fn a_flood_of_200_mb_of_log_lines_delays_no_step_and_memory_stays_bounded() {
    let rig = Rig::start().await;
    let before = resident_bytes();
    rig.steps.put([step(0, "flood", json!({})), step(1, "ok", json!({}))]);
    assert_eq!(rig.success(1).await, json!({"attempt": 1}));
    assert_eq!(rig.success(0).await, json!({"flooded": true}));
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "grew by {grown} bytes");
    rig.finish().await;
}

#[tokio::test]
async fn what_a_handler_started_dies_with_its_process() {
    let rig = Rig::start().await;
    let file = rig.path("pid");
    rig.steps.put([step(0, "grandchild", json!({ "pid_file": file }))]);
    assert_eq!(rig.failure(0).await.error_type, "worker_crashed");
    let pid: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    until("the grandchild is gone", || !is_alive(pid)).await;
    rig.finish().await;
}

#[tokio::test]
async fn steps_wait_while_the_child_cannot_start_and_run_once_it_can() {
    let folder = tempfile::TempDir::new().unwrap();
    let (broken, starts) = (folder.path().join("broken"), folder.path().join("starts"));
    let (shown_broken, shown_starts) = (broken.display(), starts.display());
    let script = format!("echo >> {shown_starts}; if [ -e {shown_broken} ]; then exit 1; fi; exec {}", python("steps.py"));
    let settings = WorkerSettings { restart_pause: Duration::from_millis(5), ..WorkerSettings::new("test") };
    let rig = Rig::with(&format!("sh -c '{script}'"), settings).await;
    std::fs::write(&broken, "").unwrap();
    rig.steps.put([step(0, "exit_on_first_run", json!({ "runs": rig.path("runs") }))]);
    until("it was tried again", || std::fs::read(&starts).unwrap().len() >= 4).await;
    std::fs::remove_file(&broken).unwrap();
    assert_eq!(rig.success(0).await, json!({"survived": true}));
    rig.finish().await;
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
