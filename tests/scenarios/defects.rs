//! Statements that violate a constraint of the database, because of a defect: they fail no step, and block no other step.

use serde_json::{Value, json};
use tasker_store::StoreError;
use tasker_wire::{StepState, TaskState};

use crate::rig::{Rig, success, template};

const CHAIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];

#[tokio::test]
async fn a_violated_check_is_our_bug_and_fails_no_step() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    rig.execute("alter table tasker.steps add constraint bug check (result::text <> '\"bug\"')").await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    let refused = rig.engine.complete(vec![a.complete(success(json!("bug")), "w", 1)]).await;
    assert!(matches!(refused, Err(StoreError::Bug(_))), "{refused:?}");
    assert_eq!(rig.step(task, "a").await.state, StepState::Enqueued);
    assert_eq!(rig.count("select count(*) from tasker.outcomes").await, 0);
    rig.check().await;
}

#[tokio::test]
async fn a_defect_that_meets_one_answer_keeps_no_other_from_its_task() {
    let rig = Rig::still().await;
    rig.register(&template("w", CHAIN)).await;
    rig.execute("alter table tasker.steps add constraint bug check (result::text <> '13')").await;
    let mut tasks = Vec::new();
    for n in 0..50 {
        tasks.push(rig.submit("w", json!({"n": n})).await);
    }
    let stuck = tasks[13];
    rig.start(50, |run| success(serde_json::from_str::<Value>(run.context.get()).unwrap()["n"].clone()));
    rig.until("select count(*) = 1 from tasker.tasks where state = 'running'").await;
    assert_eq!((rig.state(stuck).await, rig.step(stuck, "a").await.attempt), (TaskState::Running, 1));
    rig.check().await;
    // Once the defect is fixed, the task continues by itself.
    rig.execute("alter table tasker.steps drop constraint bug").await;
    assert_eq!(rig.finished(stuck).await, TaskState::Complete);
    assert_eq!((rig.step(stuck, "a").await.attempt, rig.step(stuck, "a").await.lease), (1, 1));
    rig.check().await;
}
