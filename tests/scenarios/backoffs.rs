//! The pause between two attempts: its length, and that nothing is dispatched before its end.

use std::time::Duration;

use serde_json::json;
use tasker_wire::{Outcome, StepState, outcome::Failure};

use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, failure, workflow},
};

/// Fails a step again and again, with a hint, and answers the pauses in milliseconds.
/// Checks each retry a millisecond before it is due, and when it is due.
async fn pauses(retry: serde_json::Value, hint_seconds: Option<f64>) -> Vec<i64> {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    rig.register(&workflow("flaky", json!([{"name": "a", "retry": retry}]))).await;
    let task = rig.submit("flaky", json!({})).await;
    let mut pauses = Vec::new();
    for attempt in 1.. {
        let [run] = &rig.engine.queue().runs()[..] else { panic!("attempt {attempt} is not dispatched") };
        assert_eq!((run.attempt, run.lease), (attempt, attempt));
        rig.answer(run, Outcome::Failure(Failure { delay_seconds: hint_seconds, ..Failure::retryable("x", "y") })).await;
        if rig.step(task, "a").await.state == StepState::Error {
            break;
        }
        let pause = rig.wakes_in_ms(task, "a").await.expect("it waits for its retry");
        let (wake_up, delay) = rig.engine.queue().wake_ups().remove(0);
        assert_eq!(delay.as_millis() as i64, pause, "the wake-up comes when the retry is due");
        if pause > 0 {
            rig.pass(Duration::from_millis(pause as u64 - 1)).await;
            rig.engine.evaluate(vec![wake_up]).await.unwrap();
            rig.engine.sweep().await.unwrap();
            assert!(rig.engine.queue().runs().is_empty(), "dispatched too soon");
            assert_eq!(rig.engine.queue().wake_ups(), [(wake_up, Duration::from_millis(1))], "what came early comes again");
            rig.pass(Duration::from_millis(1)).await;
        }
        rig.engine.evaluate(vec![wake_up]).await.unwrap();
        pauses.push(pause);
    }
    rig.check().await;
    pauses
}

async fn assert_pauses(kind: &str, nominal: [i64; 5]) {
    let retry = json!({"max_attempts": 6, "backoff": kind, "backoff_base_ms": 10_000, "max_backoff_ms": 45_000});
    let pauses = pauses(retry, None).await;
    assert_eq!(pauses.len(), nominal.len());
    for (pause, nominal) in pauses.iter().zip(nominal) {
        assert!((nominal * 85 / 100..=nominal * 115 / 100).contains(pause), "{kind}: {pauses:?}, not {nominal} ms");
    }
}

#[tokio::test]
async fn a_retry_without_backoff_is_due_at_once() {
    assert_pauses("none", [0, 0, 0, 0, 0]).await;
}

#[tokio::test]
async fn a_linear_backoff_grows_by_its_base_up_to_the_cap() {
    assert_pauses("linear", [10_000, 20_000, 30_000, 40_000, 45_000]).await;
}

#[tokio::test]
async fn an_exponential_backoff_doubles_up_to_the_cap() {
    assert_pauses("exponential", [10_000, 20_000, 40_000, 45_000, 45_000]).await;
}

#[tokio::test]
async fn a_fibonacci_backoff_adds_the_last_two_up_to_the_cap() {
    assert_pauses("fibonacci", [10_000, 10_000, 20_000, 30_000, 45_000]).await;
}

#[tokio::test]
async fn a_hint_lengthens_a_pause_and_never_shortens_it() {
    let retry = json!({"max_attempts": 3, "backoff": "linear", "backoff_base_ms": 10_000, "max_backoff_ms": 20_000});
    assert_eq!(pauses(retry.clone(), Some(90.5)).await, [90_500, 90_500], "beyond the cap too");
    assert_eq!(pauses(retry, Some(1.0)).await.iter().map(|p| p / 8_500).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_hint_is_capped_at_a_day() {
    let retry = json!({"max_attempts": 2, "backoff": "none"});
    assert_eq!(pauses(retry, Some(1e12)).await, [86_400_000]);
}

#[tokio::test]
async fn the_sweep_finds_a_due_retry_whose_wake_up_was_lost() {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    rig.register(&workflow("flaky", json!([{"name": "a", "retry": {"backoff": "linear", "backoff_base_ms": 1000}}]))).await;
    rig.submit("flaky", json!({})).await;
    rig.answer(&rig.engine.queue().runs()[0], failure("not now")).await;
    rig.pass(Duration::from_secs(2)).await;
    assert_eq!(rig.engine.sweep().await.unwrap().sent, 1);
    let [run] = &rig.engine.queue().runs()[..] else { panic!("nothing was sent") };
    assert_eq!((run.attempt, run.lease), (2, 2));
    rig.check().await;
}

#[tokio::test]
async fn a_wake_up_that_comes_twice_or_late_dispatches_once() {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    rig.register(&workflow("flaky", json!([{"name": "a", "retry": {"backoff": "linear", "backoff_base_ms": 1000}}]))).await;
    rig.submit("flaky", json!({})).await;
    rig.answer(&rig.engine.queue().runs()[0], failure("not now")).await;
    let (first, _) = rig.engine.queue().wake_ups()[0];
    rig.pass(Duration::from_secs(2)).await;
    let (one, other) = tokio::join!(rig.engine.evaluate(vec![first, first]), rig.engine.evaluate(vec![first]));
    one.and(other).unwrap();
    let runs = rig.engine.queue().runs();
    assert_eq!(runs.len(), 1);

    rig.answer(&runs[0], failure("not now either")).await;
    let (second, _) = rig.engine.queue().wake_ups()[0];
    rig.pass(Duration::from_secs(1)).await;
    rig.engine.evaluate(vec![first]).await.unwrap();
    assert!(rig.engine.queue().runs().is_empty(), "the first wake-up does not shorten the second pause");
    rig.pass(Duration::from_secs(2)).await;
    rig.engine.evaluate(vec![first, second]).await.unwrap();
    assert_eq!(rig.engine.queue().runs().len(), 1, "nor does it hide the second one");
    rig.check().await;
}
