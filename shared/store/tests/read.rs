//! What is shown of tasks and steps.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod common;

use std::time::{Duration, Instant};

use common::{complete, done, failed, store, submit, template};
use tasker_store::{Operation, StepCounts, TaskFilter};
use tasker_test_support::database;
use tasker_wire::{StepId, StepState, TaskId, TaskState, ids::step_no};
use uuid::Uuid;

#[tokio::test]
async fn a_task_is_shown_with_the_states_of_its_steps() {
    let database = database().await;
    let store = store(&database);
    let task = submit(&store, &template(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[0]), ("e", &[1, 2])]), "me").await;
    complete(&store, task, 0, 1, done("1")).await;
    complete(&store, task, 1, 1, failed(true)).await;
    complete(&store, task, 2, 1, failed(false)).await;
    let shown = store.task_detail(task).await.unwrap().unwrap().task;
    assert_eq!(
        shown.steps,
        StepCounts { total: 5, pending: 1, waiting_for_retry: 1, in_progress: 1, done: 1, failed: 1, cancelled: 0, ready: 0 }
    );
    assert_eq!((shown.state, shown.context.unwrap().get()), (TaskState::Running, r#"{"n": 1.0}"#));
    assert_eq!((shown.priority, shown.tags, shown.initiator), (Some(5), vec!["a".to_owned()], "me".to_owned()));
    assert!(shown.updated_at > shown.created_at && shown.finished_at.is_none() && !shown.paused);
    database.advance_clock(Duration::from_secs(61)).await;
    assert_eq!(store.task_detail(task).await.unwrap().unwrap().task.steps.ready, 1);
    assert!(store.task_detail(TaskId::from_fresh(Uuid::now_v7())).await.unwrap().is_none());
}

#[tokio::test]
async fn a_step_is_shown_with_its_last_answer_and_its_last_failure() {
    let database = database().await;
    let store = store(&database);
    let task = submit(&store, &template(&[("a", &[]), ("b", &[0])]), "me").await;
    complete(&store, task, 0, 1, failed(true)).await;
    let waiting = store.step(task.step(step_no(0))).await.unwrap().unwrap();
    assert_eq!((waiting.state, waiting.attempt, waiting.retry_due), (StepState::WaitingForRetry, 1, false));
    assert!(waiting.retry_at.unwrap() > waiting.failed_at.unwrap());
    assert_eq!(waiting.answer.unwrap().failure.unwrap().delay_seconds, Some(2.5));
    database.advance_clock(Duration::from_secs(61)).await;
    store.sweep(10, common::SETTINGS).await.unwrap();
    complete(&store, task, 0, 2, done(r#"{"x": 1}"#)).await;
    let steps = store.steps(task, i64::MAX).await.unwrap().unwrap();
    let (a, b) = (&steps[0], &steps[1]);
    assert_eq!((a.state, a.attempt, a.result.as_ref().unwrap().get()), (StepState::Complete, 2, r#"{"x": 1}"#));
    assert!(a.failed_at.is_some() && a.answer.as_ref().unwrap().failure.is_none() && a.finished_at.is_some());
    assert_eq!((b.state, b.parents, b.pending_parents, b.answer.is_none()), (StepState::Enqueued, 1, 0, true));
}

#[tokio::test]
async fn a_failure_is_shown_also_while_a_pause_holds_the_retry_of_an_operator() {
    let database = database().await;
    let store = store(&database);
    let task = submit(&store, &template(&[("a", &[])]), "me").await;
    complete(&store, task, 0, 1, failed(false)).await;
    let failed_at = store.task_detail(task).await.unwrap().unwrap().steps[0].failed_at;
    assert!(failed_at.is_some());
    database.execute("update tasker.tasks set paused_at = now()").await;
    store.operate(Operation::new("retry_step", (task, Some(step_no(0))), ("me", "why")), common::SETTINGS).await.unwrap();
    let shown = store.task_detail(task).await.unwrap().unwrap();
    assert_eq!((shown.steps[0].state, shown.steps[0].failed_at), (StepState::Pending, failed_at));
}

#[tokio::test]
async fn results_beyond_the_limit_are_omitted_and_marked_as_omitted() {
    let database = database().await;
    let store = store(&database);
    let task = submit(&store, &template(&[("a", &[]), ("b", &[])]), "me").await;
    complete(&store, task, 0, 1, done("\"0123456789\"")).await;
    complete(&store, task, 1, 1, done("\"0123456789\"")).await;
    let steps = store.steps(task, 12).await.unwrap().unwrap();
    assert!(steps[0].result.is_some() && !steps[0].result_omitted);
    assert!(steps[1].result.is_none() && steps[1].result_omitted);
}

#[tokio::test]
async fn a_missing_task_is_distinguished_from_a_task_without_steps() {
    let database = database().await;
    let store = store(&database);
    let task = submit(&store, &template(&[]), "me").await;
    assert!(store.steps(task, 0).await.unwrap().unwrap().is_empty());
    assert!(store.step(task.step(step_no(0))).await.unwrap().is_none());
    let other = TaskId::from_fresh(Uuid::now_v7());
    assert!(store.steps(other, 0).await.unwrap().is_none());
    assert!(store.step(StepId { task: other, no: step_no(0) }).await.unwrap().is_none());
}

#[tokio::test]
async fn a_list_is_filtered_paged_and_counted_newest_first() {
    let database = database().await;
    let store = store(&database);
    let (small, none) = (template(&[("a", &[])]), template(&[]));
    let mut running = Vec::new();
    for who in ["x", "y", "x"] {
        running.push(submit(&store, &small, who).await);
    }
    let complete = submit(&store, &none, "x").await;
    let ids =
        async |filter: TaskFilter, page| store.tasks(&filter, page, 2).await.unwrap().iter().map(|t| t.task).collect::<Vec<_>>();
    assert_eq!(ids(TaskFilter::default(), 0).await, [complete, running[2]]);
    assert_eq!(ids(TaskFilter::default(), 1).await, [running[1], running[0]]);
    let filter = TaskFilter { initiator: Some("x".into()), states: Some(vec![TaskState::Running]), ..Default::default() };
    assert_eq!(ids(filter.clone(), 0).await, [running[2], running[0]]);
    assert_eq!(store.count_tasks(&filter).await.unwrap(), 2);
    let other = TaskFilter { namespace: Some("ns".into()), name: Some("other".into()), ..Default::default() };
    assert_eq!(store.count_tasks(&other).await.unwrap(), 0);
}

#[tokio::test]
async fn ten_thousand_steps_are_read_well_under_a_second() {
    let database = database().await;
    let store = store(&database);
    let names: Vec<String> = (0..10_000).map(|i| format!("step_{i}")).collect();
    let steps: Vec<(&str, &[usize])> = names.iter().map(|n| (n.as_str(), &[][..])).collect();
    let task = submit(&store, &template(&steps), "me").await;
    // An answer for each, and statistics that know nothing of it.
    database
        .execute(
            "insert into tasker.attempts (task_id, no, lease, attempt, outcome, applied, digest, worker, duration_ms, finished_at)
             select task_id, no, lease, 1, 'success', true, 0, 'w', 1, tasker.clock() from tasker.steps",
        )
        .await;
    let begin = Instant::now();
    assert_eq!(store.task_detail(task).await.unwrap().unwrap().task.steps.in_progress, 10_000);
    assert_eq!(store.steps(task, 0).await.unwrap().unwrap().len(), 10_000);
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[tokio::test]
async fn the_operator_who_resolved_a_step_is_shown() {
    let database = database().await;
    let store = store(&database);
    let task = submit(&store, &template(&[("a", &[])]), "me").await;
    let resolve = Operation::new("resolve_step", (task, Some(step_no(0))), ("anna", "checked"));
    let args = r#"{"result": 2, "metadata": {"k":1}}"#;
    store.operate(Operation { args, ..resolve }, common::SETTINGS).await.unwrap();
    let resolutions = store.resolutions(task).await.unwrap();
    assert_eq!(
        (resolutions[0].step, resolutions[0].actor.as_str(), resolutions[0].reason.as_str()),
        (task.step(step_no(0)), "anna", "checked")
    );
}
