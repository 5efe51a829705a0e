//! A pause holds steps that would be dispatched, and nothing else.

use std::time::Duration;

use serde_json::json;
use tasker_engine::{OperatorAction, Precondition};
use tasker_store::PauseScope;
use tasker_wire::{Answer, RunStep, StepState, TaskId, TaskState};

use crate::rig::{Rig, by, failure, success, template, workflow};

const HOLD: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pause {
    Task(TaskId),
    Template,
    Namespace,
}

impl Pause {
    fn all(task: TaskId) -> [Self; 3] {
        [Self::Task(task), Self::Template, Self::Namespace]
    }

    fn scope(self) -> PauseScope {
        PauseScope { namespace: "default".into(), template: (self == Self::Template).then(|| "w".into()) }
    }

    async fn begin(self, rig: &Rig) {
        match self {
            Self::Task(task) => operate(rig, task, OperatorAction::PauseTask).await,
            _ => drop(rig.engine.pause(self.scope(), by("because"), false).await.unwrap()),
        }
        rig.check().await;
    }

    async fn end(self, rig: &Rig) {
        match self {
            Self::Task(task) => operate(rig, task, OperatorAction::ResumeTask).await,
            _ => drop(rig.engine.resume(self.scope(), by("enough"), false).await.unwrap()),
        }
        rig.check().await;
    }
}

async fn operate(rig: &Rig, task: TaskId, action: OperatorAction) {
    rig.engine.operate((task, None), action, by("because"), Precondition::default()).await.unwrap();
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
    for n in 0..3 {
        let (rig, task, a, b) = two_chains().await;
        let pause = Pause::all(task)[n];
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
        let at_once = matches!(pause, Pause::Task(_));
        assert_eq!(rig.engine.queue().waiting(), if at_once { 2 } else { 0 });
        assert_eq!(rig.engine.sweep().await.unwrap().sent, if at_once { 0 } else { 2 });
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
    Pause::Task(task).begin(&rig).await;
    rig.answer(&a, tasker_wire::Outcome::Released {}).await;
    rig.engine.resolve_step(b.step_id, None, by("skip it")).await.unwrap();
    let [a, b2] = [rig.step(task, "a").await, rig.step(task, "b2").await];
    assert_eq!((a.state, a.lease, a.attempt), (StepState::Pending, 1, 1));
    assert_eq!((b2.state, b2.lease), (StepState::Pending, 0));
    assert_eq!(active_steps(&rig).await, 2);
    rig.check().await;
    Pause::Task(task).end(&rig).await;
    let runs = rig.receive_all().await;
    assert_eq!((runs["a"].lease, runs["a"].attempt), (2, 1));
    assert_eq!((runs["b2"].lease, runs["b2"].attempt), (1, 1));
    rig.check().await;
}

#[tokio::test]
async fn an_operators_retry_is_held_by_a_pause_and_a_resolve_or_cancel_is_not() {
    let (rig, task, a, b) = two_chains().await;
    rig.answer(&a, failure("x")).await;
    Pause::Task(task).begin(&rig).await;
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

#[tokio::test]
async fn what_two_pauses_hold_goes_on_when_both_have_ended() {
    for first in 0..3 {
        for second in (0..3).filter(|second| *second != first) {
            let (rig, task, a, b) = two_chains().await;
            let [one, other] = [first, second].map(|n| Pause::all(task)[n]);
            one.begin(&rig).await;
            rig.answer(&a, success(json!("a"))).await;
            other.begin(&rig).await;
            rig.answer(&b, failure("not now")).await;
            rig.engine.sweep().await.unwrap();
            one.end(&rig).await;
            rig.engine.sweep().await.unwrap();
            assert_eq!(rig.engine.queue().waiting(), 0, "{one:?}, {other:?}");
            assert_eq!(active_steps(&rig).await, 2);
            other.end(&rig).await;
            rig.engine.sweep().await.unwrap();
            let names: Vec<String> = rig.receive_all().await.into_keys().collect();
            assert_eq!(names, ["a2", "b"], "{one:?}, {other:?}");
            rig.check().await;
        }
    }
}

#[tokio::test]
async fn a_long_pause_is_over_at_once_and_not_when_the_sweep_would_have_looked_again() {
    for n in 0..3 {
        let (rig, task, a, _) = two_chains().await;
        let pause = Pause::all(task)[n];
        pause.begin(&rig).await;
        rig.answer(&a, success(json!("a"))).await;
        for _ in 0..12 {
            rig.pass(HOLD * 30).await;
            rig.engine.sweep().await.unwrap();
        }
        assert_eq!(rig.wakes_in_ms(task, "a2").await, Some(3_600_000), "looked at once an hour");
        pause.end(&rig).await;
        rig.engine.sweep().await.unwrap();
        assert_eq!(rig.receive_all().await.into_keys().collect::<Vec<_>>(), ["a2"]);
        rig.check().await;
    }
}

#[tokio::test]
async fn a_cancelled_or_resolved_step_that_a_pause_held_does_not_come_back() {
    for pause in [Pause::Template, Pause::Namespace] {
        let (rig, task, a, b) = two_chains().await;
        pause.begin(&rig).await;
        rig.answer(&a, success(json!("a"))).await;
        rig.answer(&b, success(json!("b"))).await;
        rig.engine.resolve_step(rig.step_id(task, "a2").await, None, by("skip")).await.unwrap();
        assert_eq!(rig.engine.store().count_held(&pause.scope()).await.unwrap(), 1);
        rig.engine.cancel_task(task, by("enough")).await.unwrap();
        assert_eq!(rig.engine.resume(pause.scope(), by("go"), false).await.unwrap().held_steps, 0);
        rig.engine.sweep().await.unwrap();
        assert_eq!(rig.engine.queue().waiting(), 0);
        rig.check().await;
    }
}

#[tokio::test]
async fn the_end_of_a_pause_reaches_all_it_held_page_by_page_and_nothing_of_others() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    let steps: Vec<_> = (0..300).map(|n| json!({"name": format!("s{n}")})).collect();
    for (namespace, name) in [("here", "w"), ("here", "v"), ("there", "w")] {
        let mut template: serde_json::Value = serde_json::from_str(&workflow(name, json!(steps))).unwrap();
        template["namespace_name"] = json!(namespace);
        rig.register(&template.to_string()).await;
    }
    let scope = |namespace: &str, template: Option<&str>| PauseScope {
        namespace: namespace.into(),
        template: template.map(str::to_owned),
    };
    for paused in [scope("here", None), scope("there", None), scope("here", Some("v"))] {
        rig.engine.pause(paused, by("because"), false).await.unwrap();
    }
    let mut of_here = Vec::new();
    for n in 0..9 {
        let (namespace, name) = [("here", "w"), ("there", "w"), ("here", "v")][n % 3];
        let task = rig.try_submit(json!({"namespace": namespace, "name": name, "context": {"n": n}})).await.unwrap().task;
        if n % 3 == 0 {
            of_here.push(task.to_string());
        }
    }
    let due = "select count(*) from tasker.steps where wake_at <= tasker.clock()";
    assert_eq!(rig.engine.resume(scope("here", None), by("go"), true).await.unwrap().held_steps, 900);
    assert_eq!(rig.count(due).await, 0, "a dry run");
    assert_eq!(rig.engine.resume(scope("here", None), by("go"), false).await.unwrap().held_steps, 900);
    assert_eq!(rig.count(due).await, 900);
    let tasks = rig.rows("select distinct task_id from tasker.steps where wake_at <= tasker.clock() order by 1").await;
    assert_eq!(tasks.iter().map(|row| row["task_id"].as_str().unwrap()).collect::<Vec<_>>(), of_here);
    assert_eq!(rig.engine.resume(scope("here", Some("v")), by("go"), false).await.unwrap().held_steps, 900);
    assert_eq!(rig.count(due).await, 1_800);
    rig.check().await;
}

#[tokio::test]
async fn the_end_of_a_pause_waits_for_a_step_that_a_sweep_looks_at() {
    let (rig, task, a, _) = two_chains().await;
    Pause::Namespace.begin(&rig).await;
    rig.answer(&a, success(json!("a"))).await;
    // As a sweep that read the pause and holds the step again.
    let mut sweep = rig.db.client().await;
    let sweep = sweep.transaction().await.unwrap();
    sweep.execute("update tasker.steps set wake_at = tasker.clock_after(3600000) where held_at is not null", &[]).await.unwrap();
    let engine = rig.engine.clone();
    let end = tokio::spawn(async move { engine.resume(Pause::Namespace.scope(), by("go"), false).await });
    let waits = "select count(*) = 1 from pg_stat_activity \
                 where datname = current_database() and wait_event_type = 'Lock' and query like '%held_at is not null%'";
    rig.until(waits).await;
    sweep.commit().await.unwrap();
    assert_eq!(end.await.unwrap().unwrap().held_steps, 1);
    assert_eq!(rig.wakes_in_ms(task, "a2").await, Some(0));
    rig.check().await;
}
