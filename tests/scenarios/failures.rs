//! A step that fails permanently, and the other branches of its task.

use serde_json::json;
use tasker_wire::{Answer, StepState, TaskId, TaskState};

use crate::rig::{Rig, by, failure, permanent, success, template, workflow};

/// `bad` fails; `after` and `join` wait for it; `a` and `b` do not.
async fn beside_a_failure() -> (Rig, TaskId) {
    let rig = Rig::still().await;
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("bad", &[]), ("after", &["bad"]), ("join", &["after", "b"])];
    rig.register(&template("beside", steps)).await;
    let task = rig.submit("beside", json!({})).await;
    let mut roots = rig.receive_all().await;
    rig.answer(&roots.remove("bad").unwrap(), permanent("no such order")).await;
    assert_eq!(rig.state(task).await, TaskState::Running, "a is still under way");
    rig.answer(&roots.remove("a").unwrap(), success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Running, "b is still under way");
    let b = rig.receive().await;
    assert_eq!(b.step_name, "b");
    rig.answer(&b, success(json!(2))).await;
    (rig, task)
}

const ENTRIES: &str = "select d.task_id, s.name, d.original_state, d.reason, d.reason_detail, d.status, d.snapshot, d.notes, \
                       d.resolved_by from tasker.dlq_entries d join tasker.steps s using (task_id, no) order by d.created_at";
const AUDIT: &str = "select action, actor, reason, from_state, to_state from tasker.audit_log order by created_at, action";

#[tokio::test]
async fn branches_go_on_beside_a_failure_and_the_task_fails_only_when_nothing_is_active() {
    let (rig, task) = beside_a_failure().await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    let steps = rig.steps(task).await;
    let states: Vec<(&str, StepState)> = steps.iter().map(|(name, step)| (name.as_str(), step.state)).collect();
    let expected = [
        ("a", StepState::Complete),
        ("after", StepState::Pending),
        ("b", StepState::Complete),
        ("bad", StepState::Error),
        ("join", StepState::Pending),
    ];
    assert_eq!(states, expected);
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.check().await;
}

#[tokio::test]
async fn a_failed_task_has_a_dlq_entry_with_a_snapshot_and_an_audit_row() {
    let (rig, task) = beside_a_failure().await;
    let error = json!({"message": "no such order", "error_type": "permanent_error", "retryable": false});
    let no = rig.step_id(task, "bad").await.no;
    let mut entries = rig.rows(ENTRIES).await;
    let snapshot = entries[0]["snapshot"].take();
    assert_eq!(snapshot["steps"], json!({"complete": 2, "error": 1, "pending": 2}));
    let [failed] = &snapshot["failed_steps"].as_array().unwrap()[..] else { panic!("{snapshot}") };
    let shown = ["no", "name", "attempt", "max_attempts", "lease", "worker", "error"].map(|key| &failed[key]);
    assert_eq!(shown, [&json!(no), &json!("bad"), &json!(1), &json!(3), &json!(1), &json!("scripted"), &error]);
    let entry = json!({
        "task_id": task, "name": "bad", "original_state": "running", "reason": "max_retries_exceeded",
        "reason_detail": "permanent_error", "status": "pending", "snapshot": null, "notes": null,
        "resolved_by": null,
    });
    assert_eq!(entries, [entry]);
    let finish = json!({
        "action": "finish", "actor": "tasker", "reason": "no step can make progress", "from_state": "running", "to_state": "error",
    });
    assert_eq!(rig.rows(AUDIT).await, [finish]);
}

#[tokio::test]
async fn an_operators_retry_closes_the_entry_and_the_task_goes_on_to_its_end() {
    let (rig, task) = beside_a_failure().await;
    rig.engine.retry_step(rig.step_id(task, "bad").await, by("the order is there now")).await.unwrap();
    assert_eq!(rig.state(task).await, TaskState::Running);
    let entry = &rig.rows(ENTRIES).await[0];
    assert_eq!(
        (&entry["status"], &entry["resolved_by"], &entry["notes"]),
        (&json!("manually_resolved"), &json!("operator"), &json!("the order is there now"))
    );
    for name in ["bad", "after", "join"] {
        let run = rig.receive().await;
        assert_eq!((run.step_name.as_str(), run.attempt), (name, 1));
        rig.answer(&run, success(json!(name))).await;
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    let actions: Vec<_> = rig.rows(AUDIT).await.iter().map(|a| (a["action"].clone(), a["to_state"].clone())).collect();
    assert_eq!(
        actions,
        [("finish", "error"), ("retry_step", "enqueued"), ("finish", "complete")].map(|(a, s)| (json!(a), json!(s)))
    );
    rig.check().await;
}

#[tokio::test]
async fn a_task_that_fails_again_has_one_open_entry_again() {
    let (rig, task) = beside_a_failure().await;
    rig.engine.retry_step(rig.step_id(task, "bad").await, by("again")).await.unwrap();
    rig.answer(&rig.receive().await, permanent("still no such order")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    let entries = rig.rows(ENTRIES).await;
    let status: Vec<_> = entries.iter().map(|e| e["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["manually_resolved", "pending"]);
    rig.check().await;
}

#[tokio::test]
async fn of_two_failures_the_first_one_in_order_is_named_and_both_are_shown() {
    let rig = Rig::still().await;
    rig.register(&template("two", &[("a", &[]), ("b", &[])])).await;
    rig.submit("two", json!({})).await;
    for run in rig.receive_all().await.values().rev() {
        rig.answer(run, permanent(&format!("{} is wrong", run.step_name))).await;
    }
    let entries = rig.rows(ENTRIES).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["name"], "a");
    let failed = entries[0]["snapshot"]["failed_steps"].as_array().unwrap();
    assert_eq!(failed.iter().map(|f| &f["error"]["message"]).collect::<Vec<_>>(), ["a is wrong", "b is wrong"]);
    rig.check().await;
}

/// Refuses every text with this letter, as a database with another encoding does.
const REFUSE: &str = "create function refuse() returns trigger language plpgsql as $$ begin
    if concat(new.error, new.metadata, new.worker) ~ 'é' then raise exception 'no such character' using errcode = '22P05'; end if;
    return new;
  end $$;
  create trigger refuse before insert or update on tasker.attempts for each row execute function refuse()";

#[tokio::test]
async fn a_failure_that_the_database_refuses_is_recorded_at_once_with_a_substitute() {
    let rig = Rig::still().await;
    rig.execute(REFUSE).await;
    rig.register(&workflow("w", json!([{"name": "a", "retry": {"max_attempts": 2, "backoff": "none"}}, {"name": "b"}]))).await;
    let task = rig.submit("w", json!({})).await;
    let mut runs = rig.receive_all().await;
    let (a, b) = (runs.remove("a").unwrap(), runs.remove("b").unwrap());
    // A retryable one stays retryable; its neighbour in the batch is recorded as it is.
    let batch = vec![a.complete(failure("café"), "w", 1), b.complete(success(json!(1)), "w", 1)];
    assert_eq!(rig.complete(batch).await, [Answer::Accepted, Answer::Accepted]);
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.attempt), (StepState::WaitingForRetry, 1));
    assert_eq!(step.error.unwrap()["message"], "caf\\u{e9}");
    assert_eq!(rig.step(task, "b").await.state, StepState::Complete);
    rig.engine.evaluate(vec![rig.wake_up(task, "a").await]).await.unwrap();
    let again = rig.receive().await;
    let answers = rig.complete(vec![again.complete(permanent("café"), "wé", 1)]).await;
    assert_eq!(answers, [Answer::Accepted]);
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.attempt), (StepState::Error, 2));
    assert_eq!(rig.finished(task).await, TaskState::Error);
    rig.check().await;
}

#[tokio::test]
async fn a_failure_of_which_the_database_refuses_every_text_is_recorded_under_a_constant_one() {
    let rig = Rig::still().await;
    rig.execute(&REFUSE.replace("'é'", "'rotten'")).await;
    rig.register(&workflow("w", json!([{"name": "a", "retry": {"max_attempts": 1}}]))).await;
    let task = rig.submit("w", json!({})).await;
    let run = rig.receive().await;
    assert_eq!(rig.answer(&run, failure("a rotten apple")).await, Answer::Accepted);
    let error = rig.step(task, "a").await.error.unwrap();
    assert_eq!((&error["error_type"], &error["retryable"]), (&json!("unstorable"), &json!(true)));
    assert_eq!(rig.finished(task).await, TaskState::Error);
}

#[tokio::test]
async fn metadata_that_cannot_be_stored_is_left_out_and_its_success_stays_one() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("c", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.into()).unwrap();
    let large = format!("\"{}\"", "x".repeat(tasker_wire::limits::METADATA_BYTES));
    for metadata in ["{\"a\": 1, \"a\": 2}", "1e400", &large] {
        let run = rig.receive().await;
        let success = tasker_wire::Outcome::success(raw("7"), Some(raw(metadata)));
        assert_eq!(rig.answer(&run, success).await, Answer::Accepted);
    }
    assert_eq!(rig.finished(task).await, TaskState::Complete);
    assert_eq!(rig.count("select count(*) from tasker.outcomes where metadata is null and outcome = 'success'").await, 3);
}
