//! DLQ entries for dead letters: when they are opened, removed and closed.

use serde_json::{Value, json};

use crate::rig::{Rig, success, template};

async fn rig() -> Rig {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    rig
}

async fn entries(rig: &Rig) -> Vec<Value> {
    rig.rows("select reason, reason_detail, status, no, snapshot->>'lease' as lease from tasker.dlq_entries order by created_at")
        .await
}

#[tokio::test]
async fn a_message_that_was_given_up_is_noted_once_and_closed_when_its_step_moved_on() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    let store = rig.engine.store();
    let known = json!({"lease": 1, "message_id": "m"}).to_string();
    assert!(store.open_dlq_entry(step, "poison_message", &known).await.unwrap().is_some());
    assert_eq!(store.open_dlq_entry(step, "poison_message", &known).await.unwrap(), None, "it stands there already");
    store.close_dlq_entries().await.unwrap();
    let open =
        json!({"reason": "manual_dlq", "reason_detail": "poison_message", "status": "pending", "no": step.no, "lease": "1"});
    assert_eq!(entries(&rig).await, std::slice::from_ref(&open), "the step still waits for the message");

    rig.answer(&rig.receive().await, success(json!(1))).await;
    store.close_dlq_entries().await.unwrap();
    let mut closed = open;
    closed["status"] = json!("manually_resolved");
    assert_eq!(entries(&rig).await, [closed]);
}

#[tokio::test]
async fn a_note_is_removed_when_the_last_try_succeeded() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    let entry = rig.engine.store().open_dlq_entry(step, "poison_message", r#"{"lease": 1}"#).await.unwrap().unwrap();
    rig.engine.store().remove_dlq_entry(entry).await.unwrap();
    assert_eq!(entries(&rig).await, Vec::<Value>::new());
}

#[tokio::test]
async fn of_a_task_that_is_not_there_nothing_is_noted() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    rig.execute("delete from tasker.steps; delete from tasker.tasks").await;
    assert_eq!(rig.engine.store().open_dlq_entry(step, "malformed_message", "{}").await.unwrap(), None);
}
