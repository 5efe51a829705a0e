//! A process dies, or loses its sessions or the answers of its database: everything still finishes, at the cost of no attempt.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tasker_queue::{InProcess, Outgoing, Queue};
use tasker_wire::{Answer, CompleteStep, Outcome, StepState, TaskId, TaskState};
use tokio_util::sync::CancellationToken;

use crate::rig::{PATIENCE, Rig, engine, failure, run, success, template, workflow};

#[tokio::test]
async fn steps_in_progress_at_a_kill_run_again_under_the_same_lease_and_attempt() {
    let mut rig = Rig::still().await;
    let steps = json!([{"name": "enqueued"}, {"name": "received"}, {"name": "started"}, {"name": "last_try", "retry": {"max_attempts": 1}}]);
    rig.register(&workflow("w", steps)).await;
    let task = rig.submit("w", json!({})).await;
    let mut runs = BTreeMap::new();
    for _ in 0..3 {
        let run = rig.receive().await;
        runs.insert(run.step_name.clone(), run);
    }
    for name in ["started", "last_try"] {
        if let Some(run) = runs.get(name) {
            assert_eq!(rig.answer(run, Outcome::Started {}).await, Answer::Accepted);
        }
    }
    let before = rig.steps(task).await;
    rig.restart().await;
    assert_eq!(rig.engine.queue().waiting(), 4);
    let runs = rig.receive_all().await;
    for (name, run) in &runs {
        assert_eq!((run.lease, run.attempt), (before[name].lease, before[name].attempt), "{name}");
        assert_eq!((run.lease, run.attempt, run.resend), (1, 1, 0), "{name}");
        assert_eq!(rig.answer(run, success(json!(name))).await, Answer::Accepted);
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_believed_is_given_up_and_its_step_is_sent_again() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    rig.start_loops();
    let mut run = rig.receive().await;
    // One is dead at once; the other may be signed by a key that another process knows, until its last receive.
    for token in ["x".to_owned(), run.token.replacen(".test.", ".new.", 1)] {
        let answer = CompleteStep { token, ..run.complete(success(json!(1)), "scripted", 1) };
        rig.engine.queue().send(vec![Outgoing::CompleteStep(Arc::new(answer))]).await;
        let again = rig.receive().await;
        assert_eq!((again.step_id, again.lease, again.attempt), (run.step_id, run.lease, run.attempt));
        run = again;
    }
    assert_eq!(rig.answer(&run, success(json!(2))).await, Answer::Accepted);
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_step_on_its_last_attempt_is_not_failed_by_a_kill() {
    let mut rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a", "retry": {"max_attempts": 2, "backoff": "none"}}]))).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, failure("once")).await;
    rig.engine.sweep().await.unwrap();
    for kill in 0..5 {
        let run = rig.receive().await;
        assert_eq!((run.attempt, run.lease), (2, 2), "after {kill} kills");
        rig.answer(&run, Outcome::Started {}).await;
        rig.restart().await;
    }
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!((rig.state(task).await, rig.step(task, "a").await.attempt), (TaskState::Complete, 2));
    rig.check().await;
}

#[tokio::test]
async fn a_callback_is_awaited_beyond_a_kill() {
    let mut rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let run = rig.receive().await;
    rig.answer(&run, Outcome::PendingCallback { timeout_seconds: 600 }).await;
    rig.restart().await;
    assert_eq!(rig.engine.queue().waiting(), 0);
    assert_eq!(rig.step(task, "a").await.state, StepState::InProgress);
    assert_eq!(rig.answer(&run, success(json!("at last"))).await, Answer::Accepted);
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_retry_is_dispatched_on_time_although_its_wake_up_was_lost() {
    let mut rig = Rig::still().await;
    rig.stop_clock().await;
    let retry = json!({"backoff": "linear", "backoff_base_ms": 60_000, "max_backoff_ms": 60_000});
    rig.register(&workflow("w", json!([{"name": "a", "retry": retry}]))).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, failure("not now")).await;
    let pause = rig.wakes_in_ms(task, "a").await.unwrap();
    rig.restart().await;
    rig.pass(Duration::from_millis(pause as u64 - 1)).await;
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.pass(Duration::from_millis(1)).await;
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.receive().await.attempt, 2);
    rig.check().await;
}

#[tokio::test]
async fn an_answer_from_before_the_kill_counts_if_it_comes_first() {
    let mut rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    let old = rig.receive().await;
    rig.restart().await;
    let new = rig.receive().await;
    assert_eq!(rig.answer(&old, success(json!("old"))).await, Answer::Accepted, "it is the same dispatch");
    assert_eq!(rig.answer(&new, success(json!("new"))).await, Answer::Stale);
    assert_eq!(rig.step(task, "a").await.result, Some(json!("old")));
    rig.check().await;
}

#[tokio::test]
async fn more_dispatched_steps_than_a_page_are_all_sent_again() {
    let mut rig = Rig::still().await;
    let steps = (0..1000).map(|i| json!({"name": format!("s{i}")})).collect();
    rig.register(&workflow("roots", steps)).await;
    for n in 0..11 {
        rig.submit("roots", json!({"n": n})).await;
    }
    rig.restart().await;
    assert_eq!(rig.engine.queue().waiting(), 11_000);
    rig.engine.recover().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 11_000, "what is here already is not taken twice");
}

/// Tasks for the tests below: each has a fan of ten, a join, and a tail.
async fn submit_many(rig: &Rig, tasks: usize) -> Vec<TaskId> {
    let middle: Vec<String> = (0..10).map(|i| format!("s{i}")).collect();
    let steps = middle.iter().map(|s| json!({"name": s, "dependencies": ["first"]}));
    let ends = [
        json!({"name": "first"}),
        json!({"name": "join", "dependencies": middle}),
        json!({"name": "last", "dependencies": ["join"], "retry": {"max_attempts": 1}}),
    ];
    rig.register(&workflow("many", ends.into_iter().chain(steps).collect())).await;
    let mut submitted = Vec::new();
    for n in 0..tasks {
        submitted.push(rig.submit("many", json!({"n": n})).await);
    }
    submitted
}

async fn assert_each_step_done_once(rig: &Rig, tasks: &[TaskId]) {
    for &task in tasks {
        rig.until("select bool_and(finished_at is not null) from tasker.tasks").await;
        assert_eq!(rig.state(task).await, TaskState::Complete);
    }
    let steps = tasks.len() as i64 * 13;
    assert_eq!(
        rig.count("select count(*) from tasker.steps where state = 'complete' and attempt = 1 and lease = 1").await,
        steps
    );
    assert_eq!(rig.count("select count(*) from tasker.outcomes where applied and outcome = 'success'").await, steps);
    assert_eq!(rig.count("select count(*) from tasker.outcomes").await, steps);
    rig.check().await;
}

#[test]
fn a_process_killed_again_and_again_finishes_everything_in_the_end() {
    let outer = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    outer.block_on(async {
        let mut rig = Rig::still().await;
        let tasks = submit_many(&rig, 100).await;
        // The sessions of the old engine end with it.
        rig.engine = engine(&rig.db, InProcess::default());
        let mut kills = 0;
        while rig.count("select count(*) from tasker.tasks where state = 'running'").await > 0 {
            // Shutting a runtime down drops every future at its current point, as a kill does.
            let process = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let engine = engine(&rig.db, InProcess::default());
            let done = rig.count("select count(*) from tasker.steps where state = 'complete'").await;
            process.spawn(async move {
                engine.take_over().await.unwrap();
                run(engine, CancellationToken::new(), 7, |run| success(json!(run.dependency_results.len()))).await;
            });
            let far_enough = (done + 20).min(tasks.len() as i64 * 13);
            rig.until(&format!("select count(*) >= {far_enough} from tasker.steps where state = 'complete'")).await;
            process.shutdown_background();
            kills += 1;
            // A session that still works would commit while the next process runs. `dev` waits for the end of old sessions too.
            let others = "select count(*) = 0 from pg_stat_activity \
                          where datname = current_database() and application_name = 'tasker'";
            rig.until(others).await;
        }
        println!("{kills} kills");
        assert!(kills > 3, "{kills} kills show little");
        assert_each_step_done_once(&rig, &tasks).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_sessions_are_ended_again_and_again_finishes_everything() {
    let rig = Rig::still().await;
    let tasks = submit_many(&rig, 200).await;
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = ran.clone();
    rig.start(7, move |run| {
        counted.fetch_add(1, Relaxed);
        success(json!(run.dependency_results.len()))
    });
    let end_sessions = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                        where datname = current_database() and application_name = 'tasker'";
    let mut ended = 0;
    let all = async {
        for next in (0..2400).step_by(100) {
            while ran.load(Relaxed) < next {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ended += rig.count(end_sessions).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("steps run between the losses");
    println!("{ended} sessions ended");
    assert!(ended > 10);
    assert_each_step_done_once(&rig, &tasks).await;
}

#[tokio::test]
async fn dispatched_steps_whose_answer_was_lost_are_sent_by_the_next_recovery() {
    let rig = Rig::still().await;
    rig.register(&template("two", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("two", json!({})).await;
    let a = rig.receive().await;
    // Another process of the same database stands for a commit whose answer was lost.
    let other = engine(&rig.db, InProcess::default());
    other.complete(vec![a.complete(success(json!(1)), "w", 1)]).await.unwrap();
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Duplicate);
    assert_eq!(rig.engine.queue().waiting(), 0, "a duplicate is answered without messages");
    rig.engine.recover().await.unwrap();
    let b = rig.receive().await;
    assert_eq!((b.step_name.as_str(), b.lease, b.dependency_results["a"].get()), ("b", 1, "1"));
    rig.answer(&b, success(json!(2))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}
