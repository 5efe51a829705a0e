//! Decisions: their success makes the steps that they name, and what exists because of these.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::{Value, json};
use tasker_engine::{OperatorAction, OperatorError, Precondition};
use tasker_wire::{Answer, Outcome, RunStep, StepState, TaskId, TaskState, outcome::Failure};

use crate::rig::{Rig, by, failure, raw, success, workflow};

/// Tasks that are run at once.
const TOGETHER: usize = 40;

/// A request that a decision sends to `auto`, `manager` or `finance`, or to several of them, and their convergence.
pub fn approval() -> String {
    workflow(
        "approval",
        json!([
            {"name": "validate"},
            {"name": "route", "type": "decision", "dependencies": ["validate"]},
            {"name": "auto", "dependencies": ["route"]},
            {"name": "manager", "dependencies": ["route"]},
            {"name": "finance", "dependencies": ["route"]},
            {"name": "final", "type": "deferred_convergence", "dependencies": ["auto", "manager", "finance"]},
        ]),
    )
}

/// The success of a decision that names steps.
pub fn create(names: &[&str]) -> Outcome {
    let decision = raw(json!({"create": names}));
    let Outcome::Success { result, metadata, .. } = success(json!({"route": names})) else { unreachable!() };
    Outcome::Success { result, metadata, decision, batches: None }
}

/// A task that waits for its decision.
async fn undecided(rig: &Rig) -> (TaskId, RunStep) {
    rig.register(&approval()).await;
    let task = rig.submit("approval", json!({})).await;
    rig.answer(&rig.receive().await, success(json!({"amount": 3}))).await;
    (task, rig.receive().await)
}

async fn names(rig: &Rig, task: TaskId) -> BTreeSet<String> {
    rig.steps(task).await.into_keys().collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(String::from).into()
}

#[tokio::test]
async fn only_what_is_chosen_exists_and_its_convergence_waits_for_all_of_it() {
    let rig = Rig::still().await;
    let (task, route) = undecided(&rig).await;
    assert_eq!(names(&rig, task).await, set(["validate", "route"]));
    assert_eq!(rig.answer(&route, create(&["manager", "finance"])).await, Answer::Accepted);
    assert_eq!(names(&rig, task).await, set(["validate", "route", "manager", "finance", "final"]));
    rig.check().await;
    let runs = rig.receive_all().await;
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["finance", "manager"]);
    // It sees what came before the decision.
    assert_eq!(runs["manager"].dependency_results["validate"].get(), r#"{"amount": 3}"#.replace(' ', ""));
    rig.answer(&runs["manager"], success(json!("yes"))).await;
    assert_eq!(rig.step(task, "final").await.state, StepState::Pending);
    rig.answer(&runs["finance"], success(json!("yes too"))).await;
    let last = rig.receive().await;
    assert_eq!(last.dependency_results["finance"].get(), "\"yes too\"");
    assert!(!last.dependency_results.contains_key("auto"), "a step that was not chosen is absent");
    rig.answer(&last, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn both_shapes_of_an_outcome_mean_the_same() {
    for outcome in [
        create(&["auto"]),
        success(json!({"decision_point_outcome": {"type": "create_steps", "step_names": ["auto"]}, "why": "small"})),
    ] {
        let rig = Rig::still().await;
        let (task, route) = undecided(&rig).await;
        rig.answer(&route, outcome).await;
        assert_eq!(names(&rig, task).await, set(["validate", "route", "auto", "final"]));
        rig.check().await;
    }
}

#[tokio::test]
async fn a_decision_for_nothing_ends_its_branch() {
    let rig = Rig::still().await;
    let (task, route) = undecided(&rig).await;
    rig.answer(&route, create(&[])).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(names(&rig, task).await, set(["validate", "route"]));
    rig.check().await;
}

#[tokio::test]
async fn the_same_decision_again_makes_nothing_and_another_one_is_stale() {
    let rig = Rig::still().await;
    let (task, route) = undecided(&rig).await;
    rig.answer(&route, create(&["auto"])).await;
    assert_eq!(rig.answer(&route, create(&["auto"])).await, Answer::Duplicate);
    assert_eq!(rig.answer(&route, create(&["manager"])).await, Answer::Stale);
    assert_eq!(names(&rig, task).await, set(["validate", "route", "auto", "final"]));
    assert_eq!(rig.receive_all().await.len(), 1);
    rig.check().await;
}

#[tokio::test]
async fn an_invalid_decision_fails_its_step_with_what_was_wrong() {
    for (outcome, says) in [
        (create(&["automatic"]), "auto"),
        (create(&["final"]), "final"),
        (create(&["route"]), "route"),
        (success(json!({"amount": 1})), "create"),
    ] {
        let rig = Rig::still().await;
        let (task, route) = undecided(&rig).await;
        assert_eq!(rig.answer(&route, outcome).await, Answer::Accepted);
        assert_eq!(rig.state(task).await, TaskState::Error);
        let error = rig.step(task, "route").await.error.unwrap();
        assert_eq!(error["error_type"], "invalid_outcome");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        assert_eq!(names(&rig, task).await, set(["validate", "route"]));
        rig.check().await;
    }
}

#[tokio::test]
async fn a_failed_decision_is_retried_and_then_decides() {
    let rig = Rig::still().await;
    let (task, route) = undecided(&rig).await;
    rig.answer(&route, failure("not now")).await;
    rig.execute("update tasker.steps set wake_at = tasker.clock() where state = 'waiting_for_retry'").await;
    rig.engine.sweep().await.unwrap();
    let again = rig.receive().await;
    let before: Failure = serde_json::from_str(again.last_failure.as_ref().unwrap().get()).unwrap();
    assert_eq!((again.attempt, before.message.as_str()), (2, "not now"));
    rig.answer(&again, create(&["auto"])).await;
    assert_eq!(rig.receive_all().await.keys().collect::<Vec<_>>(), ["auto"]);
    rig.check().await;
    let _ = task;
}

#[tokio::test]
async fn what_a_decision_makes_is_held_by_a_pause() {
    let rig = Rig::still().await;
    let (task, route) = undecided(&rig).await;
    rig.execute("update tasker.tasks set paused_at = tasker.clock()").await;
    rig.answer(&route, create(&["auto", "manager"])).await;
    assert_eq!(rig.engine.queue().waiting(), 0);
    assert_eq!((rig.step(task, "auto").await.state, rig.state(task).await), (StepState::Pending, TaskState::Running));
    rig.check().await;
    rig.execute(
        "update tasker.tasks set paused_at = null; update tasker.steps set wake_at = tasker.clock() where held_at is not null",
    )
    .await;
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.receive_all().await.len(), 2);
    rig.check().await;
}

#[tokio::test]
async fn two_decisions_at_once_make_one_convergence_that_waits_for_both() {
    let template = workflow(
        "two",
        json!([
            {"name": "start"},
            {"name": "left", "type": "decision", "dependencies": ["start"]},
            {"name": "right", "type": "decision", "dependencies": ["start"]},
            {"name": "a", "dependencies": ["left"]},
            {"name": "b", "dependencies": ["right"]},
            {"name": "join", "type": "deferred_convergence", "dependencies": ["a", "b"]},
        ]),
    );
    let rig = Rig::still().await;
    rig.register(&template).await;
    for _ in 0..1000 / TOGETHER {
        let tasks = join_all((0..TOGETHER).map(|_| rig.submit("two", json!({})))).await;
        answer_all(&rig, &received(&rig).await, "start").await;
        let runs = received(&rig).await;
        let decide = async |task: TaskId| {
            let decide = |decision: &str, step| rig.answer(&runs[&(task, decision.to_owned())], create(&[step]));
            tokio::join!(decide("left", "a"), decide("right", "b"))
        };
        let answers = join_all(tasks.iter().map(|task| decide(*task))).await;
        assert!(answers.iter().all(|both| *both == (Answer::Accepted, Answer::Accepted)), "{answers:?}");
        let runs = received(&rig).await;
        assert_eq!(runs.len(), 2 * TOGETHER);
        answer_all(&rig, &runs, "b").await;
        assert_eq!(rig.engine.queue().waiting(), 0, "each convergence waits");
        answer_all(&rig, &runs, "a").await;
        answer_all(&rig, &received(&rig).await, "join").await;
    }
    let complete = "select count(*) from tasker.tasks where state = 'complete' and total_steps = 6";
    assert_eq!(rig.count(complete).await, 1000);
    rig.check().await;
}

/// The messages that wait now, by task and step.
async fn received(rig: &Rig) -> BTreeMap<(TaskId, String), RunStep> {
    let mut runs = BTreeMap::new();
    while rig.engine.queue().waiting() > 0 {
        runs.extend(rig.receive_up_to(64).await.into_iter().map(|run| ((run.task_id, run.step_name.clone()), run)));
    }
    runs
}

/// Answers the steps of a name, one of each of the tasks.
async fn answer_all(rig: &Rig, runs: &BTreeMap<(TaskId, String), RunStep>, name: &str) {
    let of_it = runs.values().filter(|run| run.step_name == name).map(|run| run.complete(success(json!(1)), "scripted", 1));
    assert_eq!(rig.complete(of_it.collect()).await, [Answer::Accepted; TOGETHER]);
}

#[tokio::test]
async fn a_convergence_waits_for_a_decision_that_could_still_make_one_of_its_parents() {
    let template = workflow(
        "late",
        json!([
            {"name": "start"},
            {"name": "fixed", "dependencies": ["start"]},
            {"name": "route", "type": "decision", "dependencies": ["start"]},
            {"name": "maybe", "dependencies": ["route"]},
            {"name": "join", "type": "deferred_convergence", "dependencies": ["fixed", "maybe"]},
        ]),
    );
    for chosen in [&["maybe"][..], &[]] {
        let rig = Rig::still().await;
        rig.register(&template).await;
        let task = rig.submit("late", json!({})).await;
        rig.answer(&rig.receive().await, success(json!(1))).await;
        let runs = rig.receive_all().await;
        rig.answer(&runs["fixed"], success(json!(2))).await;
        assert_eq!(rig.step(task, "join").await.state, StepState::Pending);
        rig.check().await;
        rig.answer(&runs["route"], create(chosen)).await;
        rig.check().await;
        if !chosen.is_empty() {
            rig.answer(&rig.receive().await, success(json!(3))).await;
        }
        let join = rig.receive().await;
        assert_eq!((join.step_name.as_str(), join.dependency_results.contains_key("maybe")), ("join", !chosen.is_empty()));
        rig.answer(&join, success(json!(4))).await;
        assert_eq!(rig.state(task).await, TaskState::Complete);
        rig.check().await;
    }
}

#[tokio::test]
async fn a_cancel_and_a_decision_at_once_leave_nothing_that_runs() {
    let rig = Rig::still().await;
    rig.register(&approval()).await;
    for _ in 0..30 {
        let task = rig.submit("approval", json!({})).await;
        rig.answer(&rig.receive().await, success(json!(1))).await;
        let route = rig.receive().await;
        let (answer, cancelled) = tokio::join!(
            rig.answer(&route, create(&["auto", "manager", "finance"])),
            rig.engine.cancel_task(task, crate::rig::by("enough"))
        );
        cancelled.unwrap();
        assert!(matches!(answer, Answer::Accepted | Answer::Stale), "{answer:?}");
        assert_eq!(rig.state(task).await, TaskState::Cancelled);
        rig.receive_all().await;
    }
    rig.check().await;
}

#[tokio::test]
async fn ordinary_data_in_a_result_makes_nothing_and_a_decision_of_another_step_is_refused() {
    let rig = Rig::still().await;
    rig.register(&workflow("plain", json!([{"name": "a"}, {"name": "b", "dependencies": ["a"]}]))).await;
    let task = rig.submit("plain", json!({})).await;
    let data = json!({"decision_point_outcome": {"type": "create_steps", "step_names": ["b"]}});
    rig.answer(&rig.receive().await, success(data)).await;
    rig.answer(&rig.receive().await, create(&["a"])).await;
    let error: Value = rig.step(task, "b").await.error.unwrap();
    assert_eq!(error["error_type"], "invalid_outcome");
    rig.check().await;
}

#[tokio::test]
async fn messages_that_old_code_would_misread_have_the_later_version() {
    let rig = Rig::still().await;
    rig.register(&approval()).await;
    let task = rig.submit("approval", json!({})).await;
    let validate = rig.receive().await;
    rig.answer(&validate, success(json!(1))).await;
    let route = rig.receive().await;
    assert_eq!((validate.v, route.v, route.complete(create(&["auto"]), "scripted", 1).v), (1, 2, 2));
    rig.answer(&route, create(&["auto"])).await;
    assert_eq!(rig.receive().await.v, 1);
    let _ = task;
}

#[tokio::test]
async fn a_decision_is_not_resolved_with_a_late_result_because_what_it_makes_was_not_kept() {
    let rig = Rig::still().await;
    let (task, route) = undecided(&rig).await;
    rig.answer(&route, Outcome::PendingCallback { timeout_seconds: 1 }).await;
    rig.execute("update tasker.steps set wake_at = tasker.clock() - interval '1 s' where name = 'route'").await;
    rig.engine.sweep().await.unwrap();
    rig.engine.retry_step(route.step_id, by("again")).await.unwrap();
    assert_eq!(rig.answer(&route, create(&["auto"])).await, Answer::Stale);
    let late = OperatorAction::ResolveStepAsLate { lease: route.lease };
    let refused = rig.engine.operate((task, Some(route.step_id)), late, by("x"), Precondition::default()).await;
    let Err(OperatorError::Invalid(faults)) = refused else { panic!("{refused:?}") };
    assert_eq!(faults.0[0].place, "/result_of_lease");
    assert_eq!(names(&rig, task).await, set(["validate", "route"]));
    rig.check().await;
}
