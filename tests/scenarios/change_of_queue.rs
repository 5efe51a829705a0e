//! A database goes from a process with its own queue to one with a queue outside, and back. Nothing is lost, and nothing runs under a new
//! lease for it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tasker_engine::Swept;
use tasker_queue::InProcess;
use tasker_wire::{Answer, Outcome, StepState, TaskState};

use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, by, engine, failure, permanent, success, template, workflow},
};

const HOLD: Duration = Duration::from_secs(60);
/// The tasks whose dispatches only a process knows.
const NAMED: &str = "select count(*) from tasker.in_process";
/// The steps that a sweep looks at.
const WOKEN: &str = "select count(*) from tasker.steps where wake_at is not null";

#[tokio::test]
async fn what_is_under_way_at_a_change_of_the_queue_continues_under_its_lease() {
    let mut rig = Rig::still().await;
    rig.stop_clock().await;
    let steps: &[(&str, &[&str])] =
        &[("waiting", &[]), ("next", &["waiting"]), ("started", &[]), ("failed", &[]), ("calls_back", &[])];
    rig.register(&template("w", steps)).await;
    let task = rig.submit("w", json!({})).await;
    assert_eq!((rig.count(NAMED).await, rig.count(WOKEN).await), (1, 0), "only the process knows of the dispatches");
    let runs = rig.receive_all().await;
    rig.answer(&runs["started"], Outcome::Started {}).await;
    rig.answer(&runs["failed"], failure("once")).await;
    rig.answer(&runs["calls_back"], Outcome::PendingCallback { timeout_seconds: 600 }).await;
    rig.check().await;

    let remote = engine(&rig.db, RemoteQueue::new());
    assert_eq!(remote.sweep().await.unwrap(), Swept { sent: 2, overdue: 0 });
    let sent: Vec<_> = remote.queue().runs().into_iter().map(|run| (run.step_name.clone(), (run.lease, run))).collect();
    let sent: BTreeMap<_, _> = sent.into_iter().collect();
    assert_eq!(
        sent.iter().map(|(name, (lease, _))| (name.as_str(), *lease)).collect::<Vec<_>>(),
        [("failed", 2), ("waiting", 1)]
    );
    assert_eq!((rig.count(NAMED).await, rig.count(WOKEN).await), (1, 4), "the sweep looks at everything that lives");
    assert_eq!(remote.sweep().await.unwrap(), Swept::default(), "it is sent once");
    let answer = sent["waiting"].1.complete(success(json!(1)), "w", 1);
    assert_eq!(remote.complete(vec![answer]).await.unwrap(), [Answer::Accepted]);
    assert_eq!(remote.queue().runs().len(), 1, "the next one");
    rig.check().await;

    // A process takes the database over again.
    rig.restart().await;
    assert_eq!((rig.count(NAMED).await, rig.count(WOKEN).await), (1, 1), "a callback is awaited");
    let again = rig.receive_all().await;
    let leases: Vec<_> = again.iter().map(|(name, run)| (name.as_str(), run.lease, run.attempt)).collect();
    assert_eq!(leases, [("failed", 2, 2), ("next", 1, 1), ("started", 1, 1)]);
    rig.check().await;
    for run in again.values().chain([&runs["calls_back"]]) {
        assert_eq!(rig.answer(run, success(json!(1))).await, Answer::Accepted);
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!((rig.count(NAMED).await, rig.count(WOKEN).await), (0, 0));
    rig.check().await;
}

#[tokio::test]
async fn what_waits_at_a_take_over_and_is_dispatched_later_is_known_after_a_kill() {
    let remote = Rig::over(RemoteQueue::new()).await;
    remote.stop_clock().await;
    let retry = json!({"backoff": "linear", "backoff_base_ms": 60_000, "max_backoff_ms": 60_000});
    remote.register(&workflow("w", json!([{"name": "a", "retry": retry}, {"name": "b"}]))).await;
    remote.register(&template("two", &[("a", &[]), ("b", &["a"])])).await;
    let retried = remote.submit("w", json!({})).await;
    for run in remote.engine.queue().runs() {
        let outcome = if run.step_name == "a" { failure("not now") } else { success(json!(1)) };
        remote.answer(&run, outcome).await;
    }
    remote.execute("insert into tasker.pauses values ('default', 'two', 'me', 'because', tasker.clock())").await;
    let held = remote.submit("two", json!({})).await;
    remote.execute("delete from tasker.pauses").await;

    let process = engine(&remote.db, InProcess::default());
    process.take_over().await.unwrap();
    remote.check().await;
    remote.pass(2 * HOLD).await;
    while process.sweep().await.unwrap() != Swept::default() {}
    assert_eq!(process.queue().waiting(), 2);
    assert_eq!((remote.count(NAMED).await, remote.count(WOKEN).await), (2, 0));
    remote.check().await;

    let next = engine(&remote.db, InProcess::default());
    next.take_over().await.unwrap();
    assert_eq!(next.queue().waiting(), 2, "after a kill");
    for run in tasker_test_support::receive(&next, 2).await {
        next.complete(vec![run.complete(success(json!(1)), "w", 1)]).await.unwrap();
    }
    assert_eq!(remote.state(retried).await, TaskState::Complete);
    assert_eq!((remote.state(held).await, remote.step(held, "b").await.state), (TaskState::Running, StepState::Enqueued));
    assert_eq!(remote.count(NAMED).await, 1);
    remote.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_takes_over_what_is_not_locked_and_the_rest_later() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    let (locked, _free) = (rig.submit("w", json!({"n": 1})).await, rig.submit("w", json!({"n": 2})).await);
    let operator = rig.db.client().await;
    operator.batch_execute("begin").await.unwrap();
    let sql = "select from tasker.steps where task_id = $1 and name = 'a' for update";
    operator.execute(sql, &[&locked.uuid()]).await.unwrap();
    let remote = engine(&rig.db, RemoteQueue::new());
    assert_eq!(remote.sweep().await.unwrap().sent, 3);
    rig.check().await;
    operator.batch_execute("commit").await.unwrap();
    assert_eq!(remote.sweep().await.unwrap().sent, 1);
    assert_eq!(remote.queue().runs().len(), 4);
    rig.check().await;
}

#[tokio::test]
async fn a_sweep_takes_over_a_bounded_number_of_dispatches_and_the_next_one_continues() {
    let rig = Rig::still().await;
    rig.register(&workflow("w", (0..400).map(|n| json!({"name": format!("s{n}")})).collect())).await;
    for n in 0..3 {
        rig.submit("w", json!({"n": n})).await;
    }
    let remote = engine(&rig.db, RemoteQueue::new());
    let mut sent = Vec::new();
    while let Swept { sent: now @ 1.., .. } = remote.sweep().await.unwrap() {
        sent.push(now);
        rig.check().await;
    }
    assert_eq!(sent, [500, 500, 200]);
}

/// A call of the process may still run in the database when the process is dead.
#[tokio::test]
async fn a_dispatch_that_a_dead_process_commits_after_the_sweep_is_found() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("w", json!({})).await;
    let run = rig.receive().await;
    assert_eq!(rig.answer(&run, Outcome::Started {}).await, Answer::Accepted);
    let remote = engine(&rig.db, RemoteQueue::new());
    assert_eq!(remote.sweep().await.unwrap(), Swept::default());
    assert_eq!(rig.answer(&run, success(json!(1))).await, Answer::Accepted);
    assert_eq!(remote.sweep().await.unwrap().sent, 1);
    let sent = remote.queue().runs().pop().unwrap();
    assert_eq!((sent.step_name.as_str(), sent.lease), ("b", 1));
    assert_eq!(remote.complete(vec![sent.complete(success(json!(1)), "w", 1)]).await.unwrap(), [Answer::Accepted]);
    assert_eq!((rig.state(task).await, rig.count(NAMED).await), (TaskState::Complete, 0));
    rig.check().await;
}

#[tokio::test]
async fn the_name_of_a_finished_task_is_forgotten_by_a_recovery_and_by_a_sweep() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    let name = format!("insert into tasker.in_process values ('{task}')");
    rig.execute(&name).await;
    rig.engine.recover().await.unwrap();
    assert_eq!(rig.count(NAMED).await, 0);
    rig.execute(&name).await;
    engine(&rig.db, RemoteQueue::new()).sweep().await.unwrap();
    assert_eq!(rig.count(NAMED).await, 0);
}

#[tokio::test]
async fn a_task_is_named_exactly_while_it_is_unfinished() {
    let mut rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    rig.register(&template("empty", &[])).await;
    rig.submit("empty", json!({})).await;
    assert_eq!(rig.count(NAMED).await, 0);
    let task = rig.submit("w", json!({})).await;
    for run in rig.receive_all().await.values() {
        rig.answer(run, permanent("no")).await;
    }
    assert_eq!((rig.state(task).await, rig.count(NAMED).await), (TaskState::Error, 0));
    // One of two failures is resolved: the task stays as it is.
    let (a, b) = (rig.step_id(task, "a").await, rig.step_id(task, "b").await);
    rig.engine.resolve_step(a, None, by("done by hand")).await.unwrap();
    assert_eq!((rig.state(task).await, rig.count(NAMED).await), (TaskState::Error, 0));
    rig.check().await;
    rig.engine.retry_step(b, by("mended")).await.unwrap();
    assert_eq!(rig.count(NAMED).await, 1);
    rig.restart().await;
    assert_eq!(rig.engine.queue().waiting(), 1, "the operator's dispatch is known after a kill");
    rig.check().await;
    // A held step ends with its task.
    rig.answer(&rig.receive().await, failure("again")).await;
    rig.execute("insert into tasker.pauses values ('default', '', 'me', 'because', tasker.clock())").await;
    rig.engine.sweep().await.unwrap();
    rig.check().await;
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    assert_eq!((rig.state(task).await, rig.count(NAMED).await), (TaskState::Cancelled, 0));
    rig.check().await;
}
