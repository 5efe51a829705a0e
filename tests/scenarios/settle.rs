//! An operator resolves a step with an outcome: what it makes, what is stored of it, and a result that came too late.

use serde_json::{Value, json};
use tasker_engine::{OperatorAction, OperatorError, Precondition, Recovery};
use tasker_wire::{Answer, StepState, TaskId, TaskState, limits, rest::DlqFilter};

use crate::{
    batches::{act, split, with_workers},
    rig::{Rig, by, failure, permanent, raw, success, workflow},
};

fn outcome(cursors: usize) -> Value {
    let cursor = |n: usize| json!({"batch_id": format!("{n}"), "start_cursor": n, "end_cursor": n + 1, "batch_size": 1});
    json!({"rows": 9, "batch_processing_outcome": {"type": "create_batches", "worker_template_name": "work",
        "worker_count": cursors, "cursor_configs": (0..cursors).map(cursor).collect::<Vec<_>>()}})
}

async fn resolve(rig: &Rig, task: TaskId, name: &str, result: Value) -> Result<(), OperatorError> {
    let step = rig.step_id(task, name).await;
    let done = rig.engine.resolve_step(step, raw(result), by("by hand")).await;
    rig.check().await;
    done
}

fn batch_step(name: &str, parents: &[&str]) -> [Value; 2] {
    let config = json!({"worker_template": format!("{name}_work")});
    [
        json!({"name": name, "type": "batchable", "dependencies": parents, "batch_config": config}),
        json!({"name": format!("{name}_work"), "type": "batch_worker", "dependencies": [name]}),
    ]
}

#[tokio::test]
async fn a_batch_that_is_resolved_with_its_outcome_stores_no_cursors() {
    let rig = Rig::still().await;
    let steps = [
        json!({"name": "split", "type": "batchable", "batch_config": {"worker_template": "work"}}),
        json!({"name": "work", "type": "batch_worker", "dependencies": ["split"]}),
    ];
    rig.register(&workflow("batch", json!(steps))).await;
    let task = rig.submit("batch", json!({})).await;
    resolve(&rig, task, "split", outcome(2)).await.unwrap();
    resolve(&rig, task, "split", outcome(2)).await.expect("a repeated call has no further effect");
    let kept = json!({"rows": 9, "batch_processing_outcome": {"type": "create_batches", "worker_template_name": "work",
        "worker_count": 2}});
    assert_eq!(rig.step(task, "split").await.result, Some(kept.clone()));
    let runs = rig.receive_all().await;
    let worker = &runs["work_1"];
    let seen: Value = serde_json::from_str(worker.dependency_results["split"].get()).unwrap();
    assert_eq!(seen, kept);
    let inputs: Value = serde_json::from_str(worker.step_inputs.as_ref().unwrap().get()).unwrap();
    assert_eq!(inputs["cursor"]["start_cursor"], 1);
}

#[tokio::test]
async fn a_repeated_resolve_is_the_same_whatever_its_spaces() {
    let rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a"}]))).await;
    let task = rig.submit("w", json!({})).await;
    let step = rig.step_id(task, "a").await;
    let given = |text: &str| Some(serde_json::value::RawValue::from_string(text.into()).unwrap());
    let actions = "select count(*) from tasker.audit_log where action = 'resolve_step'";
    rig.engine.resolve_step(step, given(r#"{"x":1,"y":[]}"#), by("once")).await.unwrap();
    rig.engine.resolve_step(step, given(r#"{"y": [], "x": 1}"#), by("twice")).await.unwrap();
    let other = rig.engine.resolve_step(step, given(r#"{"x": 2}"#), by("otherwise")).await;
    assert!(matches!(other, Err(OperatorError::Conflict { .. })), "{other:?}");
    assert_eq!(rig.count(actions).await, 1);
}

#[tokio::test]
async fn a_late_success_of_a_worker_that_its_batch_cancelled_may_settle_it() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"failure_strategy": "fail_fast"}), 3).await;
    rig.answer(&runs["work_002"], permanent("no")).await;
    assert_eq!(rig.answer(&runs["work_001"], success(json!("paid"))).await, Answer::Stale);
    let cancelled = rig.step(task, "work_001").await;
    assert_eq!((cancelled.state, rig.state(task).await), (StepState::Cancelled, TaskState::Error));

    // A retry of the one that failed would run the cancelled ones again, and says of both what speaks against it.
    let (failed, retry) = (rig.step_id(task, "work_002").await, OperatorAction::RetryStep { inputs: raw(json!({"cursor": 1})) });
    let dry = Precondition { dry_run: true, seen: None };
    let effects = rig.engine.operate((task, Some(failed)), retry.clone(), by("to see"), dry).await.unwrap();
    let warnings = rig.engine.warnings((task, Some(failed)), &retry, &effects).await.unwrap();
    let late = "step work_001 succeeded under lease 1, too late to be applied, so its handler may act twice; resolve the step with \
                result_of_lease 1 to use that result instead";
    let once = |name: &str| format!("step {name} allows one attempt (max_attempts 1), and this is a further one");
    let replaced = "the inputs of step work_002 are replaced as a whole, and its cursor with them";
    assert_eq!(warnings, [late.to_owned(), once("work_001"), once("work_002"), replaced.to_owned(), once("work_003")]);

    let all = DlqFilter { namespace: Some("default".into()), ..DlqFilter::default() };
    let page = rig.engine.recover_entries(&all, None, 10, &by("to see"), true).await.unwrap();
    let [(_, Recovery::Recovered(_, of_recovery))] = &page.items[..] else { panic!("{page:?}") };
    assert_eq!(of_recovery[..], [&warnings[..3], &warnings[4..]].concat(), "without those about inputs");

    act(&rig, task, "work_001", OperatorAction::ResolveStepAsLate { lease: 1 }).await;
    let settled = rig.step(task, "work_001").await;
    assert_eq!((settled.state, settled.result), (StepState::ResolvedManually, Some(json!("paid"))));
    assert_eq!(rig.state(task).await, TaskState::Error);
    act(&rig, task, "work_002", OperatorAction::RetryStep { inputs: None }).await;
    let again = rig.receive_all().await;
    assert_eq!(again.keys().collect::<Vec<_>>(), ["work_002", "work_003"]);
    for run in again.values() {
        rig.answer(run, success(json!(run.lease))).await;
    }
    assert_eq!(rig.receive().await.dependency_results["work_001"].get(), "\"paid\"");
    rig.check().await;
}

#[tokio::test]
async fn every_action_that_runs_steps_again_says_which_of_them_have_a_late_success() {
    let rig = Rig::still().await;
    rig.register(&workflow("w", json!([{"name": "a"}, {"name": "b", "dependencies": ["a"]}]))).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    let b = rig.receive().await;
    rig.engine.cancel_task(task, by("stop")).await.unwrap();
    assert_eq!(rig.answer(&b, success(json!(2))).await, Answer::Stale);
    let late = "step b succeeded under lease 1, too late to be applied, so its handler may act twice";
    let dry = || Precondition { dry_run: true, seen: None };
    let effects = rig.engine.operate((task, None), OperatorAction::ReopenTask, by("to see"), dry()).await.unwrap();
    let warnings = rig.engine.warnings((task, None), &OperatorAction::ReopenTask, &effects).await.unwrap();
    assert_eq!(warnings, [late], "a step of a cancelled task cannot be resolved, so nothing of the kind is proposed");

    rig.engine.operate((task, None), OperatorAction::ReopenTask, by("go on"), Precondition::default()).await.unwrap();
    let (first, redo) = (rig.step_id(task, "a").await, OperatorAction::RedoStep { inputs: None });
    let effects = rig.engine.operate((task, Some(first)), redo.clone(), by("to see"), dry()).await.unwrap();
    let warnings = rig.engine.warnings((task, Some(first)), &redo, &effects).await.unwrap();
    assert_eq!(warnings, [format!("{late}; resolve the step with result_of_lease 1 to use that result instead")]);
    rig.answer(&rig.receive().await, failure("not now")).await;
    rig.check().await;
}

#[tokio::test]
async fn two_batches_make_no_more_steps_than_one_may() {
    let rig = Rig::still().await;
    let both = [batch_step("one", &[]), batch_step("two", &[])].concat();
    let steps: Vec<Value> = both.into_iter().chain([json!({"name": "join", "dependencies": ["one_work", "two_work"]})]).collect();
    rig.register(&workflow("both", json!(steps))).await;
    let task = rig.submit("both", json!({})).await;
    let runs = rig.receive_all().await;
    rig.answer(&runs["one"], split(limits::MADE_STEPS - 1)).await;
    let sentence = format!("more than {} steps beside those that the template declares", limits::MADE_STEPS);
    let refused = resolve(&rig, task, "two", json!({"batch_processing_outcome": outcome(4)["batch_processing_outcome"]})).await;
    assert!(refused.as_ref().is_err_and(|e| !e.to_string().contains(&sentence)), "of another pattern: {refused:?}");
    let mut four = outcome(4);
    four["batch_processing_outcome"]["worker_template_name"] = json!("two_work");
    let refused = resolve(&rig, task, "two", four).await.unwrap_err();
    assert!(refused.to_string().contains(&sentence), "{refused}");
    assert_eq!(rig.answer(&runs["two"], split(4)).await, Answer::Accepted);
    let two = rig.step(task, "two").await;
    assert_eq!(two.state, StepState::Error);
    let error = two.error.unwrap();
    assert!(error["error_type"] == "too_many_steps" && error["message"].as_str().unwrap().contains(&sentence), "{error}");
    assert_eq!(rig.count("select count(*) from tasker.steps").await, limits::MADE_STEPS as i64 + 1);
    rig.check().await;
}
