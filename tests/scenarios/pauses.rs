//! A pause holds steps that would be dispatched, and nothing else.

use std::time::Duration;

use serde_json::json;
use tasker_wire::{Answer, RunStep, StepState, TaskId, TaskState};

use crate::rig::{Rig, by, failure, success, template, workflow};

const HOLD: Duration = Duration::from_secs(60);

/// Pauses by SQL, because operators have no action for it yet.
#[derive(Clone, Copy)]
enum Pause {
    Task,
    Template,
    Namespace,
}

impl Pause {
    const ALL: [Self; 3] = [Self::Task, Self::Template, Self::Namespace];

    async fn begin(self, rig: &Rig) {
        rig.execute(match self {
            Self::Task => "update tasker.tasks set paused_at = tasker.clock()",
            Self::Template => "insert into tasker.pauses values ('default', 'w', 'me', 'because', tasker.clock())",
            Self::Namespace => "insert into tasker.pauses values ('default', '', 'me', 'because', tasker.clock())",
        })
        .await;
    }

    async fn end(self, rig: &Rig) {
        rig.execute("update tasker.tasks set paused_at = null; delete from tasker.pauses").await;
    }
}

/// A task of two roots, each with a child; the roots are dispatched.
async fn two_chains() -> (Rig, TaskId, RunStep, RunStep) {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    let steps: &[(&str, &[&str])] = &[("a", &[]), ("a2", &["a"]), ("b", &[]), ("b2", &["b"])];
    rig.register(&template("w", steps)).await;
    let task = rig.submit("w", json!({})).await;
    let mut runs = rig.receive_all().await;
    (rig, task, runs.remove("a").unwrap(), runs.remove("b").unwrap())
}

async fn active_steps(rig: &Rig) -> i64 {
    rig.count("select active_steps::int8 from tasker.tasks").await
}

#[tokio::test]
async fn during_a_pause_outcomes_are_applied_and_ready_steps_are_held() {
    for pause in Pause::ALL {
        let (rig, task, a, b) = two_chains().await;
        pause.begin(&rig).await;
        assert_eq!(rig.answer(&a, success(json!("a"))).await, Answer::Accepted);
        assert_eq!(rig.answer(&b, failure("not now")).await, Answer::Accepted);
        let (a2, b) = (rig.step(task, "a2").await, rig.step(task, "b").await);
        assert_eq!((a2.state, a2.lease, a2.attempt), (StepState::Pending, 0, 0));
        assert_eq!(rig.wakes_in_ms(task, "a2").await, Some(60_000));
        assert_eq!(b.state, StepState::WaitingForRetry);
        assert_eq!(active_steps(&rig).await, 2, "what is held is counted");
        rig.engine.sweep().await.unwrap();
        assert_eq!(rig.engine.queue().waiting(), 0);
        let b = rig.step(task, "b").await;
        assert_eq!((b.state, b.lease, b.attempt), (StepState::WaitingForRetry, 1, 1), "a due retry is held");
        rig.check().await;

        // Still paused, however often a sweep looks.
        for _ in 0..3 {
            rig.pass(HOLD).await;
            rig.engine.sweep().await.unwrap();
        }
        assert_eq!(rig.engine.queue().waiting(), 0);
        assert_eq!(rig.state(task).await, TaskState::Running);

        pause.end(&rig).await;
        rig.engine.sweep().await.unwrap();
        assert_eq!(rig.engine.queue().waiting(), 0, "looked at again only in a minute");
        rig.pass(HOLD).await;
        assert_eq!(rig.engine.sweep().await.unwrap().sent, 2);
        let runs = rig.receive_all().await;
        let [a2, b] = [&runs["a2"], &runs["b"]];
        assert_eq!((a2.attempt, a2.lease, a2.dependency_results["a"].get()), (1, 1, "\"a\""));
        assert_eq!((b.attempt, b.lease), (2, 2));
        rig.answer(a2, success(json!(1))).await;
        rig.answer(b, success(json!(1))).await;
        rig.answer(&rig.receive().await, success(json!(1))).await;
        assert_eq!(rig.state(task).await, TaskState::Complete);
        rig.check().await;
    }
}

#[tokio::test]
async fn the_roots_of_a_task_submitted_during_a_pause_are_held() {
    for pause in [Pause::Template, Pause::Namespace] {
        let rig = Rig::still().await;
        rig.stop_clock().await;
        rig.register(&workflow("w", json!([{"name": "a"}, {"name": "b"}, {"name": "c", "dependencies": ["a"]}]))).await;
        pause.begin(&rig).await;
        let task = rig.submit("w", json!({})).await;
        assert_eq!(rig.engine.queue().waiting(), 0);
        assert_eq!((rig.state(task).await, active_steps(&rig).await), (TaskState::Running, 2));
        let a = rig.step(task, "a").await;
        assert_eq!((a.state, a.lease, a.attempt), (StepState::Pending, 0, 0));
        rig.check().await;
        pause.end(&rig).await;
        rig.pass(HOLD).await;
        rig.engine.sweep().await.unwrap();
        let runs = rig.receive_all().await;
        assert_eq!(runs.values().map(|run| (run.attempt, run.lease)).collect::<Vec<_>>(), [(1, 1); 2]);
        rig.check().await;
    }
}

#[tokio::test]
async fn a_pause_of_one_template_holds_no_other() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    rig.register(&template("v", &[("a", &[])])).await;
    Pause::Template.begin(&rig).await;
    rig.submit("w", json!({})).await;
    let v = rig.submit("v", json!({})).await;
    assert_eq!(rig.receive_all().await["a"].task_id, v);
    rig.check().await;
}

#[tokio::test]
async fn what_is_dispatched_again_is_held_too_and_goes_on_under_its_attempt() {
    let (rig, task, a, b) = two_chains().await;
    Pause::Task.begin(&rig).await;
    rig.answer(&a, tasker_wire::Outcome::Released {}).await;
    rig.engine.resolve_step(b.step_id, None, by("skip it")).await.unwrap();
    let [a, b2] = [rig.step(task, "a").await, rig.step(task, "b2").await];
    assert_eq!((a.state, a.lease, a.attempt), (StepState::Pending, 1, 1));
    assert_eq!((b2.state, b2.lease), (StepState::Pending, 0));
    assert_eq!(active_steps(&rig).await, 2);
    rig.check().await;
    Pause::Task.end(&rig).await;
    rig.pass(HOLD).await;
    rig.engine.sweep().await.unwrap();
    let runs = rig.receive_all().await;
    assert_eq!((runs["a"].lease, runs["a"].attempt), (2, 1));
    assert_eq!((runs["b2"].lease, runs["b2"].attempt), (1, 1));
    rig.check().await;
}

#[tokio::test]
async fn an_operators_retry_is_held_by_a_pause_and_a_resolve_or_cancel_is_not() {
    let (rig, task, a, b) = two_chains().await;
    rig.answer(&a, failure("x")).await;
    Pause::Task.begin(&rig).await;
    rig.engine.retry_step(a.step_id, by("now")).await.unwrap();
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.attempt), (StepState::Pending, 0));
    assert_eq!(active_steps(&rig).await, 2);
    rig.check().await;
    rig.engine.resolve_step(a.step_id, None, by("skip")).await.unwrap();
    assert_eq!(rig.step(task, "a2").await.state, StepState::Pending);
    assert_eq!(active_steps(&rig).await, 2, "b, and a2 that is held");
    rig.check().await;
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    assert_eq!(rig.answer(&b, success(json!(1))).await, Answer::Stale);
    assert_eq!(rig.state(task).await, TaskState::Cancelled);
    rig.check().await;
}
