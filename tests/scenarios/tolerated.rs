//! A failure that the workflow goes on with: it counts as a done parent.

use serde_json::json;
use tasker_domain::Verdict;
use tasker_engine::OperatorError;
use tasker_store::{Change, Completion, DispatchSettings};
use tasker_wire::{Answer, RunStep, StepState, TaskState, outcome::Failure};

use crate::world::{World, by, permanent, success, template};

const SETTINGS: DispatchSettings = DispatchSettings { send_ms: None, bodies: 10, input_bytes: 1 << 20 };

/// The verdict that a batch's `continue_on_failure` will give.
async fn tolerate(world: &World, run: &RunStep) {
    let verdict = Verdict::Error { failure: Failure::permanent("permanent_error", "one of many"), tolerated: true };
    let completion = Completion::by_orchestrator(run.lease(), run.attempt, verdict);
    let changes = world.engine.store().complete(&[completion], SETTINGS).await.unwrap();
    assert!(matches!(changes[0], Change::Answer(0, Answer::Accepted)), "{changes:?}");
    world.engine.recover().await.unwrap();
}

#[tokio::test]
async fn a_tolerated_failure_counts_as_a_done_parent_and_the_task_is_complete() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = world.submit("w", json!({})).await;
    let runs = world.receive_all().await;
    tolerate(&world, &runs["a"]).await;
    let a = world.step(task, "a").await;
    assert_eq!((a.state, a.error.unwrap()["message"].clone()), (StepState::Error, json!("one of many")));
    world.check().await;
    world.answer(&runs["b"], success(json!("b"))).await;
    let join = world.receive().await;
    assert_eq!((join.dependency_results["a"].get(), join.dependency_results["b"].get()), ("null", "\"b\""));
    world.answer(&join, success(json!(1))).await;
    assert_eq!(world.state(task).await, TaskState::Complete);
    assert_eq!(world.count("select count(*) from tasker.dlq_entries").await, 0);
    world.check().await;
}

#[tokio::test]
async fn a_workflow_that_ends_with_a_tolerated_failure_is_complete() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[])])).await;
    let task = world.submit("w", json!({})).await;
    tolerate(&world, &world.receive().await).await;
    assert_eq!(world.state(task).await, TaskState::Complete);
    world.check().await;
}

#[tokio::test]
async fn a_failure_beside_a_tolerated_one_still_fails_the_task() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    let task = world.submit("w", json!({})).await;
    let runs = world.receive_all().await;
    tolerate(&world, &runs["a"]).await;
    world.answer(&runs["b"], permanent("no")).await;
    assert_eq!(world.state(task).await, TaskState::Error);
    let entries = world.rows("select json_array_length(snapshot->'failed_steps') as failed from tasker.dlq_entries").await;
    assert_eq!(entries, [json!({"failed": 1})]);
    world.check().await;
}

#[tokio::test]
async fn a_tolerated_step_is_not_retried_once_its_child_was_handed_over_but_may_be_resolved() {
    let world = World::still().await;
    world.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = world.submit("w", json!({})).await;
    let a = world.receive().await;
    tolerate(&world, &a).await;
    let refused = world.engine.retry_step(a.step_id, by("again")).await.unwrap_err();
    assert!(matches!(&refused, OperatorError::Conflict { step: Some(step), .. } if *step == a.step_id), "{refused:?}");
    world.engine.resolve_step(a.step_id, None, by("it is fine")).await.unwrap();
    assert_eq!(world.step(task, "a").await.state, StepState::ResolvedManually);
    world.check().await;
    world.answer(&world.receive().await, success(json!(1))).await;
    assert_eq!(world.state(task).await, TaskState::Complete);
    world.check().await;
}
