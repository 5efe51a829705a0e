//! Recovery of what DLQ entries are about: each once, whoever asks and how often.

use serde_json::{Value, json};
use tasker_engine::{OperatorAction, OperatorError, Precondition, RecoverError, RecoveredPage, Recovery};
use tasker_wire::{
    TaskId, TaskState,
    rest::{DlqFilter, DlqReason},
};

use crate::rig::{Rig, by, failure, permanent, success, template, workflow};

fn everything() -> DlqFilter {
    DlqFilter { namespace: Some("default".into()), ..DlqFilter::default() }
}

async fn recover(rig: &Rig, filter: &DlqFilter, max: u32, dry_run: bool) -> RecoveredPage {
    rig.engine.recover_entries(filter, None, max, &by("fixed"), dry_run).await.unwrap_or_else(|e| panic!("{e}"))
}

/// The number of steps that each entry set back or dispatched.
fn steps(page: &RecoveredPage) -> Vec<usize> {
    page.items.iter().map(|(_, recovery)| recovery.steps().len()).collect()
}

/// Tasks of two steps a and b, of which both failed with this message.
async fn failed(rig: &Rig, count: usize, message: &str) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for _ in 0..count {
        tasks.push(rig.submit("w", json!({})).await);
        for run in rig.receive_all().await.values() {
            rig.answer(run, permanent(message)).await;
        }
    }
    tasks
}

async fn rig() -> Rig {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("c", &["a", "b"])])).await;
    rig
}

async fn pending(rig: &Rig) -> i64 {
    rig.count("select count(*) from tasker.dlq_entries where status = 'pending'").await
}

#[tokio::test]
async fn all_failed_steps_of_a_task_are_retried_at_once_and_a_dry_run_says_so_before() {
    let rig = rig().await;
    let task = failed(&rig, 1, "no").await[0];
    let rows = "select json_build_array(s.no, s.state, s.lease, s.attempt, d.status) as row from tasker.steps s, tasker.dlq_entries d order by 1::text";
    let before = rig.rows(rows).await;
    let dry = recover(&rig, &everything(), 10, true).await;
    assert_eq!((steps(&dry), &dry.next), (vec![2], &None));
    assert_eq!((rig.rows(rows).await, rig.engine.queue().waiting()), (before, 0), "nothing was done");

    assert_eq!(steps(&recover(&rig, &everything(), 10, false).await), [2]);
    assert_eq!((rig.state(task).await, pending(&rig).await), (TaskState::Running, 0));
    let audit = rig.rows("select action, actor, reason from tasker.audit_log where actor <> 'tasker' order by no").await;
    assert_eq!(audit, vec![json!({"action": "retry_step", "actor": "operator", "reason": "fixed"}); 2]);
    assert!(recover(&rig, &everything(), 10, false).await.items.is_empty(), "nothing is pending");
    for run in rig.receive_all().await.values() {
        assert_eq!((run.attempt, run.lease), (1, 2));
        rig.answer(run, success(json!(1))).await;
    }
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_recovery_of_what_has_changed_since_the_dry_run_does_nothing() {
    let rig = rig().await;
    let tasks = failed(&rig, 2, "no").await;
    let seen = recover(&rig, &everything(), 10, true).await.seen();
    assert_eq!(recover(&rig, &everything(), 10, true).await.seen(), seen);
    rig.engine.retry_step(rig.step_id(tasks[0], "a").await, by("meanwhile")).await.unwrap();
    rig.answer(&rig.receive().await, permanent("still no")).await;
    let changed = rig.engine.recover_seen(&everything(), None, 10, &by("fixed"), &seen).await;
    let Err(RecoverError::Changed(now)) = changed else { panic!("{changed:?}") };
    assert_eq!((steps(&now), pending(&rig).await, rig.engine.queue().waiting()), (vec![2, 2], 2, 0));
    let done = rig.engine.recover_seen(&everything(), None, 10, &by("fixed"), &now.seen()).await.unwrap();
    assert_eq!((steps(&done), pending(&rig).await, rig.engine.queue().waiting()), (vec![2, 2], 0, 4));
    rig.check().await;
}

#[tokio::test]
async fn two_recoveries_at_once_recover_each_entry_once() {
    let rig = rig().await;
    failed(&rig, 30, "no").await;
    let filter = everything();
    let (one, other) = tokio::join!(recover(&rig, &filter, 100, false), recover(&rig, &filter, 100, false));
    let recovered = |page: &RecoveredPage| page.items.iter().filter(|(_, it)| it.steps().len() == 2).count();
    let skipped = |page: &RecoveredPage| page.items.iter().filter(|(_, it)| matches!(it, Recovery::Skipped(_))).count();
    assert_eq!(recovered(&one) + recovered(&other), 30, "{one:?} {other:?}");
    assert_eq!(one.items.len() + other.items.len(), 30 + skipped(&one) + skipped(&other), "nothing failed");
    assert_eq!(rig.count("select count(*) from tasker.audit_log where action = 'retry_step'").await, 60);
    assert_eq!((pending(&rig).await, rig.engine.queue().waiting()), (0, 60));
    rig.check().await;
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended_and_leave_out_what_failed_again() {
    let rig = rig().await;
    failed(&rig, 5, "no").await;
    let (filter, mut after, mut seen) = (everything(), None, Vec::new());
    loop {
        let page = rig.engine.recover_entries(&filter, after.as_ref(), 2, &by("fixed"), false).await.unwrap();
        seen.extend(page.items.iter().map(|(entry, _)| entry.task));
        // What is recovered fails again at once.
        while rig.engine.queue().waiting() > 0 {
            rig.answer(&rig.receive().await, permanent("still no")).await;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut tasks = seen.clone();
    tasks.dedup();
    assert_eq!((seen.len(), tasks.len(), pending(&rig).await), (5, 5, 5), "{seen:?}");
}

#[tokio::test]
async fn a_filter_selects_by_each_of_its_parts() {
    let rig = rig().await;
    failed(&rig, 1, "no order 17").await;
    failed(&rig, 1, "no customer").await;
    let sql = "select fingerprint from tasker.dlq_entries where snapshot->'failed_steps'->0->'error'->>'message' = 'no order 17'";
    let fingerprint = rig.rows(sql).await[0]["fingerprint"].as_str().map(str::to_owned);
    let text = |text: &str| Some(text.to_owned());
    let none = DlqFilter::default;
    let entry: Value = rig.rows("select dlq_entry_id as id from tasker.dlq_entries limit 1").await.remove(0)["id"].take();
    let id = entry.as_str().unwrap().parse().unwrap();
    for (filter, expected) in [
        (DlqFilter { namespace: text("default"), ..none() }, 2),
        (DlqFilter { namespace: text("shop"), ..none() }, 0),
        (DlqFilter { template: text("w"), ..none() }, 2),
        (DlqFilter { template: text("v"), ..none() }, 0),
        (DlqFilter { step: text("a"), ..none() }, 2),
        (DlqFilter { step: text("b"), ..none() }, 0),
        (DlqFilter { dlq_reason: Some(DlqReason::MaxRetriesExceeded), ..none() }, 2),
        (DlqFilter { dlq_reason: Some(DlqReason::DependencyCycleDetected), ..none() }, 0),
        (DlqFilter { fingerprint, ..none() }, 1),
        (DlqFilter { fingerprint: text("000000000000"), ..none() }, 0),
        (DlqFilter { entries: Some(vec![id]), ..none() }, 1),
        (DlqFilter { entries: Some(vec![uuid::Uuid::nil()]), ..none() }, 0),
        (DlqFilter { older_than_seconds: Some(0), ..none() }, 2),
        (DlqFilter { older_than_seconds: Some(3600), ..none() }, 0),
        (DlqFilter { namespace: text("default"), step: text("b"), ..none() }, 0),
    ] {
        assert_eq!(recover(&rig, &filter, 10, true).await.items.len(), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_recovered_is_reported_with_the_reason_and_stays() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    rig.engine.store().open_dlq_entry(step, "poison_message", r#"{"lease": 1}"#).await.unwrap().unwrap();
    let skipped = recover(&rig, &everything(), 10, false).await;
    let [(_, Recovery::Skipped(why))] = &skipped.items[..] else { panic!("{skipped:?}") };
    assert!(why.contains("if its message is a dead letter, redrive that"), "{why}");
    assert_eq!(pending(&rig).await, 1);
}

#[tokio::test]
async fn a_step_that_waits_for_its_retry_is_retried_now() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    rig.register(&workflow("w", json!([{"name": "a", "retry": {"backoff_base_ms": 3_600_000, "max_backoff_ms": 3_600_000}}])))
        .await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, failure("no")).await;
    let step = rig.step_id(task, "a").await;
    rig.engine.store().open_dlq_entry(step, "poison_message", r#"{"lease": 1}"#).await.unwrap().unwrap();
    assert_eq!(steps(&recover(&rig, &everything(), 10, false).await), [1]);
    assert_eq!((rig.receive().await.attempt, pending(&rig).await), (1, 0));
    rig.check().await;
}

#[tokio::test]
async fn an_entry_that_is_closed_recovers_nothing_also_if_its_task_failed_again() {
    let rig = rig().await;
    let task = failed(&rig, 1, "no").await[0];
    let entry: Value = rig.rows("select dlq_entry_id as id from tasker.dlq_entries").await.remove(0)["id"].take();
    let action = || OperatorAction::RecoverTask { entry: entry.as_str().unwrap().parse().unwrap() };
    let operate = async |action| rig.engine.operate((task, None), action, by("fixed"), Precondition::default()).await;
    operate(action()).await.unwrap();
    for run in rig.receive_all().await.values() {
        rig.answer(run, permanent("still no")).await;
    }
    assert_eq!((rig.state(task).await, pending(&rig).await), (TaskState::Error, 1));
    assert!(matches!(operate(action()).await, Err(OperatorError::NotFound)));
    assert_eq!((rig.state(task).await, pending(&rig).await), (TaskState::Error, 1));
}
