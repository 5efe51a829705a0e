//! The database commits, and its answer is lost: a repetition of the call has no further effect.

use serde_json::json;
use tasker_engine::SubmitError;
use tasker_queue::InProcess;
use tasker_test_support::Proxy;
use tasker_wire::{Answer, StepState};

use crate::rig::{Rig, by, failure, success, template, workflow};

const CHAIN: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"])];

/// An engine that reaches its database through a proxy, is connected and has the template loaded.
async fn behind_a_proxy() -> (Rig, Proxy) {
    let mut rig = Rig::still().await;
    let (proxy, url) = Proxy::to_database(&rig.db.url).await;
    rig.engine = tasker_test_support::engine(&url, InProcess::default());
    rig.register(&template("w", CHAIN)).await;
    rig.submit("w", json!({"first": true})).await;
    for _ in 0..2 {
        rig.answer(&rig.receive().await, success(json!(1))).await;
    }
    (rig, proxy)
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_meets_itself() {
    let (rig, proxy) = behind_a_proxy().await;
    proxy.lose_after(0);
    let task = rig.submit("w", json!({})).await;
    assert!(proxy.lost());
    assert_eq!(rig.count("select count(*) from tasker.tasks").await, 2);
    rig.engine.recover().await.unwrap();
    let runs = rig.receive_all().await;
    assert_eq!((runs["a"].task_id, runs["a"].lease), (task, 1));
    assert_eq!(rig.answer(&runs["a"], success(json!(1))).await, Answer::Accepted);
    rig.check().await;
}

#[tokio::test]
async fn a_submit_whose_answers_are_all_lost_is_not_refused_but_unconfirmed_and_names_its_task() {
    let (rig, proxy) = behind_a_proxy().await;
    let silent = tokio::spawn(async move {
        // The answer to the repetition is lost too.
        loop {
            proxy.lose_after(0);
            tokio::task::yield_now().await;
        }
    });
    let unconfirmed = rig.try_submit(json!({"name": "w"})).await.unwrap_err();
    let SubmitError::Unconfirmed { task } = unconfirmed else { panic!("{unconfirmed}") };
    silent.abort();
    let stored = rig.count(&format!("select count(*) from tasker.tasks where task_id = '{task}'")).await;
    assert_eq!(stored, 1, "it was stored although nobody heard of it");
    assert_eq!(rig.count("select count(*) from tasker.tasks").await, 2);
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_dispatches_nothing_that_a_pause_holds() {
    let (rig, proxy) = behind_a_proxy().await;
    rig.execute("insert into tasker.pauses values ('default', '', 'me', 'because', tasker.clock())").await;
    proxy.lose_after(0);
    let task = rig.submit("w", json!({})).await;
    assert!(proxy.lost());
    assert_eq!(rig.step(task, "a").await.state, StepState::Pending);
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.check().await;
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_a_duplicate_and_its_children_are_recovered() {
    let (rig, proxy) = behind_a_proxy().await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    let batch = vec![a.complete(success(json!(1)), "w", 1)];
    proxy.lose_after(0);
    let error = rig.engine.complete(batch.clone()).await.unwrap_err();
    assert!(error.is_transient() && proxy.lost(), "{error}");
    assert_eq!(rig.complete(batch).await, [Answer::Duplicate]);
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.engine.recover().await.unwrap();
    let runs = rig.receive_all().await;
    assert_eq!((runs["b"].task_id, runs["b"].lease), (task, 1));
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", true])]);
    rig.check().await;
}

#[tokio::test]
async fn a_retry_whose_dispatch_was_not_answered_is_recovered_under_its_lease() {
    let (rig, proxy) = behind_a_proxy().await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, failure("not now")).await;
    let wake_up = rig.wake_up(task, "a").await;
    proxy.lose_after(0);
    rig.engine.evaluate(vec![wake_up]).await.unwrap_err();
    rig.engine.evaluate(vec![wake_up]).await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.engine.recover().await.unwrap();
    let run = rig.receive_all().await.remove("a").unwrap();
    assert_eq!((run.task_id, run.lease, run.attempt), (task, 2, 2));
    rig.check().await;
}

#[tokio::test]
async fn a_cancel_whose_answer_was_lost_may_be_said_again() {
    let (rig, proxy) = behind_a_proxy().await;
    let task = rig.submit("w", json!({})).await;
    proxy.lose_after(0);
    rig.engine.cancel_task(task, by("x")).await.unwrap_err();
    rig.engine.cancel_task(task, by("x")).await.unwrap();
    assert_eq!(rig.count("select count(*) from tasker.audit_log where action = 'cancel_task'").await, 1);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_engine_that_loses_many_answers_finishes_with_the_first_attempts() {
    let (rig, proxy) = behind_a_proxy().await;
    let step =
        |i: i32| json!({"name": format!("s{i}"), "dependencies": (0.max(i - 1)..i).map(|p| format!("s{p}")).collect::<Vec<_>>()});
    rig.register(&workflow("long", (0..12).map(step).collect())).await;
    for n in 0..20 {
        rig.submit("long", json!({"n": n})).await;
    }
    rig.start(7, |run| success(json!(run.step_name)));
    let mut lost = 0;
    while rig.count("select count(*) from tasker.tasks where state = 'running'").await > 0 {
        if lost < 8 && proxy.lost() {
            lost += 1;
            proxy.lose_after(1);
        }
    }
    println!("{lost} answers lost");
    assert!(lost > 5);
    let of_first = "from tasker.steps where state = 'complete' and attempt = 1 and lease = 1";
    assert_eq!(rig.count(&format!("select count(*) {of_first}")).await, 20 * 12 + 2);
    assert_eq!(rig.count("select count(*) from tasker.outcomes where applied").await, 20 * 12 + 2);
    rig.check().await;
}
