//! Reports of workers while a step runs, and steps whose worker is silent.

use std::time::Duration;

use serde_json::{json, value::RawValue};
use tasker_domain::{Verdict, decide::Again};
use tasker_store::{Change, Completion, DispatchSettings};
use tasker_wire::{Answer, Outcome, RunStep, StepState, TaskId, TaskState};

use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, failure, success, workflow},
};

const STARTED: Outcome = Outcome::Started {};
const HEARTBEAT: Outcome = Outcome::Heartbeat {};
/// A timeout of 20 s, and 10 s more until its report must be here.
const SILENCE: Duration = Duration::from_secs(30);

async fn dispatched(max_attempts: u32) -> (Rig<RemoteQueue>, TaskId, RunStep) {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    let retry = json!({"max_attempts": max_attempts, "backoff": "none"});
    let steps = json!([{"name": "a", "timeout_seconds": 20, "retry": retry}, {"name": "b", "dependencies": ["a"]}]);
    rig.register(&workflow("w", steps)).await;
    let task = rig.submit("w", json!({})).await;
    let run = next(&rig);
    (rig, task, run)
}

fn next(rig: &Rig<RemoteQueue>) -> RunStep {
    let mut runs = rig.engine.queue().runs();
    assert_eq!(runs.len(), 1, "one step is dispatched");
    runs.remove(0)
}

fn idle(rig: &Rig<RemoteQueue>) -> bool {
    rig.engine.queue().runs().is_empty()
}

#[tokio::test]
async fn a_step_that_runs_long_is_asked_to_report_its_start() {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.register(&workflow("w", json!([{"name": "a", "timeout_seconds": 60}, {"name": "b", "timeout_seconds": 61}]))).await;
    rig.submit("w", json!({})).await;
    let asked: Vec<bool> = rig.engine.queue().runs().iter().map(|run| run.report_start).collect();
    assert_eq!(asked, [false, true]);
}

#[tokio::test]
async fn a_report_puts_a_step_in_progress_with_a_deadline_that_each_report_moves() {
    let (rig, task, run) = dispatched(3).await;
    for report in [STARTED, HEARTBEAT, HEARTBEAT] {
        assert_eq!(rig.answer(&run, report).await, Answer::Accepted);
        assert_eq!(rig.step(task, "a").await.state, StepState::InProgress);
        assert_eq!(rig.wakes_in_ms(task, "a").await, Some(30_000));
        rig.pass(SILENCE - Duration::from_millis(1)).await;
        rig.engine.sweep().await.unwrap();
        assert!(idle(&rig), "not silent for long enough");
    }
    assert_eq!(rig.count("select count(*) from tasker.outcomes").await, 0);
    assert_eq!(rig.answer(&run, success(json!(1))).await, Answer::Accepted);
    assert_eq!(rig.answer(&run, HEARTBEAT).await, Answer::Stale, "a handler that still runs may stop");
    rig.check().await;
}

#[tokio::test]
async fn a_report_never_shortens_a_deadline() {
    let (rig, task, run) = dispatched(3).await;
    rig.answer(&run, STARTED).await;
    rig.execute("update tasker.steps set wake_at = tasker.clock() + interval '1 h' where name = 'a'").await;
    assert_eq!(rig.answer(&run, HEARTBEAT).await, Answer::Accepted);
    assert_eq!(rig.wakes_in_ms(task, "a").await, Some(3_600_000));
}

#[tokio::test]
async fn a_silent_step_is_dispatched_again_under_the_same_attempt_and_the_third_time_it_uses_it() {
    let (rig, task, mut run) = dispatched(2).await;
    for (lease, attempt) in [(2, 1), (3, 1), (4, 2), (5, 2), (6, 2)] {
        rig.answer(&run, STARTED).await;
        rig.pass(SILENCE).await;
        assert_eq!(rig.engine.sweep().await.unwrap().overdue, 1);
        if attempt == 2 && lease == 4 {
            let step = rig.step(task, "a").await;
            assert_eq!((step.state, step.attempt), (StepState::WaitingForRetry, 1));
            assert_eq!(step.error.unwrap()["error_type"], "worker_crashed");
            rig.engine.sweep().await.unwrap();
        }
        run = next(&rig);
        assert_eq!((run.lease, run.attempt), (lease, attempt));
    }
    rig.answer(&run, STARTED).await;
    rig.pass(SILENCE).await;
    rig.engine.sweep().await.unwrap();
    assert!(idle(&rig));
    assert_eq!(rig.state(task).await, TaskState::Error);
    assert_eq!(rig.step(task, "a").await.error.unwrap()["error_type"], "worker_crashed");
    assert_eq!(rig.attempts(task, "a").await, [json!([3, 1, "failure", true]), json!([6, 2, "failure", true])]);
    rig.check().await;
}

#[tokio::test]
async fn losses_of_one_try_do_not_count_for_the_next() {
    let (rig, task, mut run) = dispatched(3).await;
    for _ in 0..2 {
        rig.answer(&run, STARTED).await;
        rig.pass(SILENCE).await;
        rig.engine.sweep().await.unwrap();
        run = next(&rig);
    }
    rig.answer(&run, failure("an ordinary one")).await;
    rig.engine.sweep().await.unwrap();
    for lease in [5, 6] {
        rig.answer(&next(&rig), STARTED).await;
        rig.pass(SILENCE).await;
        rig.engine.sweep().await.unwrap();
        let step = rig.step(task, "a").await;
        assert_eq!((step.state, step.lease, step.attempt), (StepState::Enqueued, lease, 2));
    }
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_at_the_deadline_wins_against_the_sweep_or_is_told_to_stop() {
    let (rig, task, mut run) = dispatched(100).await;
    let (mut in_time, mut lost) = (0, 0);
    rig.answer(&run, STARTED).await;
    for _ in 0..100 {
        rig.pass(SILENCE).await;
        let (answer, swept) = tokio::join!(rig.answer(&run, HEARTBEAT), rig.engine.sweep());
        swept.unwrap();
        let step = rig.step(task, "a").await;
        match answer {
            Answer::Accepted => {
                in_time += 1;
                assert_eq!((step.state, step.lease), (StepState::InProgress, run.lease));
                assert_eq!(rig.wakes_in_ms(task, "a").await, Some(30_000));
                assert!(idle(&rig));
            }
            Answer::Stale => {
                lost += 1;
                // The third loss is a failure, whose retry is due immediately.
                rig.engine.sweep().await.unwrap();
                let again = next(&rig);
                assert_eq!(again.lease, run.lease + 1);
                run = again;
                rig.answer(&run, STARTED).await;
            }
            other => panic!("{other:?}"),
        }
    }
    println!("in time {in_time} times, too late {lost} times");
    rig.check().await;
}

#[tokio::test]
async fn the_verdict_of_a_sweep_is_not_applied_after_the_deadline_moved() {
    let (rig, task, run) = dispatched(3).await;
    rig.answer(&run, STARTED).await;
    rig.pass(SILENCE).await;
    // A heartbeat arrives after the sweep saw the silence and before its verdict is applied.
    let settings = DispatchSettings { send_ms: Some(30_000), bodies: 10, input_bytes: 1 << 20 };
    let seen = rig.engine.store().sweep(10, settings).await.unwrap();
    assert!(matches!(&seen[..], [Change::Lost(_)]), "{seen:?}");
    rig.answer(&run, HEARTBEAT).await;
    let Change::Lost(lost) = &seen[0] else { unreachable!() };
    let verdict = Verdict::DispatchAgain(Again::WorkerLost);
    let completion = Completion { if_due: true, ..Completion::by_orchestrator(lost.lease, lost.attempt, verdict) };
    let answers = rig.engine.store().complete(&[completion], settings).await.unwrap();
    assert!(matches!(&answers[..], [Change::Answer(0, Answer::Ignored)]), "{answers:?}");
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.lease), (StepState::InProgress, 1));
    rig.check().await;
}

fn checkpoint(cursor: i32) -> Outcome {
    let raw = |v: serde_json::Value| RawValue::from_string(v.to_string()).unwrap();
    Outcome::Checkpoint {
        cursor: raw(json!({"row": cursor})),
        items_processed: cursor as u64,
        accumulated: Some(raw(json!([cursor]))),
    }
}

#[tokio::test]
async fn a_checkpoint_is_kept_and_the_same_try_goes_on_from_it() {
    let (rig, task, mut run) = dispatched(1).await;
    assert!(run.checkpoint.is_none());
    for n in 1..=5 {
        assert_eq!(rig.answer(&run, checkpoint(n * 100)).await, Answer::Accepted);
        assert_eq!(rig.answer(&run, checkpoint(n * 100)).await, Answer::Duplicate);
        assert_eq!(rig.answer(&run, success(json!(1))).await, Answer::Stale);
        run = next(&rig);
        assert_eq!((run.lease, run.attempt), (n + 1, 1));
        let kept: serde_json::Value = serde_json::from_str(run.checkpoint.as_ref().unwrap().get()).unwrap();
        assert_eq!(kept, json!({"cursor": {"row": n * 100}, "items_processed": n * 100, "accumulated": [n * 100]}));
    }
    rig.answer(&run, success(json!("all"))).await;
    assert_eq!(rig.step(task, "a").await.state, StepState::Complete);
    assert_eq!(rig.attempts(task, "a").await.len(), 6);
    assert_eq!(rig.count("select count(checkpoint) from tasker.steps").await, 0, "done, it is not kept");
    assert_eq!(next(&rig).step_name, "b");
    rig.check().await;
}

#[tokio::test]
async fn a_retry_begins_from_the_last_checkpoint() {
    let (rig, _, run) = dispatched(2).await;
    rig.answer(&run, checkpoint(7)).await;
    rig.answer(&next(&rig), failure("after the checkpoint")).await;
    rig.engine.sweep().await.unwrap();
    let second = next(&rig);
    assert_eq!((second.attempt, second.lease), (2, 3));
    assert!(second.checkpoint.unwrap().get().contains(r#""row":7"#));
    rig.check().await;
}

#[tokio::test]
async fn a_released_step_is_dispatched_again_under_the_same_attempt() {
    let (rig, task, run) = dispatched(1).await;
    assert_eq!(rig.answer(&run, Outcome::Released {}).await, Answer::Accepted);
    let again = next(&rig);
    assert_eq!((again.lease, again.attempt), (2, 1));
    rig.answer(&again, success(json!(1))).await;
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "released", true]), json!([2, 1, "success", true])]);
    rig.check().await;
}

#[tokio::test]
async fn a_callback_is_awaited_until_it_comes() {
    let (rig, task, run) = dispatched(3).await;
    rig.answer(&run, STARTED).await;
    assert_eq!(rig.answer(&run, Outcome::PendingCallback { timeout_seconds: 600 }).await, Answer::Accepted);
    assert_eq!(rig.wakes_in_ms(task, "a").await, Some(600_000));
    for report in [STARTED, HEARTBEAT] {
        assert_eq!(rig.answer(&run, report).await, Answer::Ignored);
    }
    rig.pass(Duration::from_millis(599_999)).await;
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.wakes_in_ms(task, "a").await, Some(1));
    assert_eq!(rig.answer(&run, success(json!("called back"))).await, Answer::Accepted);
    assert_eq!(next(&rig).dependency_results["a"].get(), "\"called back\"");
    rig.check().await;
}

#[tokio::test]
async fn a_callback_that_does_not_come_is_a_timeout() {
    let (rig, task, run) = dispatched(2).await;
    rig.answer(&run, Outcome::PendingCallback { timeout_seconds: 600 }).await;
    rig.pass(Duration::from_secs(600)).await;
    assert_eq!(rig.engine.sweep().await.unwrap().overdue, 1);
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.error.unwrap()["error_type"].clone()), (StepState::WaitingForRetry, json!("timeout")));
    assert_eq!(rig.answer(&run, success(json!("too late"))).await, Answer::Stale);
    rig.engine.sweep().await.unwrap();
    let second = next(&rig);
    assert_eq!((second.attempt, second.lease), (2, 2));
    assert_eq!(rig.answer(&second, success(json!(1))).await, Answer::Accepted);
    rig.check().await;
}

#[tokio::test]
async fn a_callback_is_awaited_for_thirty_days_at_most() {
    let (rig, task, run) = dispatched(2).await;
    rig.answer(&run, Outcome::PendingCallback { timeout_seconds: u32::MAX }).await;
    assert_eq!(rig.wakes_in_ms(task, "a").await, Some(30 * 24 * 3_600_000));
}
