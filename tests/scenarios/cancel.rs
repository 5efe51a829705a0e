//! Cancelling a task, before, after and while its steps answer.

use serde_json::json;
use tasker_engine::OperatorError;
use tasker_wire::{Answer, Outcome, StepState, TaskId, TaskState};

use crate::world::{World, by, failure, permanent, success, template};

async fn two_steps() -> World {
    let world = World::still().await;
    world.register(&template("two", &[("a", &[]), ("b", &["a"])])).await;
    world
}

#[tokio::test]
async fn a_cancelled_task_takes_no_answer_but_records_it() {
    let world = two_steps().await;
    let task = world.submit("two", json!({})).await;
    let a = world.receive().await;
    world.engine.cancel_task(task, by("changed my mind")).await.unwrap();
    assert_eq!(world.state(task).await, TaskState::Cancelled);
    assert_eq!(world.answer(&a, Outcome::Heartbeat {}).await, Answer::Stale, "its handler may stop");
    assert_eq!(world.answer(&a, success(json!(1))).await, Answer::Stale);
    for (name, lease) in [("a", 2), ("b", 1)] {
        let step = world.step(task, name).await;
        assert_eq!((step.state, step.lease, step.result), (StepState::Cancelled, lease, None));
    }
    assert_eq!(world.attempts(task, "a").await, [json!([1, 1, "success", false])]);
    assert_eq!(world.engine.queue().waiting(), 0);
    world.engine.sweep().await.unwrap();
    world.engine.recover().await.unwrap();
    assert_eq!(world.engine.queue().waiting(), 0);
    let audit = world.rows("select action, actor, reason, from_state, to_state from tasker.audit_log").await;
    let cancelled = json!({
        "action": "cancel_task", "actor": "operator", "reason": "changed my mind", "from_state": "running", "to_state": "cancelled",
    });
    assert_eq!(audit, [cancelled]);
    world.check().await;
}

#[tokio::test]
async fn a_step_that_is_done_stays_done_in_a_cancelled_task() {
    let world = two_steps().await;
    let task = world.submit("two", json!({})).await;
    let a = world.receive().await;
    world.answer(&a, success(json!(1))).await;
    world.engine.cancel_task(task, by("enough")).await.unwrap();
    let states = ["a", "b"].map(|name| (name, world.step(task, name)));
    for (name, step) in states {
        let expected = if name == "a" { StepState::Complete } else { StepState::Cancelled };
        assert_eq!(step.await.state, expected, "{name}");
    }
    assert_eq!(world.answer(&a, success(json!(1))).await, Answer::Duplicate);
    world.check().await;
}

#[tokio::test]
async fn a_retry_that_waits_is_cancelled_too() {
    let world = two_steps().await;
    let task = world.submit("two", json!({})).await;
    world.answer(&world.receive().await, failure("not now")).await;
    let wake_up = world.wake_up(task, "a").await;
    world.engine.cancel_task(task, by("enough")).await.unwrap();
    world.engine.evaluate(vec![wake_up]).await.unwrap();
    world.engine.sweep().await.unwrap();
    assert_eq!(world.engine.queue().waiting(), 0);
    assert_eq!(world.step(task, "a").await.state, StepState::Cancelled);
    world.check().await;
}

#[tokio::test]
async fn cancelling_twice_is_as_good_as_once() {
    let world = two_steps().await;
    let task = world.submit("two", json!({})).await;
    world.engine.cancel_task(task, by("once")).await.unwrap();
    let before = world.steps(task).await;
    world.engine.cancel_task(task, by("twice")).await.unwrap();
    assert_eq!(world.steps(task).await, before);
    assert_eq!(world.count("select count(*) from tasker.audit_log").await, 1);
    world.check().await;
}

#[tokio::test]
async fn a_task_that_finished_otherwise_is_not_cancelled() {
    let world = two_steps().await;
    let finished = |outcome: Outcome| {
        let world = &world;
        async move {
            let task = world.submit("two", json!({})).await;
            while world.engine.queue().waiting() > 0 {
                world.answer(&world.receive().await, outcome.clone()).await;
            }
            task
        }
    };
    for (outcome, word) in [(success(json!(1)), "complete"), (permanent("no"), "error")] {
        let task = finished(outcome).await;
        let refused = world.engine.cancel_task(task, by("too late")).await.unwrap_err();
        assert!(matches!(&refused, OperatorError::Conflict { step: None, state } if state == word), "{refused:?}");
    }
    let nobody = TaskId::from_fresh(uuid::Uuid::now_v7());
    assert!(matches!(world.engine.cancel_task(nobody, by("x")).await, Err(OperatorError::NotFound)));
    world.check().await;
}

#[tokio::test]
async fn who_waits_for_a_task_hears_of_its_cancelling() {
    let world = two_steps().await;
    let task = world.submit("two", json!({})).await;
    let (state, cancelled) = tokio::join!(world.finished(task), world.engine.cancel_task(task, by("enough")));
    cancelled.unwrap();
    assert_eq!(state, TaskState::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_an_answer_at_once_leave_one_of_two_stories() {
    let world = two_steps().await;
    let (mut before, mut after) = (0, 0);
    for n in 0..200 {
        let task = world.submit("two", json!({"n": n})).await;
        let a = world.receive().await;
        let (cancelled, answer) = tokio::join!(world.engine.cancel_task(task, by("now")), world.answer(&a, success(json!(n))));
        cancelled.unwrap();
        let (step, child) = (world.step(task, "a").await, world.step(task, "b").await);
        assert_eq!((world.state(task).await, child.state), (TaskState::Cancelled, StepState::Cancelled));
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
        assert_eq!(world.attempts(task, "a").await, [json!([1, 1, "success", answer == Answer::Accepted])]);
        // The child may have been sent before the cancel: its answer is stale.
        for run in world.receive_all().await.values() {
            assert_eq!(world.answer(run, success(json!(1))).await, Answer::Stale);
        }
    }
    println!("the answer came first {before} times, the cancel {after} times");
    world.check().await;
}
