//! What odd handlers are answered, by real processes over their pipes: each at once, and each as itself.

#![allow(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "a test ends at the first surprise")]

#[path = "../../runtime/tests/common/mod.rs"]
mod common;

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    fs::File,
    future::pending,
    io::{BufRead, BufReader, Write},
    process::{Child, Command},
};

use common::{Rig, step};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tasker_sdk::{PermanentError, RetryableError, StepContext, StepError, StepResult, Worker};
use tasker_wire::{Outcome, limits, outcome::Failure};
use tasker_worker::WorkerSettings;

/// An error as it comes.
#[derive(Debug)]
enum Odd {
    Panics,
    Refuses,
    Long,
    Endless,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panics => panic!("no text"),
            Self::Refuses => f.write_str("begun").and(Err(fmt::Error)),
            Self::Long => f.write_str(&"é".repeat(10_000_000)),
            Self::Endless => f.write_str("round"),
        }
    }
}

impl Error for Odd {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        matches!(self, Self::Endless).then_some(&Self::Endless)
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

struct PanicsInJson;

impl Serialize for PanicsInJson {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("no JSON");
    }
}

fn by_pair() -> BTreeMap<(u8, u8), u8> {
    [((1, 2), 3)].into()
}

type Answer = Result<StepResult, StepError>;

/// This test is the worker's program too: started by [`worker`], it runs the handlers.
#[test]
fn odd_handlers() {
    if std::env::var_os("TASKER_PIPES").is_none() {
        return;
    }
    Worker::new()
        .handler("odd", |context: StepContext| odd(context.get_input("kind").as_str().unwrap().to_owned()))
        .handler("waits", waits)
        .handler("waits_and_bursts", waits_and_bursts)
        .handler("listens", listens)
        .handler("ok", |_| async { Ok::<_, StepError>(json!({"ok": true})) })
        .run();
}

async fn odd(kind: String) -> Answer {
    let declined = || PermanentError::new("declined").with_code("card");
    Err(match kind.as_str() {
        "panics" => Odd::Panics.into(),
        "refuses" => Odd::Refuses.into(),
        "long" => Odd::Long.into(),
        "endless" => Odd::Endless.into(),
        "long_permanent" => PermanentError::new("x".repeat(20_000_000)).with_code("c".repeat(20_000_000)).into(),
        "pairs" => declined().with_context(by_pair()).into(),
        "panicking_context" => declined().with_context(PanicsInJson).into(),
        "nan" => declined().with_context(json!({"ratio": f64::NAN})).into(),
        "large_context" => declined().with_context(json!({"a": "x".repeat(20_000_000), "b": 1})).into(),
        "long_pause" => RetryableError::new("busy").retry_after(std::time::Duration::MAX).into(),
        "own_type" => StepError::new(Failure {
            delay_seconds: Some(f64::NAN),
            context: Some(json!("a\0b")),
            ..Failure::permanent("mine", "m".repeat(5000))
        }),
        "long_panic" => panic!("{}", "p".repeat(20_000_000)),
        "odd_panic" => std::panic::panic_any(7),
        "bomb" => std::panic::panic_any(Bomb),
        "panicking_result" => return Ok(StepResult::success(PanicsInJson, ())),
        "pair_result" => return Ok(StepResult::success(by_pair(), ())),
        "pair_metadata" => return Ok(StepResult::success(1, by_pair())),
        "panicking_metadata" => return Ok(StepResult::success(1, PanicsInJson)),
        "large_metadata" => return Ok(StepResult::success(1, json!({"a": "x".repeat(20_000_000)}))),
        "own_failure" => return Ok(StepResult::failure(Failure::retryable("mine", "m".repeat(20_000_000)))),
        other => panic!("{other}"),
    })
}

/// Tells by heartbeats that it waits, and again that it was dropped.
async fn waits(context: StepContext) -> Answer {
    let _dropped = Beats(context.clone());
    context.heartbeat();
    pending().await
}

struct Beats(StepContext);

impl Drop for Beats {
    fn drop(&mut self) {
        assert!(!self.0.heartbeat(), "it is to stop");
    }
}

async fn waits_and_bursts(context: StepContext) -> Answer {
    let _bomb = Bomb;
    context.heartbeat();
    pending().await
}

/// What it spawned beats when it hears of the stop.
async fn listens(context: StepContext) -> Answer {
    let spawned = context.clone();
    tokio::spawn(async move {
        spawned.heartbeat();
        spawned.cancelled().await;
        assert!(spawned.is_cancelled());
        spawned.heartbeat();
    });
    pending().await
}

/// The command of this program as a worker.
fn command() -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    [&program, "--exact", "odd_handlers", "--nocapture"].map(str::to_owned).into()
}

async fn rig() -> Rig {
    Rig::with(&command().join(" "), WorkerSettings::new("test")).await
}

async fn outcome(rig: &Rig, kind: &str) -> Outcome {
    let no = rig.fresh_number();
    rig.steps.put([step(no, "odd", json!({ "kind": kind }))]);
    rig.answer(no).await.outcome
}

async fn failure(rig: &Rig, kind: &str) -> Failure {
    match outcome(rig, kind).await {
        Outcome::Failure(failure) => failure,
        other => panic!("{kind}: {other:?}"),
    }
}

#[tokio::test]
async fn an_error_that_has_no_text_or_a_long_one_stays_the_error_that_it_is() {
    let rig = rig().await;
    let panics = failure(&rig, "panics").await;
    assert!(panics.message.starts_with("a ") && panics.message.ends_with("Odd that has no text"), "{}", panics.message);
    assert_eq!(failure(&rig, "refuses").await.message, "begun");
    let long = failure(&rig, "long").await;
    assert!(long.message.starts_with("éé") && long.message.ends_with("é…"));
    assert_eq!(long.message.chars().count(), limits::ERROR_CHARS);
    let endless = failure(&rig, "endless").await;
    assert_eq!(endless.context.as_ref().unwrap()["causes"].as_array().unwrap().len(), 16);
    for other in [panics, long, endless] {
        assert_eq!((other.error_type.as_str(), other.retryable), ("handler_error", true));
    }
    let permanent = failure(&rig, "long_permanent").await;
    assert_eq!((permanent.error_type.as_str(), permanent.retryable), ("permanent_error", false));
    assert_eq!(permanent.message, "x".repeat(limits::ERROR_CHARS - 1) + "…");
    assert_eq!(permanent.error_code.unwrap(), "c".repeat(limits::ERROR_CHARS - 1) + "…");
    rig.finish().await;
}

#[tokio::test]
async fn a_context_that_does_not_serialize_or_is_too_large_does_not_change_its_error() {
    let rig = rig().await;
    for (kind, context) in [
        ("pairs", json!({"left_out": "it is not JSON: key must be a string"})),
        ("panicking_context", json!({"left_out": "it is not JSON: its Serialize panicked"})),
        ("nan", json!({"ratio": null})),
    ] {
        let failure = failure(&rig, kind).await;
        assert_eq!(
            (failure.message.as_str(), failure.error_type.as_str(), failure.retryable),
            ("declined", "permanent_error", false)
        );
        assert_eq!((failure.error_code.as_deref(), failure.context), (Some("card"), Some(context)));
    }
    let large = failure(&rig, "large_context").await;
    assert_eq!((large.message.as_str(), large.retryable), ("declined", false));
    assert!(large.context.unwrap().to_string().len() <= limits::METADATA_BYTES);
    let busy = failure(&rig, "long_pause").await;
    assert_eq!((busy.error_type.as_str(), busy.retryable, busy.delay_seconds), ("retryable_error", true, Some(86400.0)));
    let own = failure(&rig, "own_type").await;
    assert_eq!((own.error_type.as_str(), own.retryable, own.delay_seconds), ("mine", false, None));
    assert_eq!((own.message.chars().count(), own.context), (limits::ERROR_CHARS, Some(json!("a\u{fffd}b"))));
    rig.finish().await;
}

#[tokio::test]
async fn a_panic_of_any_kind_is_a_failure_of_its_step_alone() {
    let rig = rig().await;
    for (kind, message) in [
        ("odd_panic", "the handler panicked: without a message"),
        ("bomb", "the handler panicked: without a message"),
        ("panicking_result", "the handler panicked: no JSON"),
    ] {
        let failure = failure(&rig, kind).await;
        assert_eq!(
            (failure.message.as_str(), failure.error_type.as_str(), failure.retryable),
            (message, "handler_panicked", true)
        );
    }
    let long = failure(&rig, "long_panic").await;
    assert!(long.message.starts_with("the handler panicked: ppp"));
    assert_eq!((long.error_type.as_str(), long.message.chars().count()), ("handler_panicked", limits::ERROR_CHARS));
    rig.finish().await;
}

#[tokio::test]
async fn metadata_that_does_not_serialize_leaves_a_success_and_a_result_is_invalid() {
    let rig = rig().await;
    for (kind, metadata) in [
        ("pair_metadata", "it is not JSON: key must be a string"),
        ("panicking_metadata", "it is not JSON: its Serialize panicked"),
        ("large_metadata", "xxx"),
    ] {
        let Outcome::Success { result, metadata: Some(kept), .. } = outcome(&rig, kind).await else { panic!("{kind}") };
        assert_eq!(result.get(), "1");
        assert!(kept.get().contains(metadata) && kept.get().len() <= limits::METADATA_BYTES, "{kind}");
    }
    let pairs = failure(&rig, "pair_result").await;
    assert_eq!((pairs.error_type.as_str(), pairs.retryable), ("invalid_result", false));
    let own = failure(&rig, "own_failure").await;
    assert_eq!((own.error_type.as_str(), own.retryable, own.message.chars().count()), ("mine", true, limits::ERROR_CHARS));
    rig.finish().await;
}

/// A worker without the runtime: this test holds the other ends of its pipes.
struct Piped {
    process: Child,
    steps: File,
    answers: BufReader<File>,
}

impl Piped {
    fn start() -> Self {
        let (child_in, to_child) = nix::unistd::pipe().unwrap();
        let (from_child, child_out) = nix::unistd::pipe().unwrap();
        let words = command();
        let pipes = format!("{},{}", std::os::fd::AsRawFd::as_raw_fd(&child_in), std::os::fd::AsRawFd::as_raw_fd(&child_out));
        let process = Command::new(&words[0]).args(&words[1..]).env("TASKER_PIPES", pipes).spawn().unwrap();
        let mut piped = Self { process, steps: to_child.into(), answers: BufReader::new(from_child.into()) };
        assert!(piped.receive()["ready"].is_object());
        piped
    }

    fn send(&mut self, line: &str) {
        self.steps.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn start_step(&mut self, id: u64, callable: &str) {
        let step = serde_json::to_value(step(0, callable, json!({}))).unwrap();
        self.send(&json!({ "id": id, "step": step }).to_string());
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_stop_drops_the_handler_and_the_step_is_released() {
    let mut worker = Piped::start();
    worker.start_step(1, "waits");
    assert_eq!(worker.receive(), json!({"id": 1, "heartbeat": {}}), "it waits");
    worker.send(r#"{"id":1,"stop":{}}"#);
    assert_eq!(worker.receive(), json!({"id": 1, "heartbeat": {}}), "it is dropped");
    assert_eq!(worker.receive(), json!({"id": 1, "outcome": {"released": {}}}));
    worker.start_step(2, "waits_and_bursts");
    assert_eq!(worker.receive(), json!({"id": 2, "heartbeat": {}}));
    worker.send(r#"{"id":2,"stop":{}}"#);
    assert_eq!(worker.receive()["outcome"]["failure"]["message"], "the handler panicked: dropped");
}

#[test]
fn what_a_handler_spawned_hears_of_the_stop() {
    let mut worker = Piped::start();
    worker.start_step(1, "listens");
    assert_eq!(worker.receive(), json!({"id": 1, "heartbeat": {}}));
    worker.send(r#"{"id":1,"stop":{}}"#);
    let mut answers = [worker.receive(), worker.receive()].map(|answer| answer.to_string());
    answers.sort();
    assert_eq!(answers, [r#"{"heartbeat":{},"id":1}"#, r#"{"id":1,"outcome":{"released":{}}}"#]);
}

#[test]
fn what_a_worker_does_not_know_is_ignored_and_a_step_that_it_cannot_read_is_a_failure() {
    let mut worker = Piped::start();
    for line in [r#"{"pause":3}"#, r#"{"id":4,"pause":{}}"#, "[]", "7", "null", "not JSON", r#"{"id":9,"stop":{}}"#, ""] {
        worker.send(line);
    }
    worker.send(r#"{"id":1,"step":{"v":1}}"#);
    let failure = &worker.receive()["outcome"]["failure"];
    assert_eq!((&failure["error_type"], &failure["retryable"]), (&json!("invalid_input"), &json!(false)));
    assert!(failure["message"].as_str().unwrap().contains("missing field"), "{failure}");
    worker.start_step(2, "ok");
    assert_eq!(worker.receive(), json!({"id": 2, "outcome": {"success": {"result": {"ok": true}}}}));
}
