//! The places of a batch: who keeps one while it waits, and who gets it next.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tasker_engine::{OperatorAction, Precondition};
use tasker_wire::{Answer, Outcome, RunStep, StepState, TaskId, TaskState, outcome::Failure};

use crate::rig::{Rig, by, permanent, raw, success, workflow};

/// A task with four workers, of which two may run, and those that run.
async fn two_places(rig: &Rig) -> (TaskId, BTreeMap<String, RunStep>) {
    let config = json!({"worker_template": "work", "parallelism": 2});
    rig.register(&workflow(
        "places",
        json!([
            {"name": "split", "type": "batchable", "batch_config": config},
            {"name": "work", "type": "batch_worker", "dependencies": ["split"]},
            {"name": "join", "type": "deferred_convergence", "dependencies": ["work"]},
        ]),
    ))
    .await;
    let task = rig.submit("places", json!({})).await;
    let cursors: Vec<Value> = (1..=4).map(|n| json!({"batch_id": n, "start": n, "end": n + 1})).collect();
    let Outcome::Success { result, metadata, .. } = success(json!({})) else { unreachable!() };
    let outcome = Outcome::Success { result, metadata, decision: None, batches: raw(json!({ "cursors": cursors })) };
    assert_eq!(rig.answer(&rig.receive().await, outcome).await, Answer::Accepted);
    let runs = rig.receive_all().await;
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["work_1", "work_2"]);
    (task, runs)
}

async fn operate(rig: &Rig, task: TaskId, action: OperatorAction) {
    rig.engine.operate((task, None), action, by("because"), Precondition::default()).await.unwrap();
    rig.check().await;
}

#[tokio::test]
async fn a_worker_that_waits_for_a_day_keeps_its_place_and_the_others_pass_theirs_on() {
    let rig = Rig::still().await;
    rig.stop_clock().await;
    let (task, mut runs) = two_places(&rig).await;
    let mut tomorrow = Failure::retryable("handler_error", "the source is closed today");
    tomorrow.delay_seconds = Some(86_400.0);
    rig.answer(&runs.remove("work_1").unwrap(), Outcome::Failure(tomorrow)).await;
    assert!(rig.receive_all().await.is_empty(), "its place is not free");
    for name in ["work_2", "work_3", "work_4"] {
        let run = runs.remove(name).unwrap_or_else(|| panic!("{name} does not run"));
        rig.answer(&run, success(json!(name))).await;
        rig.check().await;
        runs = rig.receive_all().await;
    }
    assert!(runs.is_empty());
    assert_eq!((rig.state(task).await, rig.step(task, "join").await.state), (TaskState::Running, StepState::Pending));

    rig.pass(Duration::from_secs(86_400)).await;
    rig.engine.sweep().await.unwrap();
    rig.answer(&rig.receive().await, success(json!("work_1"))).await;
    let join = rig.receive().await;
    assert_eq!((join.step_name.as_str(), join.dependency_results.len()), ("join", 5));
    rig.answer(&join, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_place_that_passes_on_during_a_pause_is_used_when_the_pause_ends() {
    let rig = Rig::still().await;
    let (task, runs) = two_places(&rig).await;
    operate(&rig, task, OperatorAction::PauseTask).await;
    for run in runs.values() {
        assert_eq!(rig.answer(run, success(json!(1))).await, Answer::Accepted);
        rig.check().await;
    }
    rig.engine.sweep().await.unwrap();
    assert!(rig.receive_all().await.is_empty(), "a pause holds the next ones");
    operate(&rig, task, OperatorAction::ResumeTask).await;
    let runs = rig.receive_all().await;
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["work_3", "work_4"]);
    for run in runs.values() {
        rig.answer(run, success(json!(1))).await;
    }
    assert_eq!(rig.receive().await.step_name, "join");
    rig.check().await;
}

#[tokio::test]
async fn a_failed_decision_is_resolved_with_what_it_should_have_decided() {
    let rig = Rig::still().await;
    rig.register(&workflow(
        "decided",
        json!([
            {"name": "start"},
            {"name": "route", "type": "decision", "dependencies": ["start"]},
            {"name": "left", "dependencies": ["route"]},
            {"name": "right", "dependencies": ["route"]},
            {"name": "join", "type": "deferred_convergence", "dependencies": ["left", "right"]},
        ]),
    ))
    .await;
    let task = rig.submit("decided", json!({})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    rig.answer(&rig.receive().await, permanent("no rule fits")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    let step = rig.step_id(task, "route").await;
    let result = raw(json!({"decision_point_outcome": {"type": "create_steps", "step_names": ["left"]}, "by": "Ada"}));
    let resolve = OperatorAction::ResolveStep { result };
    rig.engine.operate((task, Some(step)), resolve, by("I looked"), Precondition::default()).await.unwrap();
    rig.check().await;
    for name in ["left", "join"] {
        let run = rig.receive().await;
        assert_eq!(run.step_name, name);
        rig.answer(&run, success(json!(name))).await;
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(rig.steps(task).await.keys().collect::<Vec<_>>(), ["join", "left", "route", "start"]);
    rig.check().await;
}
