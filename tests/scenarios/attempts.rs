//! The attempts of a step: how many it has, what ends them, and what is recorded of each.

use serde_json::{Value, json};
use tasker_wire::{Outcome, StepState, TaskState, outcome::Failure};

use crate::rig::{Rig, failure, permanent, success, workflow};

/// Lets a step with this retry policy fail until it is not retried. Answers how often it ran.
async fn tries(retry: Value) -> i32 {
    let rig = Rig::still().await;
    rig.register(&workflow("stubborn", json!([{"name": "a", "retry": retry}]))).await;
    let task = rig.submit("stubborn", json!({})).await;
    let mut tries = 0;
    while rig.engine.queue().waiting() > 0 {
        let run = rig.receive().await;
        tries += 1;
        assert_eq!((run.attempt, run.lease), (tries, tries));
        rig.answer(&run, failure("no")).await;
        rig.engine.sweep().await.unwrap();
    }
    assert_eq!(rig.state(task).await, TaskState::Error);
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.attempt, step.lease), (StepState::Error, tries, tries));
    let expected: Vec<Value> = (1..=tries).map(|n| json!([n, n, "failure", true])).collect();
    assert_eq!(rig.attempts(task, "a").await, expected, "each attempt left a row");
    rig.check().await;
    tries
}

#[tokio::test]
async fn max_attempts_of_0_is_read_as_1() {
    assert_eq!(tries(json!({"max_attempts": 0, "backoff": "none"})).await, 1);
}

#[tokio::test]
async fn max_attempts_of_1_is_one_try() {
    assert_eq!(tries(json!({"max_attempts": 1, "backoff": "none"})).await, 1);
}

#[tokio::test]
async fn max_attempts_of_3_is_three_tries() {
    assert_eq!(tries(json!({"max_attempts": 3, "backoff": "none"})).await, 3);
}

#[tokio::test]
async fn a_step_that_is_not_retryable_is_tried_once() {
    assert_eq!(tries(json!({"max_attempts": 3, "backoff": "none", "retryable": false})).await, 1);
}

#[tokio::test]
async fn a_failure_that_is_not_retryable_ends_the_tries() {
    let rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a", "retry": {"max_attempts": 3, "backoff": "none"}}]))).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, failure("once")).await;
    rig.engine.sweep().await.unwrap();
    rig.answer(&rig.receive().await, permanent("never")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    assert_eq!(rig.step(task, "a").await.error.unwrap()["message"], "never");
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "failure", true]), json!([2, 2, "failure", true])]);
    rig.check().await;
}

#[tokio::test]
async fn a_timeout_uses_an_attempt_and_is_tried_again() {
    let rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a", "retry": {"max_attempts": 2, "backoff": "none"}}]))).await;
    let task = rig.submit("w", json!({})).await;
    let first = rig.receive().await;
    rig.answer(&first, Outcome::Failure(Failure::retryable("timeout", "it ran longer than 30 s"))).await;
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.attempt), (StepState::WaitingForRetry, 1));
    assert_eq!(step.error.unwrap()["error_type"], "timeout", "why it waits can be seen");
    rig.engine.sweep().await.unwrap();
    let second = rig.receive().await;
    assert_eq!((second.attempt, second.max_attempts, second.lease), (2, 2, 2));
    rig.answer(&second, success(json!("in time"))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    let step = rig.step(task, "a").await;
    assert_eq!((step.result, step.error), (Some(json!("in time")), None));
    let rows = rig
        .rows(
            "select attempt, outcome, error->>'error_type' as error, worker, duration_ms, dispatched_at <= finished_at as ordered \
             from tasker.outcomes order by lease",
        )
        .await;
    let row = |attempt, outcome, error: Value| json!({"attempt": attempt, "outcome": outcome, "error": error, "worker": "scripted", "duration_ms": 1, "ordered": true});
    assert_eq!(rows, [row(1, "failure", json!("timeout")), row(2, "success", Value::Null)]);
    rig.check().await;
}
