//! Cancelling a task, before, after and while outcomes of its steps arrive.

use serde_json::json;
use tasker_engine::OperatorError;
use tasker_wire::{Answer, Outcome, StepState, TaskId, TaskState};

use crate::rig::{Rig, by, failure, permanent, success, template};

async fn two_steps() -> Rig {
    let rig = Rig::still().await;
    rig.register(&template("two", &[("a", &[]), ("b", &["a"])])).await;
    rig
}

#[tokio::test]
async fn a_cancelled_task_takes_no_answer_but_records_it() {
    let rig = two_steps().await;
    let task = rig.submit("two", json!({})).await;
    let a = rig.receive().await;
    rig.engine.cancel_task(task, by("changed my mind")).await.unwrap();
    assert_eq!(rig.state(task).await, TaskState::Cancelled);
    assert_eq!(rig.answer(&a, Outcome::Heartbeat {}).await, Answer::Stale, "its handler may stop");
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Stale);
    for (name, lease) in [("a", 2), ("b", 1)] {
        let step = rig.step(task, name).await;
        assert_eq!((step.state, step.lease, step.result), (StepState::Cancelled, lease, None));
    }
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", false])]);
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.engine.sweep().await.unwrap();
    rig.engine.recover().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 0);
    let audit = rig.rows("select action, actor, reason, from_state, to_state from tasker.audit_log").await;
    let cancelled = json!({
        "action": "cancel_task", "actor": "operator", "reason": "changed my mind", "from_state": "running", "to_state": "cancelled",
    });
    assert_eq!(audit, [cancelled]);
    rig.check().await;
}

#[tokio::test]
async fn a_step_that_is_done_stays_done_in_a_cancelled_task() {
    let rig = two_steps().await;
    let task = rig.submit("two", json!({})).await;
    let a = rig.receive().await;
    rig.answer(&a, success(json!(1))).await;
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    let states = ["a", "b"].map(|name| (name, rig.step(task, name)));
    for (name, step) in states {
        let expected = if name == "a" { StepState::Complete } else { StepState::Cancelled };
        assert_eq!(step.await.state, expected, "{name}");
    }
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Duplicate);
    rig.check().await;
}

#[tokio::test]
async fn a_retry_that_waits_is_cancelled_too() {
    let rig = two_steps().await;
    let task = rig.submit("two", json!({})).await;
    rig.answer(&rig.receive().await, failure("not now")).await;
    let wake_up = rig.wake_up(task, "a").await;
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    rig.engine.evaluate(vec![wake_up]).await.unwrap();
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 0);
    assert_eq!(rig.step(task, "a").await.state, StepState::Cancelled);
    rig.check().await;
}

#[tokio::test]
async fn cancelling_twice_is_as_good_as_once() {
    let rig = two_steps().await;
    let task = rig.submit("two", json!({})).await;
    rig.engine.cancel_task(task, by("once")).await.unwrap();
    let before = rig.steps(task).await;
    rig.engine.cancel_task(task, by("twice")).await.unwrap();
    assert_eq!(rig.steps(task).await, before);
    assert_eq!(rig.count("select count(*) from tasker.audit_log").await, 1);
    rig.check().await;
}

#[tokio::test]
async fn a_task_that_finished_otherwise_is_not_cancelled() {
    let rig = two_steps().await;
    let finished = |outcome: Outcome| {
        let rig = &rig;
        async move {
            let task = rig.submit("two", json!({})).await;
            while rig.engine.queue().waiting() > 0 {
                rig.answer(&rig.receive().await, outcome.clone()).await;
            }
            task
        }
    };
    for (outcome, word) in [(success(json!(1)), "complete"), (permanent("no"), "error")] {
        let task = finished(outcome).await;
        let refused = rig.engine.cancel_task(task, by("too late")).await.unwrap_err();
        assert!(matches!(&refused, OperatorError::Conflict { step: None, state } if state == word), "{refused:?}");
    }
    let nobody = TaskId::from_fresh(uuid::Uuid::now_v7());
    assert!(matches!(rig.engine.cancel_task(nobody, by("x")).await, Err(OperatorError::NotFound)));
    rig.check().await;
}

#[tokio::test]
async fn a_cancel_wakes_the_callers_that_wait_for_the_task() {
    let rig = two_steps().await;
    let task = rig.submit("two", json!({})).await;
    let (state, cancelled) = tokio::join!(rig.finished(task), rig.engine.cancel_task(task, by("enough")));
    cancelled.unwrap();
    assert_eq!(state, TaskState::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_an_answer_at_once_end_in_one_of_two_ways() {
    let rig = two_steps().await;
    let (mut before, mut after) = (0, 0);
    for n in 0..200 {
        let task = rig.submit("two", json!({"n": n})).await;
        let a = rig.receive().await;
        let (cancelled, answer) = tokio::join!(rig.engine.cancel_task(task, by("now")), rig.answer(&a, success(json!(n))));
        cancelled.unwrap();
        let (step, child) = (rig.step(task, "a").await, rig.step(task, "b").await);
        assert_eq!((rig.state(task).await, child.state), (TaskState::Cancelled, StepState::Cancelled));
        match answer {
            Answer::Accepted => {
                before += 1;
                assert_eq!((step.state, step.lease, child.lease), (StepState::Complete, 1, 2));
            }
            Answer::Stale => {
                after += 1;
                assert_eq!((step.state, step.lease, child.lease), (StepState::Cancelled, 2, 1));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", answer == Answer::Accepted])]);
        // The child may have been sent before the cancel: its outcome is stale.
        for run in rig.receive_all().await.values() {
            assert_eq!(rig.answer(run, success(json!(1))).await, Answer::Stale);
        }
    }
    println!("the answer came first {before} times, the cancel {after} times");
    rig.check().await;
}
