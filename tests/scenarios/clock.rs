//! The clock of the database is set back or forward, and the process is paused.

use std::time::Duration;

use serde_json::json;
use tasker_test_support::poll;
use tasker_wire::{Answer, Outcome, StepState, TaskId};

use crate::rig::{Rig, failure, workflow};

const HOUR_MS: i64 = 3_600_000;

/// An engine that watches the clock, and a task whose steps have this setting.
async fn watched(setting: serde_json::Value) -> (Rig, TaskId) {
    let rig = Rig::still().await;
    let mut step = json!({"name": "a"});
    step.as_object_mut().unwrap().extend(setting.as_object().unwrap().clone());
    rig.register(&workflow("w", json!([step]))).await;
    rig.engine.watch_clock().await.unwrap();
    let task = rig.submit("w", json!({})).await;
    (rig, task)
}

async fn started(rig: &Rig) -> tasker_wire::RunStep {
    let run = rig.receive().await;
    assert_eq!(rig.answer(&run, Outcome::Started {}).await, Answer::Accepted);
    run
}

#[tokio::test]
async fn a_retry_is_due_at_once_after_the_clock_was_set_back() {
    let (rig, task) = watched(json!({"retry": {"max_attempts": 3, "backoff": "none"}})).await;
    let run = rig.receive().await;
    rig.answer(&run, failure("busy")).await;
    rig.execute("update tasker.steps set wake_at = tasker.clock_after(4000)").await;
    rig.db.set_clock_offset(-HOUR_MS).await;
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.step(task, "a").await.state, StepState::WaitingForRetry, "the jump is not noticed yet");
    rig.engine.watch_clock().await.unwrap();
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.receive().await.attempt, 2);
    assert_eq!(rig.engine.clock_jumps(), 1);
}

#[tokio::test]
async fn a_process_that_starts_after_the_clock_was_set_back_finds_what_waits_for_it() {
    let (mut rig, task) = watched(json!({"retry": {"max_attempts": 3, "backoff": "none"}})).await;
    let run = rig.receive().await;
    rig.answer(&run, failure("busy")).await;
    rig.execute("update tasker.steps set wake_at = tasker.clock_after(4000)").await;
    rig.db.set_clock_offset(-HOUR_MS).await;
    rig.restart().await;
    rig.engine.watch_clock().await.unwrap();
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.receive().await.attempt, 2);
    assert_eq!(rig.step(task, "a").await.state, StepState::Enqueued);
}

#[tokio::test]
async fn a_deadline_is_no_further_away_after_the_clock_was_set_back() {
    let (rig, task) = watched(json!({"timeout_seconds": 120})).await;
    started(&rig).await;
    rig.db.set_clock_offset(-HOUR_MS).await;
    rig.engine.watch_clock().await.unwrap();
    let wakes = rig.wakes_in_ms(task, "a").await.unwrap();
    assert!((100_000..=130_000).contains(&wakes), "{wakes}");
    assert_eq!(rig.step(task, "a").await.lease, 1);
}

#[tokio::test]
async fn a_live_step_is_not_lost_when_the_clock_is_set_forward_three_times() {
    let (rig, task) = watched(json!({"timeout_seconds": 120})).await;
    let run = started(&rig).await;
    for jump in 1..=3 {
        rig.db.set_clock_offset(jump * HOUR_MS).await;
        rig.engine.sweep_and_recover().await.unwrap();
        assert_eq!(rig.step(task, "a").await.lease, 1);
        let wakes = rig.wakes_in_ms(task, "a").await.unwrap();
        assert!((100_000..=130_000).contains(&wakes), "it has its time again: {wakes}");
    }
    assert_eq!(rig.engine.clock_jumps(), 3);
    assert_eq!(rig.answer(&run, crate::rig::success(json!(1))).await, Answer::Accepted);
}

#[tokio::test]
async fn a_callback_is_not_expired_when_the_clock_is_set_forward() {
    let (rig, task) = watched(json!({})).await;
    let run = rig.receive().await;
    rig.answer(&run, Outcome::PendingCallback { timeout_seconds: 1800 }).await;
    rig.db.set_clock_offset(HOUR_MS).await;
    rig.engine.sweep_and_recover().await.unwrap();
    let wakes = rig.wakes_in_ms(task, "a").await.unwrap();
    assert!((1_800_000..=HOUR_MS + 10_000).contains(&wakes), "at least what was left of it: {wakes}");
    assert_eq!(rig.step(task, "a").await.state, StepState::InProgress);
}

#[tokio::test]
async fn after_a_pause_of_the_process_nothing_is_late_before_its_answers_are_read() {
    let rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a", "timeout_seconds": 120}]))).await;
    let task = rig.submit("w", json!({})).await;
    let run = started(&rig).await;
    rig.db.set_clock_offset(HOUR_MS).await;
    rig.engine.was_paused(Duration::from_secs(3600));
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.step(task, "a").await.lease, 1);
    assert_eq!(rig.answer(&run, crate::rig::success(json!(1))).await, Answer::Accepted);
}

#[tokio::test]
async fn a_lost_worker_is_found_although_the_clock_jumped_before() {
    let (rig, task) = watched(json!({"timeout_seconds": 61})).await;
    started(&rig).await;
    rig.db.set_clock_offset(HOUR_MS).await;
    rig.engine.sweep_and_recover().await.unwrap();
    assert_eq!(rig.step(task, "a").await.lease, 1, "it has its time again");
    // It stays silent: once nothing is excused any more it is lost.
    let lost = poll(Duration::from_millis(500), async || {
        rig.execute("update tasker.steps set wake_at = tasker.clock()").await;
        rig.engine.sweep_and_recover().await.unwrap();
        (rig.step(task, "a").await.lease == 2).then_some(())
    });
    lost.await.expect("its worker is found to be lost");
}
