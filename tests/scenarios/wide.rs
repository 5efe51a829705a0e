//! Wide and long workflows. Times are printed and not asserted.

use std::time::Instant;

use serde_json::{Value, json};
use tasker_wire::{Answer, CompleteStep, RunStep, TaskState};

use crate::rig::{Rig, failure, success, template, workflow};

/// `width` steps between `first` and `last`.
fn fan(name: &str, width: usize) -> String {
    let middle: Vec<String> = (0..width).map(|i| format!("s{i}")).collect();
    let steps = middle.iter().map(|s| json!({"name": s, "dependencies": ["first"]}));
    let ends = [json!({"name": "first"}), json!({"name": "last", "dependencies": middle})];
    workflow(name, ends.into_iter().chain(steps).collect())
}

struct Stopwatch(Instant);

impl Stopwatch {
    fn lap(&mut self, what: &str) {
        println!("{what}: {} ms", self.0.elapsed().as_millis());
        self.0 = Instant::now();
    }
}

fn done(run: &RunStep) -> CompleteStep {
    run.complete(success(json!(run.step_name)), "w", 1)
}

#[tokio::test]
async fn fan_out_and_fan_in_of_9_998() {
    const WIDTH: usize = 9_998;
    let rig = Rig::still().await;
    let mut watch = Stopwatch(Instant::now());
    rig.register(&fan("fan", WIDTH)).await;
    watch.lap("register");
    let task = rig.submit("fan", json!({})).await;
    watch.lap("submit");
    let first = rig.receive().await;
    rig.answer(&first, success(json!("go"))).await;
    watch.lap("fan out");
    assert_eq!(rig.engine.queue().waiting(), WIDTH);
    let before = rig.engine.store().counts().statements;
    while rig.engine.queue().waiting() > 0 {
        let runs = rig.receive_up_to(200).await;
        assert!(runs.iter().all(|run| run.attempt == 1 && run.dependency_results["first"].get() == "\"go\""));
        rig.complete(runs.iter().map(done).collect()).await;
        if runs[0].step_name == "last" {
            assert_eq!(runs[0].dependency_results.len(), WIDTH + 1);
            assert!(
                runs[0].dependency_results.iter().all(|(name, result)| name == "first" || result.get() == format!("{name:?}"))
            );
        }
    }
    watch.lap("all the others");
    let statements = rig.engine.store().counts().statements - before;
    assert!(statements <= WIDTH as u64 / 200 + 3, "{statements} statements");
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
    watch.lap("doctor");
}

#[tokio::test]
async fn a_chain_of_1_000() {
    let rig = Rig::running(10, |run| success(json!(run.dependency_results.len()))).await;
    let step = |i: usize| {
        let parent = i.checked_sub(1).map(|p| format!("s{p}"));
        json!({"name": format!("s{i}"), "dependencies": parent.into_iter().collect::<Vec<_>>()})
    };
    rig.register(&workflow("chain", (0..1000).map(step).collect())).await;
    let mut watch = Stopwatch(Instant::now());
    let task = rig.submit("chain", json!({})).await;
    assert_eq!(rig.finished(task).await, TaskState::Complete);
    watch.lap("a chain of 1,000");
    let last = rig.step(task, "s999").await;
    assert_eq!((last.attempt, last.lease, last.result), (1, 1, Some(json!(33))), "the parent and 32 ancestors");
    rig.check().await;
}

#[tokio::test]
async fn siblings_in_one_batch_are_one_statement() {
    let rig = Rig::still().await;
    rig.register(&fan("fan", 50)).await;
    rig.submit("fan", json!({})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    let siblings = rig.receive_up_to(100).await;
    assert_eq!(siblings.len(), 50);
    let before = rig.engine.store().counts().statements;
    let answers = rig.complete(siblings.iter().map(done).collect()).await;
    assert_eq!(rig.engine.store().counts().statements - before, 1);
    assert_eq!(answers, [Answer::Accepted; 50]);
    assert_eq!(rig.receive().await.dependency_results.len(), 51);
    rig.check().await;
}

#[tokio::test]
async fn of_several_answers_for_one_step_in_a_batch_the_first_counts() {
    let rig = Rig::still().await;
    rig.register(&template("join", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = rig.submit("join", json!({})).await;
    let runs = rig.receive_all().await;
    let (a, b) = (&runs["a"], &runs["b"]);
    let answers = rig
        .complete(vec![
            b.complete(success(json!(1)), "w", 1),
            a.complete(failure("first"), "w", 1),
            b.complete(success(json!(1)), "w", 1),
            a.complete(success(json!("second")), "w", 1),
            b.complete(success(json!(2)), "w", 1),
            a.complete(failure("first"), "w", 1),
        ])
        .await;
    use Answer::{Accepted, Duplicate, Stale};
    assert_eq!(answers, [Accepted, Accepted, Duplicate, Stale, Stale, Duplicate]);
    rig.engine.sweep().await.unwrap();
    let again = rig.receive().await;
    assert_eq!((again.step_name.as_str(), again.attempt), ("a", 2));
    rig.answer(&again, success(json!(0))).await;
    let join = rig.receive().await;
    assert_eq!((join.dependency_results["a"].get(), join.dependency_results["b"].get()), ("0", "1"));
    rig.answer(&join, success(json!(0))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn answers_of_many_tasks_in_one_batch_move_each_of_them() {
    let rig = Rig::still().await;
    rig.register(&template("join", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let mut tasks = Vec::new();
    for n in 0..60 {
        tasks.push(rig.submit("join", json!({"n": n})).await);
    }
    for expected in [120, 60] {
        let runs = rig.receive_up_to(1000).await;
        assert_eq!(runs.len(), expected);
        let answers = rig.complete(runs.iter().rev().map(done).collect()).await;
        assert!(answers.iter().all(|a| *a == Answer::Accepted));
    }
    for task in tasks {
        assert_eq!(rig.state(task).await, TaskState::Complete);
    }
    rig.check().await;
}

/// The most bytes that this process ever held.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Lets `children` of a step with a large result wait for workers, and then receives them.
/// Answers the bytes of memory that this took.
async fn bytes_for(children: usize, bytes: usize) -> usize {
    let rig = Rig::still().await;
    rig.register(&fan("fan", children)).await;
    rig.submit("fan", json!({"context": "x".repeat(200 * 1024)})).await;
    let first = rig.receive().await;
    let before = peak_bytes();
    rig.answer(&first, success(json!("x".repeat(bytes)))).await;
    assert_eq!(rig.engine.queue().waiting(), children);
    let mut received = 0;
    while received < children {
        let runs = rig.receive_up_to(3).await;
        received += runs.len();
        assert!(
            runs.iter()
                .all(|run| run.dependency_results["first"].get().len() == bytes + 2 && run.context.get().len() > 200 * 1024)
        );
    }
    assert_eq!((received, rig.engine.queue().waiting()), (children, 0));
    let bytes = peak_bytes() - before;
    println!("{} MB", bytes >> 20);
    bytes
}

#[tokio::test]
async fn messages_that_wait_for_workers_stay_within_a_bound_of_memory() {
    assert!(bytes_for(1_000, 200 * 1024).await < 150 << 20);
}

#[tokio::test]
async fn so_do_messages_that_hold_megabytes_each() {
    assert!(bytes_for(80, 3 << 20).await < 220 << 20);
}

#[tokio::test]
async fn ten_thousand_ready_steps_finish_with_their_first_attempt() {
    let rig = Rig::running(200, |run| success(json!(run.attempt))).await;
    let steps: Value = (0..10_000).map(|i| json!({"name": format!("s{i}")})).collect();
    rig.register(&workflow("roots", steps)).await;
    let mut watch = Stopwatch(Instant::now());
    let task = rig.submit("roots", json!({})).await;
    assert_eq!(rig.finished(task).await, TaskState::Complete);
    watch.lap("10,000 ready steps");
    assert_eq!(
        rig.count("select count(*) from tasker.steps where attempt = 1 and lease = 1 and state = 'complete'").await,
        10_000
    );
    assert_eq!(rig.count("select count(*) from tasker.outcomes").await, 10_000);
    rig.check().await;
}
