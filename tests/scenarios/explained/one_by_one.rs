//! What random lives do not meet.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_queue::InProcess;
use tasker_wire::{Remedy, StepReason};

use super::{NEVER_SAID, NOT_LIVED};
use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, engine, template as steps},
};

#[tokio::test]
async fn a_dispatch_to_a_queue_outside_is_said_to_be_sent_again_at_its_time_and_how_often_it_was() {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    rig.register(&steps("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    for sent in 1..=4 {
        rig.engine.queue().runs();
        let said = rig.engine.explain(task).await.unwrap().unwrap();
        let [step] = &said.steps[..] else { panic!("{said:#?}") };
        assert_eq!((step.said.reason, &step.said.act), (StepReason::WaitingForWorker, &None));
        assert_eq!(step.said.sentence.contains(&format!("was sent {sent} times")), sent > 1, "{}", step.said.sentence);
        assert_eq!(step.said.sentence.contains("DLQ entry worker_unavailable since "), sent > 3, "{}", step.said.sentence);
        let wait = step.said.changes_at.unwrap().duration_since(said.now).unsigned_abs();
        rig.pass(wait - Duration::from_millis(1)).await;
        assert_eq!(rig.engine.sweep().await.unwrap().sent, 0, "not before its time");
        rig.pass(Duration::from_millis(1)).await;
        assert_eq!(rig.engine.sweep().await.unwrap().sent, 1, "at its time");
    }
}

#[tokio::test]
async fn an_entry_that_was_opened_for_a_wait_is_not_promised_again() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    let mut template: Value = serde_json::from_str(&steps("w", &[("a", &[])])).unwrap();
    template["lifecycle"] = json!({"staleness_action": "dlq", "max_duration_minutes": 2});
    rig.register(&template.to_string()).await;
    let task = rig.submit("w", json!({})).await;
    rig.execute("update tasker.tasks set created_at = tasker.clock()").await;
    let explain = || async { rig.engine.explain(task).await.unwrap().unwrap().task };
    let promised = explain().await;
    assert!(promised.sentence.contains("opens a DLQ entry"), "{promised:?}");
    rig.pass(Duration::from_millis(120_001)).await;
    rig.engine.look_for_stale(|| false).await.unwrap();
    assert_eq!(rig.count("select count(*) from tasker.dlq_entries").await, 1);
    let opened = explain().await;
    assert!(opened.sentence.contains("DLQ entry staleness_timeout since "), "{opened:?}");
    for closed in [false, true] {
        if closed {
            rig.execute("update tasker.dlq_entries set status = 'manually_resolved', resolved_at = tasker.clock()").await;
        }
        let said = explain().await;
        assert!(!said.sentence.contains("opens a DLQ entry"), "closed {closed}: {said:?}");
    }
}

#[tokio::test]
async fn a_defect_is_called_one_and_a_task_without_its_template_says_so() {
    let rig = Rig::still().await;
    rig.register(&steps("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = rig.submit("w", json!({})).await;
    rig.execute("update tasker.steps set pending_parents = 0 where name = 'join'").await;
    let said = rig.engine.explain(task).await.unwrap().unwrap();
    let [.., join] = &said.steps[..] else { panic!("{said:#?}") };
    assert_eq!((join.said.reason, join.said.act.as_ref().unwrap().remedy), (NEVER_SAID, Remedy::RunDoctor));
    assert!(!rig.engine.store().examine().await.unwrap().differences.is_empty(), "the doctor finds it too");

    rig.execute("delete from tasker.templates").await;
    let forgetful = engine(&rig.db, InProcess::default());
    let said = forgetful.explain(task).await.unwrap().unwrap();
    assert_eq!((said.task.reason, said.steps.len(), said.not_listed), (NOT_LIVED, 0, 3));
}

#[tokio::test]
async fn a_task_of_ten_thousand_steps_is_explained_by_the_thousand_that_hold_it_up() {
    let rig = Rig::still().await;
    let names: Vec<String> = (0..9_998).map(|n| format!("s{n}")).collect();
    let mut all: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    let parents: Vec<&str> = names.iter().map(String::as_str).collect();
    all.extend([("join", &parents[..]), ("end", &["join"][..])]);
    rig.register(&steps("wide", &all)).await;
    let task = rig.submit("wide", json!({})).await;
    rig.execute("update tasker.steps set state = 'error', finished_at = now(), wake_at = null where name = 's9000'").await;
    let said = rig.engine.explain(task).await.unwrap().unwrap();
    assert_eq!((said.steps.len(), said.not_listed), (1_000, 9_000));
    assert_eq!((said.steps[0].name.as_str(), said.steps[0].said.reason), ("s9000", StepReason::Failed));

    // Of what waits, all that holds it up is known.
    rig.execute("update tasker.steps set state = 'complete', finished_at = now(), wake_at = null where no < 9500 * 16384 and state <> 'error'").await;
    let said = rig.engine.explain(task).await.unwrap().unwrap();
    let end = said.steps.iter().find(|step| step.name == "end").unwrap();
    assert_eq!((end.said.reason, said.not_listed), (StepReason::Blocked, 0));
    assert!(end.said.sentence.contains("s9000 failed for good"), "{}", end.said.sentence);
    let join = said.steps.iter().find(|step| step.name == "join").unwrap();
    assert!(join.said.waits_for.len() == 10 && join.said.sentence.len() < 300, "{join:?}");
}
