//! Operator actions on steps: retry and resolve. Each writes a row of the audit log and moves the task on.

use serde_json::{Value, json, value::RawValue};
use tasker_engine::OperatorError;
use tasker_wire::{Answer, Outcome, RunStep, StepState, TaskId, TaskState, ids::step_no};

use crate::rig::{Rig, by, failure, permanent, raw, success, template};

async fn chain() -> (Rig, TaskId, RunStep) {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    (rig, task, a)
}

fn conflict(result: Result<(), OperatorError>) -> (bool, String) {
    match result {
        Err(OperatorError::Conflict { step, state }) => (step.is_some(), state),
        other => panic!("no conflict: {other:?}"),
    }
}

async fn audit(rig: &Rig) -> Vec<Value> {
    rig.rows(
        "select json_build_array(l.action, s.name, l.actor, l.reason, l.from_state, l.to_state) as row from tasker.audit_log l \
             left join tasker.steps s using (task_id, no) order by l.created_at, l.action desc",
    )
    .await
    .into_iter()
    .map(|mut row| row["row"].take())
    .collect()
}

#[tokio::test]
async fn a_retry_gives_a_failed_step_its_whole_budget_again() {
    let (rig, task, mut a) = chain().await;
    for lease in 2..=3 {
        rig.answer(&a, failure("no")).await;
        rig.engine.sweep().await.unwrap();
        a = rig.receive().await;
        assert_eq!((a.lease, a.attempt), (lease, lease));
    }
    rig.answer(&a, failure("no")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    rig.engine.retry_step(a.step_id, by("mended")).await.unwrap();
    for (lease, attempt) in [(4, 1), (5, 2), (6, 3)] {
        let a = rig.receive().await;
        assert_eq!((a.lease, a.attempt, a.max_attempts), (lease, attempt, 3));
        rig.answer(&a, failure("no")).await;
        rig.engine.sweep().await.unwrap();
    }
    assert_eq!(rig.state(task).await, TaskState::Error);
    let attempts: Vec<Value> = [1, 2, 3, 1, 2, 3].iter().zip(1..).map(|(n, lease)| json!([lease, n, "failure", true])).collect();
    assert_eq!(rig.attempts(task, "a").await, attempts);
    let finish = json!(["finish", null, "tasker", "no step can make progress", "running", "error"]);
    let retry = json!(["retry_step", "a", "operator", "mended", "error", "enqueued"]);
    assert_eq!(audit(&rig).await, [finish.clone(), retry, finish]);
    rig.check().await;
}

#[tokio::test]
async fn a_step_that_waits_for_its_retry_is_retried_at_once() {
    let (rig, task, a) = chain().await;
    rig.answer(&a, Outcome::Failure(tasker_wire::outcome::Failure { delay_seconds: Some(3600.0), ..retryable() })).await;
    rig.engine.retry_step(a.step_id, by("now")).await.unwrap();
    let again = rig.receive().await;
    assert_eq!((again.lease, again.attempt), (2, 1));
    assert_eq!(rig.step(task, "a").await.error, None);
    rig.check().await;
}

fn retryable() -> tasker_wire::outcome::Failure {
    tasker_wire::outcome::Failure::retryable("x", "y")
}

#[tokio::test]
async fn a_step_that_is_not_failed_is_not_retried() {
    let (rig, task, a) = chain().await;
    let (b, c) = (rig.step_id(task, "b").await, rig.step_id(task, "c").await);
    let refuse = async |step| conflict(rig.engine.retry_step(step, by("x")).await);
    assert_eq!(refuse(b).await, (true, "pending".into()));
    assert_eq!(refuse(a.step_id).await, (true, "enqueued".into()));
    rig.answer(&a, Outcome::Started {}).await;
    assert_eq!(refuse(a.step_id).await, (true, "in_progress".into()));
    rig.answer(&a, success(json!(1))).await;
    assert_eq!(refuse(a.step_id).await, (true, "complete".into()));
    rig.engine.resolve_step(b, None, by("skip")).await.unwrap();
    assert_eq!(refuse(b).await, (true, "resolved_manually".into()));
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    assert_eq!(refuse(c).await, (false, "cancelled".into()), "the task must be reopened first");
    let nobody = TaskId::from_fresh(uuid::Uuid::now_v7()).step(step_no(0));
    for unknown in [nobody, task.step(c.no + 1)] {
        assert!(matches!(rig.engine.retry_step(unknown, by("x")).await, Err(OperatorError::NotFound)));
        assert!(matches!(rig.engine.resolve_step(unknown, None, by("x")).await, Err(OperatorError::NotFound)));
    }
    rig.check().await;
}

#[tokio::test]
async fn a_step_that_is_done_is_not_resolved() {
    let (rig, task, a) = chain().await;
    rig.answer(&a, success(json!(1))).await;
    let refuse = async |step| conflict(rig.engine.resolve_step(step, raw(json!("x")), by("x")).await);
    assert_eq!(refuse(a.step_id).await, (true, "complete".into()));
    let b = rig.step_id(task, "b").await;
    for _ in 0..2 {
        rig.engine.resolve_step(b, raw(json!("y")), by("the same may be said again")).await.unwrap();
    }
    assert_eq!(rig.count("select count(*) from tasker.audit_log where action = 'resolve_step'").await, 1);
    assert_eq!(refuse(b).await, (true, "resolved_manually".into()));
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    assert_eq!(refuse(rig.step_id(task, "c").await).await, (false, "cancelled".into()));
    rig.check().await;
}

/// Brings `a` of a chain into a state.
async fn bring(rig: &Rig, a: &RunStep, state: StepState) {
    match state {
        StepState::Enqueued => {}
        StepState::InProgress => drop(rig.answer(a, Outcome::PendingCallback { timeout_seconds: 600 }).await),
        StepState::WaitingForRetry => drop(rig.answer(a, failure("no")).await),
        StepState::Error => drop(rig.answer(a, permanent("no")).await),
        other => unreachable!("{other}"),
    }
}

#[tokio::test]
async fn children_see_what_a_step_was_resolved_with_whatever_it_was_doing() {
    for state in [StepState::Enqueued, StepState::InProgress, StepState::WaitingForRetry, StepState::Error] {
        for result in [Some(json!({"by": "hand"})), None] {
            let (rig, task, a) = chain().await;
            bring(&rig, &a, state).await;
            assert_eq!(rig.step(task, "a").await.state, state);
            rig.engine.resolve_step(a.step_id, result.clone().and_then(raw), by("settled")).await.unwrap();
            let step = rig.step(task, "a").await;
            assert_eq!((step.state, step.lease, &step.result), (StepState::ResolvedManually, 2, &result), "{state}");
            assert_eq!(rig.state(task).await, TaskState::Running);
            assert_eq!(rig.answer(&a, success(json!("late"))).await, Answer::Stale);
            rig.engine.sweep().await.unwrap();
            let b = rig.receive().await;
            let seen: Value = serde_json::from_str(b.dependency_results["a"].get()).unwrap();
            assert_eq!(seen, result.unwrap_or(Value::Null));
            assert_eq!(rig.engine.queue().waiting(), 0);
            let row = json!(["resolve_step", "a", "operator", "settled", state.as_str(), "resolved_manually"]);
            assert!(audit(&rig).await.contains(&row));
            rig.check().await;
        }
    }
}

#[tokio::test]
async fn a_step_resolved_ahead_of_its_parents_lets_its_children_go_and_its_parents_finish() {
    let (rig, task, a) = chain().await;
    rig.engine.resolve_step(rig.step_id(task, "b").await, raw(json!("early")), by("known")).await.unwrap();
    let c = rig.receive().await;
    assert_eq!((c.step_name.as_str(), c.dependency_results["b"].get()), ("c", "\"early\""));
    rig.answer(&c, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Running, "a is under way still");
    rig.check().await;
    rig.answer(&a, success(json!(1))).await;
    assert_eq!(rig.engine.queue().waiting(), 0, "b does not start again");
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn resolving_the_only_failed_step_completes_a_task_that_waits_for_nothing_else() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    let b = rig.receive().await;
    rig.answer(&b, permanent("no")).await;
    rig.pass(std::time::Duration::from_secs(60)).await;
    rig.engine.resolve_step(b.step_id, None, by("done by hand")).await.unwrap();
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(
        rig.rows("select status, resolved_by from tasker.dlq_entries").await,
        [json!({"status": "manually_resolved", "resolved_by": "operator"})]
    );
    assert_eq!(rig.count("select extract(epoch from tasker.clock() - finished_at)::int8 from tasker.tasks").await, 0);
    assert_eq!(
        audit(&rig).await,
        [
            json!(["finish", null, "tasker", "no step can make progress", "running", "error"]),
            json!(["resolve_step", "b", "operator", "done by hand", "error", "resolved_manually"]),
            json!(["finish", null, "tasker", "every step is done", "error", "complete"]),
        ]
    );
    rig.check().await;
}

#[tokio::test]
async fn resolving_one_of_two_failed_steps_leaves_the_task_failed() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    for run in runs.values() {
        rig.answer(run, permanent("no")).await;
    }
    rig.engine.resolve_step(runs["a"].step_id, None, by("one")).await.unwrap();
    assert_eq!(rig.state(task).await, TaskState::Error);
    assert_eq!(rig.count("select count(*) from tasker.dlq_entries where status = 'pending'").await, 1);
    assert_eq!(rig.count("select count(*) from tasker.audit_log where action = 'finish'").await, 1);
    rig.check().await;
    rig.engine.resolve_step(runs["b"].step_id, None, by("two")).await.unwrap();
    assert_eq!(rig.state(task).await, TaskState::Running);
    assert_eq!(rig.count("select count(*) from tasker.dlq_entries where status = 'pending'").await, 0);
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_kept_resolves_nothing() {
    let (rig, task, a) = chain().await;
    let text = |text: &str| Some(RawValue::from_string(text.to_owned()).unwrap());
    for result in [text(r#""\u0000""#), text(r#"{"a":1,"a":2}"#), raw(json!("x".repeat(tasker_wire::limits::RESULT_BYTES)))] {
        let refused = rig.engine.resolve_step(a.step_id, result, by("x")).await.unwrap_err();
        assert!(matches!(&refused, OperatorError::Invalid(_)), "{refused:?}");
    }
    assert_eq!(rig.step(task, "a").await.state, StepState::Enqueued);
    assert!(audit(&rig).await.is_empty());
    rig.check().await;
}

#[tokio::test]
async fn two_retries_at_once_dispatch_a_step_once() {
    let (rig, task, a) = chain().await;
    rig.answer(&a, permanent("no")).await;
    // Both start before either can continue.
    let mut client = rig.db.client().await;
    let lock = client.transaction().await.unwrap();
    lock.query("select from tasker.steps for update", &[]).await.unwrap();
    let retry = |reason| {
        let (engine, step) = (rig.engine.clone(), a.step_id);
        tokio::spawn(async move { engine.retry_step(step, by(reason)).await })
    };
    let (one, other) = (retry("one"), retry("other"));
    let waiting = "select count(*) = 2 from pg_stat_activity \
                   where datname = current_database() and wait_event_type = 'Lock' and query like '%operate_v1%'";
    rig.until(waiting).await;
    lock.commit().await.unwrap();
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(conflict(one.and(other)), (true, "enqueued".into()));
    assert_eq!(rig.receive_all().await["a"].lease, 2);
    assert_eq!(rig.step(task, "a").await.lease, 2);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolve_and_an_answer_at_once_leave_one_result() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    for n in 0..100 {
        let task = rig.submit("w", json!({"n": n})).await;
        let a = rig.receive().await;
        let resolve = rig.engine.resolve_step(a.step_id, raw(json!("by hand")), by("x"));
        let (resolved, answer) = tokio::join!(resolve, rig.answer(&a, success(json!("by worker"))));
        let result = match (resolved, answer) {
            (Ok(()), Answer::Stale) => "\"by hand\"",
            (Err(OperatorError::Conflict { .. }), Answer::Accepted) => "\"by worker\"",
            both => panic!("{both:?}"),
        };
        let b = rig.receive().await;
        assert_eq!((b.task_id, b.lease, b.dependency_results["a"].get()), (task, 1, result));
        assert_eq!(rig.engine.queue().waiting(), 0);
    }
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_and_workers_at_once_leave_every_counter_right() {
    let rig = Rig::still().await;
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("join", &["a", "b"]), ("end", &["join"])];
    rig.register(&template("w", steps)).await;
    for n in 0..60 {
        let task = rig.submit("w", json!({"n": n})).await;
        let runs = rig.receive_all().await;
        let (join, end) = (rig.step_id(task, "join").await, rig.step_id(task, "end").await);
        rig.answer(&runs["a"], permanent("no")).await;
        let done = tokio::join!(
            rig.answer(&runs["b"], success(json!(1))),
            rig.engine.retry_step(runs["a"].step_id, by("x")),
            rig.engine.resolve_step(join, None, by("x")),
            rig.engine.resolve_step(end, None, by("x")),
        );
        assert!(matches!(done, (Answer::Accepted, Ok(()), Ok(()), _)), "{done:?}");
        for run in rig.receive_all().await.values() {
            rig.answer(run, success(json!(1))).await;
        }
        assert_eq!(rig.state(task).await, TaskState::Complete);
    }
    rig.check().await;
}
