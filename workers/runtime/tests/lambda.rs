//! `tasker-worker` as a function of Lambda.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
mod deployed;

use std::time::Duration;

use common::{python, reported, runs, step};
use deployed::{Aws, Program, message, raw_message};
use serde_json::{Value, json};
use tasker_wire::{Outcome, RunStep, outcome::Failure};
use tempfile::TempDir;

/// More than any step of these tests takes on any machine.
const AMPLE: Duration = Duration::from_secs(900);
/// A step of one second begins in it, also where everything is slow, and the end of it can be waited for.
const SHORT: Duration = Duration::from_secs(9);
const NOTHING: [&str; 0] = [];

/// A step that has so many seconds.
fn within(seconds: u32, step: RunStep) -> RunStep {
    RunStep { timeout_seconds: seconds, ..step }
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failure(failure) => failure,
        other => panic!("it ended with {other:?}"),
    }
}

#[tokio::test]
async fn outcomes_are_sent_and_no_message_is_delivered_again_even_after_a_failure() {
    let aws = Aws::start().await;
    let _function = Program::function(&aws);
    let steps = [step(0, "ok", json!({})), step(1, "fail", json!({"permanent": true})), step(2, "no such handler", json!({}))];
    assert_eq!(aws.invoke(steps.iter().map(message), AMPLE).await, NOTHING);
    assert!(matches!(aws.outcome(0), Outcome::Success { .. }));
    assert_eq!(failure(aws.outcome(1)).message, "never");
    assert_eq!(failure(aws.outcome(2)).error_type, "handler_not_found");
    assert_eq!(aws.invoke([message(&step(3, "ok", json!({})))], AMPLE).await, NOTHING, "the child lives on");
    assert!(matches!(aws.outcome(3), Outcome::Success { .. }));
}

#[tokio::test]
async fn a_failure_of_many_megabytes_fits_the_queue_and_stays_the_failure_that_it_is() {
    let aws = Aws::start().await;
    let _function = Program::function(&aws);
    assert_eq!(aws.invoke([message(&step(0, "fail_at_length", json!({"characters": 10_000_000})))], AMPLE).await, NOTHING);
    let failure = failure(aws.outcome(0));
    assert_eq!(
        (failure.error_type.as_str(), failure.error_code.as_deref(), failure.retryable),
        ("permanent_error", Some("long"), false)
    );
    assert!(failure.message.starts_with("éé") && failure.message.ends_with("é…"));
    assert!(failure.context.unwrap()["first"].as_str().unwrap().starts_with("éé"));
}

#[tokio::test]
async fn a_message_whose_outcome_was_refused_until_the_deadline_is_answered_later_by_the_kept_outcome() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let _function = Program::function(&aws);
    let notes = folder.path().join("runs");
    let [kept, other, later] = [0, 1, 2].map(|no| within(1, step(no, "ok", json!({ "runs": notes }))));
    aws.refuse(Some("token 0"));
    assert_eq!(aws.invoke([&kept, &other].map(message), SHORT).await, ["m0"]);
    assert_eq!((aws.hidden_for("m0"), aws.hidden_for("m1")), (vec![2], vec![]), "put off, as it is not at fault");
    assert!(matches!(aws.outcome(1), Outcome::Success { .. }));
    let again = tokio::spawn({
        let (aws, messages) = (aws.clone(), [&kept, &later].map(message));
        async move { aws.invoke(messages, AMPLE).await }
    });
    aws.call("SendMessageBatch", |call| call.to_string().contains("token 2")).await;
    aws.refuse(None);
    assert_eq!(again.await.unwrap(), NOTHING);
    assert!(matches!(aws.outcome(0), Outcome::Success { .. }));
    assert_eq!(runs(&notes).len(), 3, "each once");
}

#[tokio::test]
async fn a_kept_outcome_is_sent_during_a_later_invocation_of_other_messages() {
    let aws = Aws::start().await;
    let _function = Program::function(&aws);
    aws.refuse(Some("token 0"));
    assert_eq!(aws.invoke([message(&within(1, step(0, "ok", json!({}))))], SHORT).await, ["m0"]);
    aws.refuse(None);
    assert_eq!(aws.invoke([message(&step(1, "ok", json!({})))], AMPLE).await, NOTHING);
    aws.call("SendMessageBatch", |_| aws.accepted().iter().any(|c| c.step_id.no == 0)).await;
    assert!(matches!(aws.outcome(0), Outcome::Success { .. }));
}

#[tokio::test]
async fn a_step_whose_invocation_started_with_too_little_time_is_delivered_again_later() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let _function = Program::function(&aws);
    assert_eq!(aws.invoke([message(&step(0, "ok", json!({})))], AMPLE).await, NOTHING);
    let late = step(1, "ok", json!({ "runs": folder.path().join("runs") }));
    assert_eq!(aws.invoke([message(&late)], Duration::from_secs(50)).await, ["m1"]);
    assert_eq!(aws.hidden_for("m1"), [2]);
    let mut again = raw_message("tenth", &serde_json::to_string(&late).unwrap());
    again["attributes"]["ApproximateReceiveCount"] = json!("10");
    assert_eq!(aws.invoke([again], Duration::from_secs(50)).await, ["tenth"]);
    assert_eq!(aws.hidden_for("tenth"), [20], "later each time");
    assert_eq!(aws.accepted().len(), 1, "of the other one alone");
    assert!(runs(&folder.path().join("runs")).is_empty());
}

#[tokio::test]
async fn a_step_whose_time_ran_out_while_it_waited_for_a_free_place_is_released() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let _function = Program::with(&aws, &[], &[("TASKER_MAX_CONCURRENT_HANDLERS", "1")]);
    let notes = folder.path().join("runs");
    let steps = [within(5, step(0, "hang", json!({ "runs": notes }))), within(5, step(1, "ok", json!({ "runs": notes })))];
    assert_eq!(aws.invoke(steps.iter().map(message), Duration::from_secs(13)).await, NOTHING);
    assert_eq!(failure(aws.outcome(0)).error_type, "timeout");
    assert!(matches!(aws.outcome(1), Outcome::Released {}));
    assert_eq!(runs(&notes).len(), 1);
}

#[tokio::test]
async fn a_step_that_no_invocation_could_finish_fails_for_good_and_says_what_to_do() {
    let aws = Aws::start().await;
    let _function = Program::with(&aws, &[], &[("TASKER_TIMEOUT_SECONDS", "20")]);
    assert_eq!(aws.invoke([message(&step(0, "ok", json!({})))], Duration::from_secs(20)).await, NOTHING);
    let Failure { message, error_type, retryable, .. } = failure(aws.outcome(0));
    assert_eq!((error_type.as_str(), retryable), ("timeout_exceeds_pool", false));
    assert!(message.contains("timeout_seconds (50)") && message.contains(" do not fit into the 20 s"), "{message}");
    assert!(message.contains("a pool whose function has a longer timeout") && message.contains("checkpoint"), "{message}");
}

#[tokio::test]
async fn one_dispatch_in_two_messages_is_run_once_and_answers_both() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let _function = Program::function(&aws);
    let notes = folder.path().join("runs");
    let first = step(0, "ok", json!({ "runs": notes }));
    let again = RunStep { lease: 2, ..first.clone() };
    let text = |step: &RunStep| serde_json::to_string(step).unwrap();
    let messages = [("a", &first), ("b", &first), ("c", &again)].map(|(id, step)| raw_message(id, &text(step)));
    assert_eq!(aws.invoke(messages, AMPLE).await, NOTHING);
    let leases: Vec<i32> = aws.accepted().iter().map(|complete| complete.lease).collect();
    assert_eq!((leases.len(), leases.iter().sum::<i32>()), (2, 3), "one outcome for each lease");
    assert_eq!(runs(&notes).len(), 2, "another lease is another dispatch");
}

#[tokio::test]
async fn a_malformed_message_is_settled_once_it_is_in_the_dead_letter_queue() {
    let aws = Aws::start().await;
    let _function = Program::function(&aws);
    aws.refuse(Some("stubborn"));
    let messages =
        [raw_message("gone", "nonsense"), raw_message("kept", "stubborn nonsense"), message(&step(0, "ok", json!({})))];
    assert_eq!(aws.invoke(messages, AMPLE).await, ["kept"]);
    assert_eq!((aws.hidden_for("kept"), aws.hidden_for("gone")), (vec![2], vec![]));
    let buried = aws.call("SendMessage", |call| call["MessageBody"] == "nonsense").await;
    assert!(buried["QueueUrl"].as_str().unwrap().ends_with("/t-worker-shop-dlq"), "{buried}");
    assert!(buried["MessageAttributes"]["reason"]["StringValue"].as_str().unwrap().contains("not a message of this queue"));
}

#[tokio::test]
async fn a_message_of_another_version_is_retried_and_not_dead_lettered() {
    let aws = Aws::start().await;
    let _function = Program::function(&aws);
    let messages = [raw_message("newer", r#"{"v": 3, "of": "another shape"}"#), message(&step(0, "ok", json!({})))];
    assert_eq!(aws.invoke(messages, AMPLE).await, ["newer"]);
    assert_eq!(aws.hidden_for("newer"), [2]);
    assert!(aws.calls("SendMessage").is_empty());
}

#[tokio::test]
async fn an_early_message_waits_for_the_child_within_its_own_deadline() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let (open, notes) = (folder.path().join("open"), folder.path().join("runs"));
    let line = format!("while [ ! -e '{}' ]; do sleep 0.1; done; exec {}", open.display(), python("steps.py"));
    let _function = Program::shell(&aws, &line);
    assert_eq!(aws.invoke([raw_message("gone", "nonsense")], AMPLE).await, NOTHING, "it is served already");
    let [early, waits] = [0, 1].map(|no| within(1, step(no, "ok", json!({ "runs": notes }))));
    assert_eq!(aws.invoke([message(&early)], SHORT).await, ["m0"]);
    assert_eq!((aws.accepted().len(), aws.hidden_for("m0")), (0, vec![2]), "neither released nor failed");
    let waiting = tokio::spawn({
        let (aws, message) = (aws.clone(), message(&waits));
        async move { aws.invoke([message], AMPLE).await }
    });
    std::fs::write(&open, "").unwrap();
    assert_eq!(waiting.await.unwrap(), NOTHING);
    assert!(matches!(aws.outcome(1), Outcome::Success { .. }));
    assert_eq!(runs(&notes).len(), 1, "what nobody waits for any more was not begun");
}

#[tokio::test]
async fn a_child_that_cannot_start_ends_the_process_with_its_sentence() {
    let aws = Aws::start().await;
    let (status, lines) = Program::shell(&aws, "exit 3").ended().await;
    assert_eq!(status.code(), Some(1));
    let said = lines.last().unwrap()["message"].as_str().unwrap();
    assert!(said.contains("ended before it was ready"), "{said}");
}

#[tokio::test]
async fn a_step_that_kills_its_process_is_answered_for_and_so_is_its_neighbour() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let _function = Program::function(&aws);
    let notes = folder.path().join("runs");
    let steps = [step(0, "kill", json!({ "runs": notes })), step(1, "ok", json!({}))];
    assert_eq!(aws.invoke(steps.iter().map(message), AMPLE).await, NOTHING);
    assert_eq!(failure(aws.outcome(0)).error_type, "worker_crashed");
    assert!(matches!(aws.outcome(1), Outcome::Success { .. }));
}

#[tokio::test]
async fn a_start_is_reported_to_the_queue_before_its_outcome() {
    let aws = Aws::start().await;
    let _function = Program::function(&aws);
    assert_eq!(aws.invoke([message(&reported(step(0, "ok", json!({}))))], AMPLE).await, NOTHING);
    let kinds: Vec<&str> = aws.accepted().iter().map(|complete| complete.outcome.kind()).collect();
    assert_eq!(kinds, ["started", "success"]);
}

#[tokio::test]
async fn an_event_that_is_no_message_fails_the_invocation_with_a_sentence() {
    let aws = Aws::start().await;
    let _function = Program::function(&aws);
    let (kind, answer) = aws.invoke_with(json!({"hello": "world"}), AMPLE).await;
    assert_eq!(kind, "error");
    let said = answer["errorMessage"].as_str().unwrap();
    assert!(said.starts_with("this function handles messages of its pool's queue"), "{said}");
    assert_eq!(aws.invoke([message(&step(0, "ok", json!({})))], AMPLE).await, NOTHING, "the next one is served");
}

#[tokio::test]
async fn the_child_has_the_function_s_role_and_none_of_the_runtime_s_settings() {
    let aws = Aws::start().await;
    let settings = [("TASKER_MAX_CONCURRENT_HANDLERS", "2"), ("TASKER_DATABASE_URL", "x")];
    let _function = Program::with(&aws, &[], &settings);
    let hidden =
        ["TASKER_QUEUES", "TASKER_POOL", "TASKER_MAX_CONCURRENT_HANDLERS", "TASKER_DATABASE_URL", "AWS_LAMBDA_RUNTIME_API"];
    let names = [&hidden[..], &["AWS_ACCESS_KEY_ID", "AWS_REGION"]].concat();
    aws.invoke([message(&step(0, "environment", json!({ "names": names })))], AMPLE).await;
    let Outcome::Success { result, .. } = aws.outcome(0) else { panic!() };
    let seen: Value = serde_json::from_str(result.get()).unwrap();
    assert!(hidden.iter().all(|name| seen[*name].is_null()), "{seen}");
    assert_eq!((&seen["AWS_ACCESS_KEY_ID"], &seen["AWS_REGION"]), (&json!("id"), &json!("eu-central-1")));
}

#[tokio::test]
async fn each_answered_step_is_one_log_line_with_its_ids_and_without_its_payload() {
    let aws = Aws::start().await;
    let function = Program::function(&aws);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced =
        RunStep { traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01")), ..step(0, "ok", json!({"card": "4111"})) };
    aws.invoke([&traced, &step(1, "exit", json!({}))].map(message), AMPLE).await;
    let lines = function.kill().await;
    let answered: Vec<&Value> = lines.iter().filter(|line| line["message"] == "step answered").collect();
    assert_eq!(answered.len(), 2, "{lines:#?}");
    let line = answered.iter().find(|line| line["step"] == "step_0").unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["task_id"], traced.task_id.to_string());
    assert_eq!(line["correlation_id"], traced.correlation_id.to_string());
    assert_eq!((&line["attempt"], &line["outcome"], &line["trace_id"]), (&json!(1), &json!("success"), &json!(trace)));
    assert!(line["duration_ms"].is_u64(), "{line}");
    let of_the_child = |line: &&Value| line["target"] == "worker" && line["message"] == "I exit now";
    assert!(lines.iter().any(|line| of_the_child(&line)), "{lines:#?}");
    let text = lines.iter().map(Value::to_string).collect::<String>();
    assert!(["4111", "token 0", "hidden"].iter().all(|secret| !text.contains(secret)), "{text}");
}
