//! Sweeps: two at once, one during a send, and one that meets templates that it cannot read.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use serde_json::json;
use tasker_queue::InProcess;
use tasker_wire::{Outcome, StepState, TaskState, limits};
use tokio_util::sync::CancellationToken;

use crate::{
    remote_queue::RemoteQueue,
    rig::{PATIENCE, Rig, by, engine, failure, run, success, template, workflow},
};

const SEND_LEASE: Duration = Duration::from_secs(30);

async fn rig() -> Rig<RemoteQueue> {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    rig
}

#[tokio::test]
async fn a_sweep_does_not_re_send_a_message_whose_send_is_in_progress() {
    let rig = rig().await;
    rig.engine.queue().refuse(|_| true);
    rig.submit("w", json!({})).await;
    rig.engine.queue().refuse(|_| false);
    rig.pass(SEND_LEASE).await;
    let queue = rig.engine.queue();
    let closed = queue.gate.write().await;
    let begun = queue.begun.load(Relaxed);
    let sweep = || {
        let engine = rig.engine.clone();
        tokio::spawn(async move { engine.sweep().await.unwrap().sent })
    };
    let slow = sweep();
    while queue.begun.load(Relaxed) == begun {
        tokio::task::yield_now().await;
    }
    rig.pass(SEND_LEASE - Duration::from_millis(1)).await;
    let second = sweep();
    while !second.is_finished() {
        assert_eq!(queue.begun.load(Relaxed), begun + 1, "the second sweep sends nothing");
        tokio::task::yield_now().await;
    }
    drop(closed);
    assert_eq!((slow.await.unwrap(), second.await.unwrap()), (2, 0));
    assert_eq!(queue.runs().len(), 2);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweeps_at_once_send_nothing_twice() {
    let rig = rig().await;
    let steps = (0..1000).map(|i| json!({"name": format!("s{i}")})).collect();
    rig.register(&workflow("roots", steps)).await;
    rig.engine.queue().refuse(|_| true);
    rig.submit("roots", json!({})).await;
    rig.engine.queue().refuse(|_| false);
    rig.pass(SEND_LEASE).await;
    let mut sent = 0;
    while sent < 1000 {
        let (one, other) = tokio::join!(rig.engine.sweep(), rig.engine.sweep());
        sent += one.unwrap().sent + other.unwrap().sent;
    }
    let runs = rig.engine.queue().runs();
    assert_eq!(runs.len(), 1000);
    assert!(runs.windows(2).all(|pair| pair[0].step_name != pair[1].step_name));
    assert_eq!(rig.engine.sweep().await.unwrap().sent, 0);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweeps_at_once_dispatch_a_due_retry_and_a_lost_step_once() {
    let rig = rig().await;
    for n in 0..20 {
        let task = rig.submit("w", json!({"n": n})).await;
        let runs = rig.engine.queue().runs();
        rig.answer(&runs[0], failure("not now")).await;
        rig.answer(&runs[1], Outcome::Started {}).await;
        rig.pass(Duration::from_secs(60)).await;
        let (one, other) = tokio::join!(rig.engine.sweep(), rig.engine.sweep());
        one.and(other).unwrap();
        let runs = rig.engine.queue().runs();
        let keys: Vec<_> = runs.iter().map(|run| (run.step_name.as_str(), run.lease, run.attempt)).collect();
        assert_eq!(keys, [("a", 2, 2), ("b", 2, 1)]);
        rig.engine.cancel_task(task, by("next")).await.unwrap();
    }
    rig.check().await;
}

#[tokio::test]
async fn steps_whose_template_is_unreadable_do_not_keep_the_sweep_from_others() {
    let rig = Rig::still().await;
    let wide: Vec<_> = (0..limits::SWEEP_ROWS + 1).map(|i| json!({"name": format!("s{i}"), "timeout_seconds": 1})).collect();
    rig.register(&workflow("wide", json!(wide))).await;
    rig.register(&workflow("w", json!([{"name": "a", "timeout_seconds": 2}]))).await;
    rig.stop_clock().await;
    let stuck = rig.submit("wide", json!({})).await;
    let task = rig.submit("w", json!({})).await;
    let mut received = 0;
    while received < wide.len() + 1 {
        let runs = rig.receive_up_to(1000).await;
        received += runs.len();
        rig.complete(runs.iter().map(|r| r.complete(Outcome::Started {}, "scripted", 0)).collect()).await;
    }
    rig.execute("update tasker.templates set definition = '{}' where name = 'wide'").await;
    // A new process, which has not read the template.
    let engine = engine(&rig.db, InProcess::default());
    rig.pass(Duration::from_secs(15)).await;
    while engine.sweep().await.unwrap() != Default::default() {}
    assert_eq!(rig.step(task, "a").await.lease, 2, "the step with a readable template is dispatched again");
    assert_eq!(rig.step(stuck, "s0").await.state, StepState::InProgress);
    rig.check().await;
}

#[tokio::test]
async fn the_messages_of_a_sweep_are_sent_even_if_the_sweep_fails_later() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let runs = rig.receive_all().await;
    rig.answer(&runs["a"], failure("once")).await;
    rig.answer(&runs["b"], Outcome::Started {}).await;
    rig.execute("update tasker.steps set wake_at = now() - interval '1 s'").await;
    // A new process, which has not read the template, and cannot for a moment.
    let engine = engine(&rig.db, InProcess::default());
    rig.execute("alter table tasker.templates rename to away").await;
    assert!(engine.sweep().await.is_err());
    rig.execute("alter table tasker.away rename to templates").await;
    assert_eq!(rig.step(task, "a").await.state, StepState::Enqueued);
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(engine.clone(), stop.clone(), 1, |_| success(json!(1))));
    engine.wait(task, PATIENCE).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    stop.cancel();
    running.await.unwrap();
    rig.check().await;
}
