//! A tolerated failure: the step counts as a parent that is done.

use serde_json::json;
use tasker_domain::{FailureEffect, Verdict};
use tasker_engine::{OperatorAction, OperatorError, Precondition};
use tasker_store::{Change, Completion, DispatchSettings};
use tasker_wire::{Answer, RunStep, StepState, TaskState, outcome::Failure};

use crate::{
    at_once::finds,
    rig::{Rig, by, permanent, success, template},
};

const SETTINGS: DispatchSettings = DispatchSettings { send_ms: None, bodies: 10, input_bytes: 1 << 20 };

/// The verdict that a batch's `continue_on_failure` will give.
async fn tolerate(rig: &Rig, run: &RunStep) {
    let verdict =
        Verdict::Error { failure: Failure::permanent("permanent_error", "one of many"), effect: FailureEffect::Tolerated };
    let completion = Completion::by_orchestrator(run.lease(), run.attempt, verdict);
    let changes = rig.engine.store().complete(&[completion], SETTINGS).await.unwrap();
    assert!(matches!(changes[0], Change::Answer(0, Answer::Accepted)), "{changes:?}");
    rig.engine.recover().await.unwrap();
}

#[tokio::test]
async fn a_tolerated_failure_counts_as_a_done_parent_and_the_task_is_complete() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    tolerate(&rig, &runs["a"]).await;
    let a = rig.step(task, "a").await;
    assert_eq!((a.state, a.error.unwrap()["message"].clone()), (StepState::Error, json!("one of many")));
    rig.check().await;
    rig.answer(&runs["b"], success(json!("b"))).await;
    let join = rig.receive().await;
    assert_eq!((join.dependency_results["a"].get(), join.dependency_results["b"].get()), ("null", "\"b\""));
    rig.answer(&join, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(rig.count("select count(*) from tasker.dlq_entries").await, 0);
    rig.check().await;
}

#[tokio::test]
async fn a_workflow_that_ends_with_a_tolerated_failure_is_complete() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    tolerate(&rig, &rig.receive().await).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_failure_beside_a_tolerated_one_still_fails_the_task() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    tolerate(&rig, &runs["a"]).await;
    rig.answer(&runs["b"], permanent("no")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    let entries = rig.rows("select json_array_length(snapshot->'failed_steps') as failed from tasker.dlq_entries").await;
    assert_eq!(entries, [json!({"failed": 1})]);
    rig.check().await;
}

#[tokio::test]
async fn a_tolerated_step_is_not_retried_once_its_child_was_dispatched_but_may_be_resolved() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    tolerate(&rig, &a).await;
    let refused = rig.engine.retry_step(a.step_id, by("again")).await.unwrap_err();
    assert!(matches!(&refused, OperatorError::Conflict { step: Some(step), .. } if *step == a.step_id), "{refused:?}");
    rig.engine.resolve_step(a.step_id, None, by("it is fine")).await.unwrap();
    assert_eq!(rig.step(task, "a").await.state, StepState::ResolvedManually);
    rig.check().await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

/// A tolerated failure is retried while its child waits for another parent, or while a pause holds the child.
async fn retry_before_the_child(rig: Rig, child_is_held: bool) {
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    let pause = async |action| {
        rig.engine.operate((task, None), action, by("x"), Precondition::default()).await.unwrap();
        rig.check().await;
    };
    tolerate(&rig, &runs["a"]).await;
    if child_is_held {
        pause(OperatorAction::PauseTask).await;
        rig.answer(&runs["b"], success(json!("b"))).await;
        assert_eq!(rig.count("select active_steps::int8 from tasker.tasks").await, 1, "the child that is held");
    }
    rig.engine.retry_step(runs["a"].step_id, by("again")).await.unwrap();
    let row = "select pending_parents, held_at is null as free from tasker.steps where name = 'join'";
    let parents = if child_is_held { 1 } else { 2 };
    assert_eq!(rig.rows(row).await, [json!({"pending_parents": parents, "free": true})]);
    rig.check().await;
    if child_is_held {
        pause(OperatorAction::ResumeTask).await;
    } else {
        rig.answer(&runs["b"], success(json!("b"))).await;
    }
    let a = rig.receive().await;
    assert_eq!((a.step_name.as_str(), a.lease, a.attempt), ("a", 2, 1));
    rig.answer(&a, success(json!("a"))).await;
    let join = rig.receive().await;
    assert_eq!((join.step_name.as_str(), join.dependency_results["a"].get()), ("join", "\"a\""));
    rig.answer(&join, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_retry_of_a_tolerated_step_makes_a_child_wait_again_that_was_not_dispatched() {
    let uncounted = ("retry_step", "s.pending_parents + 1, wake_at", "s.pending_parents, wake_at");
    finds(async |rig| retry_before_the_child(rig, false).await, &[uncounted]).await;
    finds(async |rig| retry_before_the_child(rig, true).await, &[uncounted, ("retry_step", " - unheld", "")]).await;
}
