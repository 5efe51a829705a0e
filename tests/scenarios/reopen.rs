//! Tasks that go on after they were cancelled, and tasks that an operator ends as they are.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_engine::{Effects, OperatorAction, OperatorError, Precondition};
use tasker_wire::{Answer, StepState, TaskId, TaskState};

use crate::rig::{Rig, by, failure, permanent, success, template};

async fn act(rig: &Rig, task: TaskId, action: OperatorAction) -> Result<Effects, OperatorError> {
    let done = rig.engine.operate((task, None), action, by("because"), Precondition::default()).await;
    rig.check().await;
    done
}

fn conflict(result: Result<Effects, OperatorError>) -> String {
    match result {
        Err(OperatorError::Conflict { step: None, state }) => state,
        other => panic!("no conflict: {other:?}"),
    }
}

async fn audited(rig: &Rig, action: &str) -> Vec<Value> {
    let sql = format!("select from_state, to_state from tasker.audit_log where action = '{action}' order by created_at");
    rig.rows(&sql).await
}

#[tokio::test]
async fn a_cancelled_task_goes_on_where_it_was_with_a_new_budget() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, success(json!("a"))).await;
    rig.answer(&rig.receive().await, failure("once")).await;
    rig.engine.sweep().await.unwrap();
    let late = rig.receive().await;
    assert_eq!((late.lease, late.attempt), (2, 2));
    act(&rig, task, OperatorAction::CancelTask).await.unwrap();
    let effects = act(&rig, task, OperatorAction::ReopenTask).await.unwrap();
    let changed: Vec<_> = effects.steps.iter().map(|e| (e.name.as_str(), e.was.unwrap(), e.state.unwrap())).collect();
    let cancelled = StepState::Cancelled;
    assert_eq!(changed, [("b", cancelled, StepState::Enqueued), ("c", cancelled, StepState::Pending)]);
    assert_eq!(audited(&rig, "reopen_task").await, [json!({"from_state": "cancelled", "to_state": "running"})]);
    assert_eq!(rig.answer(&late, success(json!("late"))).await, Answer::Stale);
    let b = rig.receive().await;
    assert_eq!((b.lease, b.attempt, b.dependency_results["a"].get()), (4, 1, "\"a\""));
    rig.answer(&b, success(json!(1))).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_failed_step_stays_failed_beside_those_that_were_cancelled() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    rig.answer(&runs["a"], permanent("no")).await;
    act(&rig, task, OperatorAction::CancelTask).await.unwrap();
    act(&rig, task, OperatorAction::ReopenTask).await.unwrap();
    assert_eq!((rig.step(task, "a").await.state, rig.state(task).await), (StepState::Error, TaskState::Running));
    rig.answer(&rig.receive().await, success(json!("b"))).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    rig.check().await;
    rig.engine.retry_step(runs["a"].step_id, by("mended")).await.unwrap();
    rig.answer(&rig.receive().await, success(json!("a"))).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn what_was_paused_before_a_cancel_is_paused_still_when_it_is_reopened() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    rig.receive().await;
    for action in [OperatorAction::PauseTask, OperatorAction::CancelTask, OperatorAction::ReopenTask] {
        act(&rig, task, action).await.unwrap();
    }
    assert_eq!((rig.engine.queue().waiting(), rig.state(task).await), (0, TaskState::Running));
    act(&rig, task, OperatorAction::ResumeTask).await.unwrap();
    let a = rig.receive().await;
    assert_eq!((a.lease, a.attempt), (3, 1));
}

#[tokio::test]
async fn a_task_without_a_cancelled_step_is_not_reopened() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let [one, other] = [rig.submit("w", json!({})).await, rig.submit("w", json!({})).await];
    assert_eq!(conflict(act(&rig, one, OperatorAction::ReopenTask).await), "running");
    let runs = [rig.receive().await, rig.receive().await];
    for run in &runs {
        let outcome = if run.task_id == one { success(json!(1)) } else { permanent("no") };
        rig.answer(run, outcome).await;
    }
    assert_eq!(conflict(act(&rig, one, OperatorAction::ReopenTask).await), "complete");
    assert_eq!(conflict(act(&rig, other, OperatorAction::ReopenTask).await), "error");
}

#[tokio::test]
async fn a_resolved_task_is_ended_with_its_steps_as_they_are() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    assert_eq!(conflict(act(&rig, task, OperatorAction::ResolveTask).await), "running");
    rig.answer(&a, permanent("no")).await;
    rig.pass(Duration::from_secs(60)).await;
    let steps = rig.steps(task).await;
    for _ in 0..2 {
        assert_eq!(act(&rig, task, OperatorAction::ResolveTask).await.unwrap().steps, []);
    }
    assert_eq!((rig.state(task).await, rig.steps(task).await), (TaskState::ResolvedManually, steps));
    assert_eq!(rig.count("select extract(epoch from tasker.clock() - finished_at)::int8 from tasker.tasks").await, 0);
    assert_eq!(audited(&rig, "resolve_task").await, [json!({"from_state": "error", "to_state": "resolved_manually"})]);
    let entries = rig.rows("select status, resolved_by, notes from tasker.dlq_entries").await;
    assert_eq!(entries, [json!({"status": "manually_resolved", "resolved_by": "operator", "notes": "because"})]);
    // Nothing makes it run again.
    for action in [OperatorAction::ReopenTask, OperatorAction::CancelTask, OperatorAction::PauseTask] {
        assert_eq!(conflict(act(&rig, task, action).await), "resolved_manually");
    }
    let retried = rig.engine.retry_step(a.step_id, by("x")).await;
    assert!(matches!(retried, Err(OperatorError::Conflict { step: None, .. })), "{retried:?}");
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Stale);
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.check().await;
}
