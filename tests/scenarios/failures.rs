//! A step that fails for good, and what goes on beside it.

use serde_json::json;
use tasker_wire::{StepState, TaskId, TaskState};

use crate::world::{World, by, permanent, success, template};

/// `bad` fails; `after` and `join` wait for it; `a` and `b` do not.
async fn beside_a_failure() -> (World, TaskId) {
    let world = World::still().await;
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("bad", &[]), ("after", &["bad"]), ("join", &["after", "b"])];
    world.register(&template("beside", steps)).await;
    let task = world.submit("beside", json!({})).await;
    let mut roots = world.receive_all().await;
    world.answer(&roots.remove("bad").unwrap(), permanent("no such order")).await;
    assert_eq!(world.state(task).await, TaskState::Running, "a is still under way");
    world.answer(&roots.remove("a").unwrap(), success(json!(1))).await;
    assert_eq!(world.state(task).await, TaskState::Running, "b is still under way");
    let b = world.receive().await;
    assert_eq!(b.step_name, "b");
    world.answer(&b, success(json!(2))).await;
    (world, task)
}

const ENTRIES: &str = "select d.task_id, s.name, d.original_state, d.reason, d.reason_detail, d.status, d.snapshot, d.notes, \
                       d.resolved_by from tasker.dlq_entries d join tasker.steps s using (task_id, no) order by d.created_at";
const AUDIT: &str = "select action, actor, reason, from_state, to_state from tasker.audit_log order by created_at, action";

#[tokio::test]
async fn branches_go_on_beside_a_failure_and_the_task_fails_only_when_nothing_is_active() {
    let (world, task) = beside_a_failure().await;
    assert_eq!(world.state(task).await, TaskState::Error);
    let steps = world.steps(task).await;
    let states: Vec<(&str, StepState)> = steps.iter().map(|(name, step)| (name.as_str(), step.state)).collect();
    let expected = [
        ("a", StepState::Complete),
        ("after", StepState::Pending),
        ("b", StepState::Complete),
        ("bad", StepState::Error),
        ("join", StepState::Pending),
    ];
    assert_eq!(states, expected);
    assert_eq!(world.engine.queue().waiting(), 0);
    world.check().await;
}

#[tokio::test]
async fn a_failed_task_stands_in_the_dead_letter_queue_with_a_snapshot_and_in_the_audit_log() {
    let (world, task) = beside_a_failure().await;
    let error = json!({"message": "no such order", "error_type": "permanent_error", "retryable": false});
    let no = world.step_id(task, "bad").await.no;
    let failed = json!({"no": no, "name": "bad", "state": "error", "attempt": 1, "max_attempts": 3, "error": error});
    let entry = json!({
        "task_id": task, "name": "bad", "original_state": "running", "reason": "max_retries_exceeded",
        "reason_detail": "permanent_error", "status": "pending", "snapshot": {"failed_steps": [failed]}, "notes": null,
        "resolved_by": null,
    });
    assert_eq!(world.rows(ENTRIES).await, [entry]);
    let finish = json!({
        "action": "finish", "actor": "tasker", "reason": "nothing can move any more", "from_state": "running", "to_state": "error",
    });
    assert_eq!(world.rows(AUDIT).await, [finish]);
}

#[tokio::test]
async fn an_operators_retry_closes_the_entry_and_the_task_goes_on_to_its_end() {
    let (world, task) = beside_a_failure().await;
    world.engine.retry_step(world.step_id(task, "bad").await, by("the order is there now")).await.unwrap();
    assert_eq!(world.state(task).await, TaskState::Running);
    let entry = &world.rows(ENTRIES).await[0];
    assert_eq!(
        (&entry["status"], &entry["resolved_by"], &entry["notes"]),
        (&json!("manually_resolved"), &json!("operator"), &json!("the order is there now"))
    );
    for name in ["bad", "after", "join"] {
        let run = world.receive().await;
        assert_eq!((run.step_name.as_str(), run.attempt), (name, 1));
        world.answer(&run, success(json!(name))).await;
    }
    assert_eq!(world.state(task).await, TaskState::Complete);
    let actions: Vec<_> = world.rows(AUDIT).await.iter().map(|a| (a["action"].clone(), a["to_state"].clone())).collect();
    assert_eq!(
        actions,
        [("finish", "error"), ("retry_step", "pending"), ("finish", "complete")].map(|(a, s)| (json!(a), json!(s)))
    );
    world.check().await;
}

#[tokio::test]
async fn a_task_that_fails_again_has_one_open_entry_again() {
    let (world, task) = beside_a_failure().await;
    world.engine.retry_step(world.step_id(task, "bad").await, by("again")).await.unwrap();
    world.answer(&world.receive().await, permanent("still no such order")).await;
    assert_eq!(world.state(task).await, TaskState::Error);
    let entries = world.rows(ENTRIES).await;
    let status: Vec<_> = entries.iter().map(|e| e["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["manually_resolved", "pending"]);
    world.check().await;
}

#[tokio::test]
async fn of_two_failures_the_first_one_in_order_is_named_and_both_are_shown() {
    let world = World::still().await;
    world.register(&template("two", &[("a", &[]), ("b", &[])])).await;
    world.submit("two", json!({})).await;
    for run in world.receive_all().await.values().rev() {
        world.answer(run, permanent(&format!("{} is wrong", run.step_name))).await;
    }
    let entries = world.rows(ENTRIES).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["name"], "a");
    let failed = entries[0]["snapshot"]["failed_steps"].as_array().unwrap();
    assert_eq!(failed.iter().map(|f| &f["error"]["message"]).collect::<Vec<_>>(), ["a is wrong", "b is wrong"]);
    world.check().await;
}
