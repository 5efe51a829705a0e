//! Checkpoints: progress that is stored, after which the step goes on under the same attempt. And results that came too late.

use serde_json::{Value, json};
use tasker_wire::{Answer, Outcome, TaskState};

use crate::rig::{Rig, by, failure, raw, success, template};

fn checkpoint(cursor: usize) -> Outcome {
    Outcome::Checkpoint {
        cursor: raw(json!(cursor)).unwrap(),
        items_processed: cursor as u64,
        accumulated: raw(json!({"sum": cursor})),
    }
}

#[tokio::test]
async fn the_last_hundred_checkpoints_of_a_step_are_listed_and_no_attempt_is_used() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    for cursor in 1..=130 {
        let run = rig.receive().await;
        assert_eq!((run.attempt, rig.answer(&run, checkpoint(cursor)).await), (1, Answer::Accepted));
    }
    let kept = rig.rows("select metadata from tasker.attempts where outcome = 'checkpoint' order by lease").await;
    assert_eq!(kept.len(), 100);
    assert_eq!(kept[0]["metadata"], json!({"cursor": 31, "items_processed": 31}));
    let run = rig.receive().await;
    let stored: Value = serde_json::from_str(run.checkpoint.as_ref().unwrap().get()).unwrap();
    assert_eq!(stored, json!({"cursor": 130, "items_processed": 130, "accumulated": {"sum": 130}}));
    rig.answer(&run, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_retry_goes_on_at_the_checkpoint_and_sees_why_the_attempt_before_failed() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, checkpoint(40)).await;
    rig.answer(&rig.receive().await, failure("at fifty")).await;
    rig.engine.sweep().await.unwrap();
    let run = rig.receive().await;
    assert_eq!(run.attempt, 2);
    assert!(run.checkpoint.as_ref().unwrap().get().contains("40"));
    assert!(run.last_failure.as_ref().unwrap().get().contains("at fifty"));
}

#[tokio::test]
async fn the_result_of_a_success_that_came_too_late_is_kept_with_its_attempt_unless_it_is_large() {
    for (size, kept) in [(10, true), (300_000, false)] {
        let rig = Rig::still().await;
        rig.register(&template("w", &[("a", &[])])).await;
        let task = rig.submit("w", json!({})).await;
        let run = rig.receive().await;
        rig.engine.cancel_task(task, by("enough")).await.unwrap();
        assert_eq!(rig.answer(&run, success(json!("x".repeat(size)))).await, Answer::Stale);
        let row = rig.rows("select applied, result from tasker.attempts").await.remove(0);
        assert_eq!((row["applied"].as_bool(), row["result"].is_string()), (Some(false), kept));
    }
}
