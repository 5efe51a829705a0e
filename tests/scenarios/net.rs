//! A message is lost inside the process, or a step inside a worker's child, which no verb and no recovery knows of: the safety net finds
//! it, and takes nothing else for lost.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tasker_queue::InProcess;
use tasker_wire::{Answer, Lease, RunStep, TaskState};
use tasker_worker::{Executor, WorkerSettings};
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, by, engine, failure, success, template, workflow};

fn lease(run: &RunStep) -> Lease {
    Lease { step: run.step_id, number: run.lease }
}

async fn look(rig: &Rig) -> u64 {
    rig.engine.look_for_lost().await.unwrap();
    rig.engine.lost_dispatches()
}

/// A task of two steps in a row.
async fn two() -> (Rig, tasker_wire::TaskId, RunStep) {
    let rig = Rig::still().await;
    rig.register(&template("two", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("two", json!({})).await;
    let a = rig.receive().await;
    (rig, task, a)
}

/// Commits the success of a step whose message for the next one never reaches the queue.
async fn lose_the_next_message(rig: &Rig, run: &RunStep) {
    // Another process of the same database, whose queue nobody reads.
    let other = engine(&rig.db, InProcess::default());
    assert_eq!(other.complete(vec![run.complete(success(json!(1)), "w", 1)]).await.unwrap(), [Answer::Accepted]);
    rig.engine.queue().forget_lease(lease(run));
}

#[tokio::test]
async fn a_message_that_is_lost_between_the_commit_and_the_queue_is_sent_at_the_second_look_and_counted() {
    let (rig, task, a) = two().await;
    lose_the_next_message(&rig, &a).await;
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!((look(&rig).await, rig.engine.queue().waiting()), (0, 0), "it may be on its way");
    assert_eq!((look(&rig).await, rig.engine.queue().waiting()), (1, 1));
    let b = rig.receive().await;
    assert_eq!((b.step_name.as_str(), b.lease, b.attempt, b.dependency_results["a"].get()), ("b", 1, 1, "1"));
    assert_eq!(look(&rig).await, 1, "it is counted once");
    rig.answer(&b, success(json!(2))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn what_the_queue_has_and_what_moved_on_is_not_taken_for_lost() {
    let (rig, task, a) = two().await;
    // At the first look a message is on its way; at the second it has arrived.
    lose_the_next_message(&rig, &a).await;
    assert_eq!(look(&rig).await, 0);
    rig.engine.recover().await.unwrap();
    assert_eq!((look(&rig).await, rig.engine.queue().waiting()), (0, 1));
    // It was answered, and the step has another lease, since the look at which its message was on its way.
    let b = rig.receive().await;
    rig.engine.queue().forget_lease(lease(&b));
    assert_eq!(look(&rig).await, 0);
    rig.answer(&b, failure("again")).await;
    rig.engine.sweep().await.unwrap();
    assert_eq!((look(&rig).await, rig.receive().await.lease), (0, 2), "lease 2 is known");
    // It ended since.
    rig.engine.queue().forget(task);
    assert_eq!(look(&rig).await, 0);
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    assert_eq!(look(&rig).await, 0);
    assert_eq!(look(&rig).await, 0);
}

#[tokio::test]
async fn what_recovery_will_send_is_no_alarm() {
    let (rig, _, a) = two().await;
    lose_the_next_message(&rig, &a).await;
    assert_eq!(look(&rig).await, 0);
    // A verb lost its answer.
    rig.engine.recover_soon();
    assert_eq!((look(&rig).await, rig.engine.queue().waiting()), (0, 0));
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!((look(&rig).await, rig.engine.queue().waiting()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_a_verb_that_may_send_it_still_runs() {
    let (rig, _, a) = two().await;
    lose_the_next_message(&rig, &a).await;
    let other = rig.submit("two", json!({"n": 2})).await;
    // A lock keeps a verb waiting, for at most two seconds; a machine that was too slow for the looks meanwhile tries again.
    let looked_in_time = loop {
        let operator = rig.db.client().await;
        operator.batch_execute("begin").await.unwrap();
        operator.execute("select from tasker.tasks where task_id = $1 for update", &[&other.uuid()]).await.unwrap();
        let engine = rig.engine.clone();
        let verb = tokio::spawn(async move { engine.cancel_task(other, by("a verb that waits")).await });
        rig.until("select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%operate_v1%')")
            .await;
        let looks = (look(&rig).await, look(&rig).await);
        let in_time = !verb.is_finished();
        operator.batch_execute("commit").await.unwrap();
        let ended = verb.await.unwrap();
        if in_time && ended.is_ok() {
            break looks;
        }
        rig.engine.sweep_and_recover().await.unwrap();
        rig.engine.queue().forget_step(tasker_wire::StepId { no: 2 * a.step_id.no, ..a.step_id });
    };
    assert_eq!(looked_in_time, (0, 0));
    assert_eq!(look(&rig).await, 1, "the verb has ended, and sent nothing of it");
    rig.check().await;
}

#[tokio::test]
async fn more_tasks_than_one_look_reads_are_read_by_the_next_ones() {
    let rig = Rig::still().await;
    rig.register(&template("one", &[("a", &[])])).await;
    let first = rig.submit("one", json!({})).await;
    // Names without a task, which a look reads as any other.
    rig.execute(
        "insert into tasker.in_process select ('00000000-0000-7000-8000-' || lpad(to_hex(i), 5, '0') || '0000000')::uuid from generate_series(1, 10000) i",
    )
    .await;
    rig.engine.queue().forget(first);
    let mut looks = 0;
    while look(&rig).await == 0 {
        looks += 1;
        assert!(looks < 5, "it is never found");
    }
    assert_eq!(looks, 2, "the first look reads ten thousand names, and the second this one, which the third sends");
}

/// The loop and the child process of a worker, whose SDK loses the first run of a step with the handler `lost`.
async fn run_losing_worker(rig: &Rig, shutdown: CancellationToken) {
    let settings = WorkerSettings { look_for_lost: Duration::from_millis(200), ..WorkerSettings::new("default") };
    let child = tasker_test_support::root().join("workers/runtime/tests/children/losing.py");
    let command = format!("python3 {}", child.display()).parse().unwrap();
    let executor = Executor::child(command, &settings).await.unwrap();
    let (source, queue) = (Arc::new(rig.engine.steps("default")), Arc::new(rig.engine.queue().clone()));
    tokio::spawn(tasker_worker::run(source, queue, executor, settings, shutdown));
}

#[tokio::test]
async fn a_task_whose_step_was_lost_in_a_child_completes_with_the_only_attempt_that_it_has() {
    let rig = Rig::still().await;
    let steps = json!([{"name": "ok"}, {"name": "lost", "dependencies": ["ok"], "retry": {"max_attempts": 1}}]);
    rig.register(&workflow("one_attempt", steps)).await;
    rig.start_loops();
    let shutdown = CancellationToken::new();
    run_losing_worker(&rig, shutdown.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let task = rig.submit("one_attempt", json!({"mark": folder.path().join("mark")})).await;
    assert_eq!(rig.finished(task).await, TaskState::Complete);
    let lost = rig.step(task, "lost").await;
    assert_eq!((lost.lease, lost.attempt, lost.result), (1, 1, Some(json!({"attempt": 1}))));
    assert_eq!(rig.engine.lost_dispatches(), 1);
    rig.check().await;
    shutdown.cancel();
}
