//! Tasks that take longer than their template allows: what is found, what is repaired first, what is done.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_engine::{OperatorAction, OperatorError, Precondition, StaleLook};
use tasker_queue::Queue;
use tasker_store::{PauseScope, StalePosition};
use tasker_wire::{Answer, Outcome, StepState, TaskId, TaskState};

use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, by, failure, permanent, raw, success, workflow},
};

const MINUTE: Duration = Duration::from_secs(60);
const NOTHING: StaleLook = StaleLook { repaired: 0, entered: 0, expired: 0 };
const ENTERED: StaleLook = StaleLook { entered: 1, ..NOTHING };
const REPAIRED: StaleLook = StaleLook { repaired: 1, ..NOTHING };

/// a, then b, under these thresholds. A retry waits for an hour.
fn template(lifecycle: Value) -> String {
    let steps = json!([{"name": "a", "retry": {"backoff_base_ms": 3_600_000, "max_backoff_ms": 3_600_000}},
        {"name": "b", "dependencies": ["a"]}]);
    let mut template: Value = serde_json::from_str(&workflow("w", steps)).unwrap();
    template["lifecycle"] = lifecycle;
    template.to_string()
}

async fn prepared<Q: Queue>(rig: Rig<Q>, lifecycle: Value) -> (Rig<Q>, TaskId) {
    rig.stop_clock().await;
    rig.register(&template(lifecycle)).await;
    let task = rig.submit("w", json!({})).await;
    (rig, task)
}

async fn rig(lifecycle: Value) -> (Rig, TaskId) {
    prepared(Rig::still().await, lifecycle).await
}

async fn look<Q: Queue>(rig: &Rig<Q>) -> StaleLook {
    rig.engine.look_for_stale(|| false).await.unwrap_or_else(|e| panic!("{e}"))
}

async fn entries<Q: Queue>(rig: &Rig<Q>) -> Vec<Value> {
    rig.rows(
        "select reason, reason_detail as detail, step, status, notes from tasker.dlq_entries order by created_at, dlq_entry_id",
    )
    .await
}

fn entry(detail: &str, step: Option<&str>, status: &str, notes: Option<&str>) -> Value {
    json!({"reason": "staleness_timeout", "detail": detail, "step": step, "status": status, "notes": notes})
}

#[tokio::test]
async fn a_step_in_process_for_too_long_opens_one_entry_which_its_progress_closes() {
    let (rig, task) = rig(json!({"max_steps_in_process_minutes": 30})).await;
    let run = rig.receive().await;
    rig.pass(30 * MINUTE).await;
    assert_eq!(look(&rig).await, NOTHING, "thirty minutes are allowed");
    rig.pass(Duration::from_millis(1)).await;
    assert_eq!(look(&rig).await, ENTERED);
    assert_eq!(look(&rig).await, NOTHING, "it has an entry");
    let open = entry("max_steps_in_process_minutes", Some("a"), "pending", None);
    assert_eq!(entries(&rig).await, [open]);
    let shown = rig.rows("select snapshot from tasker.dlq_entries").await.remove(0)["snapshot"].take();
    assert_eq!(shown["about"]["message"], "steps_in_process of step a for 30 min, and max_steps_in_process_minutes allows 30");
    assert_eq!((&shown["task"]["name"], &shown["steps"]), (&json!("w"), &json!({"enqueued": 1, "pending": 1})));
    assert_eq!((&shown["live_steps"][0]["name"], &shown["failed_steps"]), (&json!("a"), &json!([])));

    assert_eq!(rig.answer(&run, success(json!(1))).await, Answer::Accepted, "the task goes on");
    assert_eq!(look(&rig).await, NOTHING);
    let closed = entry("max_steps_in_process_minutes", Some("a"), "manually_resolved", Some("the step has progressed"));
    assert_eq!(entries(&rig).await, [closed]);
    rig.answer(&rig.receive().await, success(json!(2))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
}

#[tokio::test]
async fn what_an_operator_closed_is_not_entered_again_for_the_same_wait() {
    let (rig, _) = rig(json!({"max_steps_in_process_minutes": 30, "max_duration_minutes": 100})).await;
    let run = rig.receive().await;
    rig.pass(31 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED);
    rig.execute("update tasker.dlq_entries set status = 'permanently_failed', resolved_at = tasker.clock()").await;
    assert_eq!(look(&rig).await, NOTHING);
    rig.answer(&run, success(json!(1))).await;
    rig.receive().await;
    rig.pass(31 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED, "the next step is another wait");
}

#[tokio::test]
async fn each_threshold_names_what_waits() {
    let (rig, _) = rig(json!({"max_waiting_for_retry_minutes": 20})).await;
    rig.answer(&rig.receive().await, failure("no")).await;
    rig.pass(21 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED);
    assert_eq!(entries(&rig).await, [entry("max_waiting_for_retry_minutes", Some("a"), "pending", None)]);

    let (rig, _) = self::rig(json!({"max_waiting_for_dependencies_minutes": 40})).await;
    rig.pass(41 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED);
    assert_eq!(entries(&rig).await, [entry("max_waiting_for_dependencies_minutes", Some("b"), "pending", None)]);
    rig.answer(&rig.receive().await, success(json!(1))).await;
    look(&rig).await;
    assert_eq!(entries(&rig).await[0]["status"], "manually_resolved", "b waits no longer");

    let (rig, _) = self::rig(json!({"max_duration_minutes": 100})).await;
    rig.pass(101 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED);
    assert_eq!(entries(&rig).await, [entry("max_duration_minutes", None, "pending", None)]);
    for _ in 0..2 {
        look(&rig).await;
        assert_eq!(entries(&rig).await[0]["status"], "pending", "the task still runs");
        rig.answer(&rig.receive().await, success(json!(1))).await;
    }
    look(&rig).await;
    assert_eq!(entries(&rig).await, [entry("max_duration_minutes", None, "manually_resolved", Some("the task has ended"))]);
}

#[tokio::test]
async fn a_stale_task_is_ended_where_the_template_says_so_and_can_be_reopened() {
    let lifecycle = json!({"max_steps_in_process_minutes": 30, "max_duration_minutes": 31, "staleness_action": "error"});
    let (rig, task) = rig(lifecycle).await;
    let run = rig.receive().await;
    rig.pass(31 * MINUTE).await;
    let (one, other) = tokio::join!(look(&rig), look(&rig));
    assert_eq!(one.expired + other.expired, 1, "two looks at once end it once: {one:?}, {other:?}");
    assert_eq!(rig.state(task).await, TaskState::Error);
    assert!(rig.steps(task).await.values().all(|step| step.state == StepState::Cancelled));
    assert_eq!(entries(&rig).await, [entry("max_steps_in_process_minutes", Some("a"), "pending", None)]);
    assert_eq!(look(&rig).await, NOTHING);
    assert_eq!(entries(&rig).await[0]["status"], "pending", "it waits for an operator");
    assert_eq!(rig.answer(&run, success(json!(1))).await, Answer::Stale);
    let audit = rig.rows("select actor, reason, to_state from tasker.audit_log where action = 'expire_task'").await;
    let reason = "steps_in_process of step a for 31 min, and max_steps_in_process_minutes allows 30";
    assert_eq!(audit, [json!({"actor": "tasker", "reason": reason, "to_state": "error"})]);
    rig.check().await;

    rig.engine.operate((task, None), OperatorAction::ReopenTask, by("try again"), Precondition::default()).await.unwrap();
    assert_eq!(entries(&rig).await[0]["status"], "manually_resolved");
    rig.pass(MINUTE).await;
    assert_eq!(look(&rig).await, NOTHING, "its clocks begin anew");
    for _ in 0..2 {
        rig.answer(&rig.receive().await, success(json!(1))).await;
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_task_that_moved_on_since_it_was_found_stale_is_not_ended() {
    let (rig, task) = rig(json!({"max_steps_in_process_minutes": 30, "staleness_action": "error"})).await;
    let stale = json!({"no": 16_384, "lease": 1, "detail": "max_steps_in_process_minutes", "facts": "those of before"});
    let action = OperatorAction::ExpireTask { stale: raw(stale).unwrap() };
    let refused = rig.engine.operate((task, None), action, by("late"), Precondition::default()).await;
    assert!(matches!(refused, Err(OperatorError::Conflict { step: None, .. })), "{refused:?}");
    assert_eq!((rig.state(task).await, entries(&rig).await.len()), (TaskState::Running, 0));
}

#[tokio::test]
async fn a_task_that_another_session_has_locked_is_left_for_the_next_look() {
    let (rig, task) = rig(json!({"max_steps_in_process_minutes": 30, "staleness_action": "error"})).await;
    rig.pass(31 * MINUTE).await;
    let other = rig.db.client().await;
    other.batch_execute("begin; select from tasker.tasks for update").await.unwrap();
    assert_eq!(look(&rig).await, NOTHING);
    other.batch_execute("rollback").await.unwrap();
    assert_eq!(look(&rig).await, StaleLook { expired: 1, ..NOTHING });
    assert_eq!(rig.state(task).await, TaskState::Error);
}

#[tokio::test]
async fn a_cancel_closes_the_entries_of_its_task_as_cancelled() {
    let (rig, task) = rig(json!({"max_steps_in_process_minutes": 30})).await;
    rig.pass(31 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED);
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    assert_eq!(entries(&rig).await, [entry("max_steps_in_process_minutes", Some("a"), "cancelled", Some("enough"))]);
}

#[tokio::test]
async fn nothing_is_done_where_the_template_says_so_or_has_no_threshold() {
    for lifecycle in [json!({"max_steps_in_process_minutes": 30, "staleness_action": "none"}), json!({})] {
        let (rig, task) = rig(lifecycle).await;
        rig.pass(10_000 * MINUTE).await;
        assert_eq!(look(&rig).await, NOTHING);
        assert_eq!((entries(&rig).await.len(), rig.state(task).await), (0, TaskState::Running));
    }
}

#[tokio::test]
async fn a_pause_of_a_task_its_template_or_its_namespace_stops_its_clocks() {
    for scope in [None, Some("w"), Some("")] {
        let (rig, task) = rig(json!({"max_steps_in_process_minutes": 30})).await;
        let pause = PauseScope { namespace: "default".into(), template: scope.filter(|it| !it.is_empty()).map(str::to_owned) };
        let act = |action| rig.engine.operate((task, None), action, by("wait"), Precondition::default());
        rig.pass(20 * MINUTE).await;
        match scope {
            None => drop(act(OperatorAction::PauseTask).await.unwrap()),
            Some(_) => drop(rig.engine.pause(pause.clone(), by("wait"), false).await.unwrap()),
        }
        rig.pass(1000 * MINUTE).await;
        assert_eq!(look(&rig).await, NOTHING, "{scope:?}: it is paused");
        match scope {
            None => drop(act(OperatorAction::ResumeTask).await.unwrap()),
            Some(_) => drop(rig.engine.resume(pause, by("go on"), false).await.unwrap()),
        }
        rig.pass(10 * MINUTE).await;
        assert_eq!(look(&rig).await, NOTHING, "{scope:?}: thirty minutes without the pause");
        rig.pass(Duration::from_millis(1)).await;
        assert_eq!(look(&rig).await, ENTERED, "{scope:?}");
    }
}

#[tokio::test]
async fn a_checkpoint_that_did_not_change_is_no_progress() {
    let checkpoint = |cursor: usize| Outcome::Checkpoint {
        cursor: raw(json!(cursor)).unwrap(),
        items_processed: cursor as u64,
        accumulated: raw(json!("anything")),
    };
    let (rig, _) = rig(json!({"max_steps_in_process_minutes": 30})).await;
    for cursor in [1, 2] {
        rig.pass(20 * MINUTE).await;
        rig.answer(&rig.receive().await, checkpoint(cursor)).await;
        assert_eq!(look(&rig).await, NOTHING, "it gets on");
    }
    rig.pass(20 * MINUTE).await;
    rig.answer(&rig.receive().await, checkpoint(2)).await;
    rig.pass(11 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED, "the last change was 31 minutes ago");
    rig.answer(&rig.receive().await, checkpoint(3)).await;
    look(&rig).await;
    assert_eq!(entries(&rig).await[0]["status"], "manually_resolved", "it gets on again");
}

#[tokio::test]
async fn a_step_that_awaits_its_callback_counts_only_towards_the_duration() {
    let (rig, _) = rig(json!({"max_steps_in_process_minutes": 30, "max_duration_minutes": 100})).await;
    rig.answer(&rig.receive().await, Outcome::PendingCallback { timeout_seconds: 86_400 }).await;
    rig.pass(31 * MINUTE).await;
    assert_eq!(look(&rig).await, NOTHING);
    rig.pass(70 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED);
    assert_eq!(entries(&rig).await, [entry("max_duration_minutes", None, "pending", None)]);
}

#[tokio::test]
async fn a_ready_step_that_was_not_dispatched_is_dispatched_instead_of_being_stale() {
    let (rig, task) = rig(json!({"max_waiting_for_dependencies_minutes": 40, "staleness_action": "error"})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    // A defect that lost the dispatch of b.
    rig.receive().await;
    for defect in ["pending_parents = 0", "pending_parents = 1"] {
        rig.execute(&format!(
            "update tasker.steps set state = 'pending', wake_at = null, dispatched_at = null, {defect} where name = 'b'"
        ))
        .await;
        rig.pass(41 * MINUTE).await;
        assert_eq!(look(&rig).await, REPAIRED, "{defect}");
        rig.check().await;
        assert_eq!(rig.receive().await.step_name, "b", "{defect}");
        let audit = rig.rows("select metadata from tasker.audit_log where action = 'repair_task' order by created_at desc").await;
        assert_eq!(audit[0]["metadata"][0], "step b was ready and not dispatched", "{defect}");
    }
    assert_eq!((rig.engine.repaired_tasks(), entries(&rig).await.len(), rig.state(task).await), (2, 0, TaskState::Running));
}

#[tokio::test]
async fn wrong_counters_are_counted_anew_and_a_task_without_active_steps_ends() {
    let (rig, task) = rig(json!({"max_duration_minutes": 40, "staleness_action": "error"})).await;
    rig.execute("update tasker.tasks set active_steps = 7, failed_steps = 1").await;
    rig.pass(41 * MINUTE).await;
    assert_eq!(look(&rig).await, REPAIRED);
    rig.check().await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    // The last answer was applied, and its task did not notice.
    rig.receive().await;
    rig.execute(
        "update tasker.steps set state = 'complete', result = '1', result_bytes = 1, digest = 1, duration_ms = 1, worker = 'w',
            finished_at = tasker.clock() where name = 'b'",
    )
    .await;
    rig.pass(41 * MINUTE).await;
    assert_eq!(look(&rig).await, REPAIRED);
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn over_a_queue_outside_a_dispatch_that_nothing_would_send_again_is_found_by_the_walk_and_sent() {
    let (rig, task) = prepared(Rig::over(RemoteQueue::new()).await, json!({"max_steps_in_process_minutes": 30})).await;
    assert_eq!(rig.engine.queue().runs().len(), 1);
    rig.execute("update tasker.steps set wake_at = null where name = 'a'").await;
    rig.pass(31 * MINUTE).await;
    assert_eq!(look(&rig).await, REPAIRED);
    assert_eq!(rig.engine.sweep().await.unwrap().sent, 1);
    let [run] = &rig.engine.queue().runs()[..] else { panic!("it is sent again") };
    assert_eq!((run.step_name.as_str(), run.lease), ("a", 1));
    assert_eq!(look(&rig).await, NOTHING, "its clocks begin anew");
    rig.pass(31 * MINUTE).await;
    assert_eq!(look(&rig).await, ENTERED, "now it is only late");
    rig.check().await;
    rig.answer(run, permanent("no")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
}

#[tokio::test]
async fn steps_that_wake_at_the_same_time_are_looked_at_page_by_page_and_none_is_left_out() {
    let (rig, _) = prepared(Rig::over(RemoteQueue::new()).await, json!({"max_steps_in_process_minutes": 30})).await;
    let copies = "select (jsonb_populate_record(r, jsonb_build_object('task_id', lpad(to_hex(i), 25, '0') || '0000000'))).*
        from generate_series(1, 2500) i, ";
    for table in ["tasks", "steps"] {
        rig.execute(&format!("insert into tasker.{table} {copies} tasker.{table} r")).await;
    }
    rig.execute("update tasker.steps set wake_at = tasker.clock() + interval '1 day' where state = 'enqueued'").await;
    rig.pass(31 * MINUTE).await;
    let (mut position, mut tasks, mut pages) = (Some(StalePosition::start()), Vec::new(), 0);
    while let Some(from) = position.take().filter(|from| *from != StalePosition::Walk) {
        let (watched, next) = rig.engine.store().watched_tasks(&from, false).await.unwrap();
        tasks.extend(watched.iter().map(|watched| watched.task.uuid()));
        (position, pages) = (next, pages + 1);
    }
    tasks.sort_unstable();
    tasks.dedup();
    assert_eq!(tasks.len(), 2_501, "in {pages} pages");
    assert!(pages >= 3);
    assert_eq!(rig.engine.look_for_stale(|| true).await.unwrap(), NOTHING, "there is no time for a page");
}
