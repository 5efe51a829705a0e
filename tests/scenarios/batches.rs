//! Batches: the success of a batchable step makes workers, and what exists because of them.

use std::collections::BTreeMap;

use serde_json::{Value, json, value::RawValue};
use tasker_engine::{OperatorAction, Precondition};
use tasker_queue::InProcess;
use tasker_wire::{Answer, Outcome, RunStep, StepState, TaskId, TaskState};

use crate::{
    lives::Taken,
    remote_queue::RemoteQueue,
    rig::{Rig, by, permanent, raw, success, workflow},
};

/// `split`, a worker `work_ID` for each batch, and `join`. `config` is the batch's.
fn batch(config: Value) -> String {
    batch_of(config, json!({}))
}

fn batch_of(mut config: Value, initialization: Value) -> String {
    config["worker_template"] = json!("work");
    let mut template: Value = serde_json::from_str(&workflow(
        "batch",
        json!([
            {"name": "split", "type": "batchable", "batch_config": config},
            {"name": "work", "type": "batch_worker", "dependencies": ["split"], "retry": {"max_attempts": 1}},
            {"name": "join", "type": "deferred_convergence", "dependencies": ["work"]},
        ]),
    ))
    .unwrap();
    template["steps"][0]["handler"]["initialization"] = initialization;
    template.to_string()
}

pub fn split(workers: usize) -> Outcome {
    let cursor = |n: usize| json!({"batch_id": format!("{n:03}"), "start": n * 10, "end": n * 10 + 10});
    of_batches(json!({"cursors": (1..=workers).map(cursor).collect::<Vec<_>>()}))
}

/// The success of a batchable step that makes these batches of ten rows each.
fn of_batches(batches: Value) -> Outcome {
    let total = batches["cursors"].as_array().map_or(0, Vec::len) * 10;
    let Outcome::Success { result, metadata, .. } = success(json!({ "total": total })) else { unreachable!() };
    Outcome::Success { result, metadata, decision: None, batches: raw(batches) }
}

/// A task whose batch has so many workers, and those that run.
pub async fn with_workers(rig: &Rig, config: Value, workers: usize) -> (TaskId, BTreeMap<String, RunStep>) {
    rig.register(&batch(config)).await;
    let task = rig.submit("batch", json!({})).await;
    assert_eq!(rig.answer(&rig.receive().await, split(workers)).await, Answer::Accepted);
    rig.check().await;
    (task, rig.receive_all().await)
}

pub async fn act(rig: &Rig, task: TaskId, name: &str, action: OperatorAction) {
    let step = rig.step_id(task, name).await;
    rig.engine.operate((task, Some(step)), action, by("because"), Precondition::default()).await.unwrap();
    rig.check().await;
}

#[tokio::test]
async fn each_cursor_gets_a_worker_and_the_convergence_gets_all_results() {
    let rig = Rig::still().await;
    rig.register(&batch(json!({}))).await;
    let task = rig.submit("batch", json!({})).await;
    assert_eq!(rig.count("select total_steps::int8 from tasker.tasks").await, 1);
    rig.answer(&rig.receive().await, split(3)).await;
    let runs = rig.receive_all().await;
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["work_001", "work_002", "work_003"]);
    let inputs: Value = serde_json::from_str(runs["work_002"].step_inputs.as_ref().unwrap().get()).unwrap();
    assert_eq!((&inputs["cursor"]["batch_id"], &inputs["is_no_op"]), (&json!("002"), &json!(false)));
    assert_eq!((&inputs["cursor"]["start_cursor"], &inputs["cursor"]["end_cursor"]), (&json!(20), &json!(30)));
    rig.check().await;
    for (name, run) in &runs {
        assert_eq!(rig.answer(run, success(json!(name))).await, Answer::Accepted);
    }
    let join = rig.receive().await;
    assert_eq!(join.dependency_results["work_003"].get(), "\"work_003\"");
    assert_eq!(join.dependency_results["split"].get(), r#"{"total":30}"#);
    rig.answer(&join, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn an_empty_batch_makes_a_worker_without_work_only_where_the_template_asks_for_it() {
    let outcome = |outcome: Value| success(json!({ "batch_processing_outcome": outcome }));
    let create = json!({"type": "create_batches", "worker_template_name": "work", "worker_count": 0, "total_items": 0,
        "cursor_configs": []});
    let (asks, does_not) = (json!({"worker_template_name": "work"}), json!({}));
    for (initialization, outcome, names) in [
        (&asks, outcome(json!({"type": "no_batches"})), &["join", "split", "work_000"][..]),
        (&does_not, outcome(json!({"type": "no_batches"})), &["split"]),
        (&asks, of_batches(json!("no_batches")), &["join", "split", "work_000"]),
        (&does_not, of_batches(json!("no_batches")), &["split"]),
        // The mere text in a result is no outcome.
        (&asks, outcome(json!("no_batches")), &["split"]),
        (&asks, of_batches(json!({"cursors": []})), &["split"]),
        (&asks, outcome(create.clone()), &["split"]),
        (&does_not, outcome(create), &["split"]),
    ] {
        let rig = Rig::still().await;
        rig.register(&batch_of(json!({}), initialization.clone())).await;
        let task = rig.submit("batch", json!({})).await;
        let what = format!("{initialization} {outcome:?}");
        rig.answer(&rig.receive().await, outcome).await;
        assert_eq!(rig.steps(task).await.keys().collect::<Vec<_>>(), names, "{what}");
        rig.check().await;
        for (_, run) in rig.receive_all().await {
            assert!(run.step_inputs.as_ref().unwrap().get().contains(r#""is_no_op":true"#), "{:?}", run.step_inputs);
            rig.answer(&run, success(json!({"no_op": true}))).await;
            rig.answer(&rig.receive().await, success(json!(0))).await;
        }
        assert_eq!(rig.state(task).await, TaskState::Complete);
    }
}

#[tokio::test]
async fn a_worker_has_the_name_of_its_batch_whatever_that_is() {
    let rig = Rig::still().await;
    rig.register(&batch(json!({}))).await;
    let task = rig.submit("batch", json!({})).await;
    let cursor = |id: &str| json!({"batch_id": id, "start": 0, "end": 1});
    rig.answer(&rig.receive().await, of_batches(json!({"cursors": [cursor("batch_000"), cursor("000"), cursor("a.b-c")]}))).await;
    let runs = rig.receive_all().await;
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["work_000", "work_a.b-c", "work_batch_000"]);
    let answers = runs.values().map(|run| run.complete(success(json!(run.step_name)), "scripted", 1)).collect();
    assert_eq!(rig.complete(answers).await, [Answer::Accepted; 3]);
    let join = rig.receive().await;
    assert_eq!(join.dependency_results["work_batch_000"].get(), "\"work_batch_000\"");
    rig.answer(&join, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn cursors_are_taken_out_of_the_stored_result() {
    let rig = Rig::still().await;
    rig.register(&batch(json!({}))).await;
    let task = rig.submit("batch", json!({})).await;
    let outcome = json!({"rows": 20, "batch_processing_outcome": {"type": "create_batches", "worker_template_name": "work",
        "worker_count": 2, "total_items": 20, "cursor_configs": [
            {"batch_id": "001", "start_cursor": 0, "end_cursor": 10, "batch_size": 10},
            {"batch_id": "002", "start_cursor": 10, "end_cursor": 20, "batch_size": 10}]}});
    rig.answer(&rig.receive().await, success(outcome)).await;
    let result = rig.step(task, "split").await.result.unwrap();
    assert_eq!((&result["rows"], &result["batch_processing_outcome"]["worker_count"]), (&json!(20), &json!(2)));
    assert!(result["batch_processing_outcome"].get("cursor_configs").is_none(), "{result}");
    assert_eq!(rig.receive_all().await.len(), 2);
    rig.check().await;
}

#[tokio::test]
async fn places_bound_how_many_run_at_once_and_pass_to_the_next() {
    let rig = Rig::still().await;
    let (task, mut runs) = with_workers(&rig, json!({"parallelism": 2}), 5).await;
    let mut order = Vec::new();
    while let Some((name, run)) = runs.pop_first() {
        assert_eq!(runs.len(), usize::from(order.len() < 4), "at most two, and two while any waits");
        rig.answer(&run, success(json!(name))).await;
        rig.check().await;
        order.push(name);
        runs.extend(rig.receive_all().await.into_iter().filter(|(name, _)| name != "join"));
    }
    assert_eq!(order, ["work_001", "work_002", "work_003", "work_004", "work_005"]);
    rig.engine.recover().await.unwrap();
    let _ = task;
}

#[tokio::test]
async fn a_batch_answered_together_passes_all_its_places() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"parallelism": 3}), 7).await;
    let answers = runs.values().map(|run| run.complete(success(json!(1)), "scripted", 1)).collect();
    assert_eq!(rig.complete(answers).await, [Answer::Accepted; 3]);
    rig.check().await;
    let runs = rig.receive_all().await;
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["work_004", "work_005", "work_006"]);
    let _ = task;
}

#[tokio::test]
async fn a_failure_that_the_batch_tolerates_is_an_error_beside_the_results() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"failure_strategy": "continue_on_failure"}), 2).await;
    rig.answer(&runs["work_001"], permanent("bad rows")).await;
    rig.check().await;
    rig.answer(&runs["work_002"], success(json!(2))).await;
    let join = rig.receive().await;
    assert_eq!(join.dependency_results["work_001"].get(), "null");
    let error: Value = serde_json::from_str(join.dependency_errors["work_001"].get()).unwrap();
    assert_eq!(error["message"], "bad rows");
    assert_eq!(join.dependency_errors.len(), 1);
    rig.answer(&join, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_task_is_not_complete_if_its_batch_tolerates_a_failure_and_what_joins_it_does_not() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"failure_strategy": "continue_on_failure"}), 2).await;
    rig.answer(&runs["work_001"], permanent("bad rows")).await;
    rig.answer(&runs["work_002"], success(json!(2))).await;
    let join = rig.receive().await;
    assert_eq!(join.dependency_results["work_001"].get(), "null");
    rig.answer(&join, permanent("a part is missing")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    assert_eq!(rig.step(task, "join").await.error.unwrap()["message"], "a part is missing");
    let failed = rig.rows("select failed_steps, active_steps from tasker.tasks").await;
    assert_eq!(failed, [json!({"failed_steps": 1, "active_steps": 0})], "the tolerated failure is not counted");
    rig.check().await;
}

#[tokio::test]
async fn an_isolated_failure_holds_the_convergence_and_lets_the_others_end() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"failure_strategy": "isolate", "parallelism": 1}), 3).await;
    rig.answer(&runs["work_001"], permanent("bad rows")).await;
    rig.check().await;
    for _ in 0..2 {
        rig.answer(&rig.receive().await, success(json!(1))).await;
        rig.check().await;
    }
    assert_eq!(rig.state(task).await, TaskState::Error);
    act(&rig, task, "work_001", OperatorAction::RetryStep { inputs: None }).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(rig.receive().await.step_name, "join");
    rig.check().await;
}

#[tokio::test]
async fn the_first_failure_ends_a_batch_that_fails_fast() {
    for config in [json!({"failure_strategy": "fail_fast"}), json!({"failure_strategy": "fail_fast", "parallelism": 2})] {
        let rig = Rig::still().await;
        let (task, runs) = with_workers(&rig, config, 4).await;
        assert_eq!(rig.answer(&runs["work_002"], permanent("bad rows")).await, Answer::Accepted);
        rig.check().await;
        assert_eq!(rig.state(task).await, TaskState::Error);
        assert_eq!(rig.step(task, "work_001").await.state, StepState::Cancelled);
        assert_eq!(rig.answer(&runs["work_001"], success(json!(1))).await, Answer::Stale);
        // The retry of the one that failed lets the others go on.
        act(&rig, task, "work_002", OperatorAction::RetryStep { inputs: None }).await;
        let mut done = 0;
        while rig.state(task).await == TaskState::Running {
            for (_, run) in rig.receive_all().await {
                rig.answer(&run, success(json!(1))).await;
                rig.check().await;
                done += 1;
            }
        }
        assert_eq!((rig.state(task).await, done), (TaskState::Complete, 5));
    }
}

#[tokio::test]
async fn three_that_fail_at_once_end_a_batch_once() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"failure_strategy": "fail_fast"}), 3).await;
    let answers = runs.values().map(|run| run.complete(permanent("bad"), "scripted", 1)).collect();
    assert_eq!(rig.complete(answers).await, [Answer::Accepted, Answer::Stale, Answer::Stale]);
    let states: Vec<StepState> = rig.steps(task).await.values().map(|step| step.state).collect();
    assert_eq!(states.iter().filter(|state| **state == StepState::Error).count(), 1);
    assert_eq!(rig.state(task).await, TaskState::Error);
    rig.check().await;
}

#[tokio::test]
async fn a_settled_failure_opens_its_batch_again() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"failure_strategy": "fail_fast", "parallelism": 1}), 3).await;
    rig.answer(&runs["work_001"], permanent("bad rows")).await;
    act(&rig, task, "work_001", OperatorAction::ResolveStep { result: raw(json!("by hand")) }).await;
    for name in ["work_002", "work_003", "join"] {
        let run = rig.receive().await;
        assert_eq!(run.step_name, name);
        rig.answer(&run, success(json!(1))).await;
        rig.check().await;
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
}

#[tokio::test]
async fn a_worker_that_waits_for_a_place_may_be_settled() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"parallelism": 1}), 3).await;
    act(&rig, task, "work_002", OperatorAction::ResolveStep { result: None }).await;
    rig.answer(&runs["work_001"], success(json!(1))).await;
    let third = rig.receive().await;
    assert_eq!(third.step_name, "work_003");
    // Settled while it has the place.
    act(&rig, task, "work_003", OperatorAction::ResolveStep { result: None }).await;
    assert_eq!(rig.receive().await.step_name, "join");
}

#[tokio::test]
async fn a_cancelled_batch_is_reopened_from_its_beginning() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"parallelism": 2}), 4).await;
    rig.answer(&runs["work_001"], success(json!(1))).await;
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    rig.check().await;
    rig.receive_all().await;
    rig.engine.operate((task, None), OperatorAction::ReopenTask, by("after all"), Precondition::default()).await.unwrap();
    rig.check().await;
    let mut ended = Vec::new();
    while rig.state(task).await == TaskState::Running {
        let runs = rig.receive_all().await;
        assert!(runs.len() <= 2);
        for (name, run) in runs {
            rig.answer(&run, success(json!(1))).await;
            rig.check().await;
            ended.push(name);
        }
    }
    assert_eq!(ended, ["work_002", "work_003", "work_004", "join"]);
    assert_eq!(rig.state(task).await, TaskState::Complete);
}

#[tokio::test]
async fn a_repeated_split_replaces_its_workers() {
    let rig = Rig::still().await;
    let (task, runs) = with_workers(&rig, json!({"parallelism": 2}), 3).await;
    rig.answer(&runs["work_001"], success(json!(1))).await;
    rig.receive_all().await;
    act(&rig, task, "split", OperatorAction::RedoStep { inputs: None }).await;
    assert_eq!(rig.steps(task).await.keys().collect::<Vec<_>>(), ["split"]);
    // Late answers of those that are deleted: one was applied, one never was.
    assert_eq!(rig.answer(&runs["work_001"], success(json!(1))).await, Answer::Duplicate);
    assert_eq!(rig.answer(&runs["work_002"], success(json!(1))).await, Answer::Refused);
    rig.answer(&rig.receive().await, split(2)).await;
    rig.check().await;
    assert_eq!(rig.answer(&runs["work_002"], success(json!(1))).await, Answer::Stale);
    for (_, run) in rig.receive_all().await {
        assert_eq!(rig.answer(&run, success(json!(1))).await, Answer::Accepted);
    }
    rig.answer(&rig.receive().await, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

/// A worker is deleted while its message waits. Returns the steps whose messages are delivered afterwards.
async fn deleted_while_its_message_waits<Q: Taken>() -> Vec<String> {
    let rig = Rig::over(Q::default()).await;
    rig.register(&batch(json!({"parallelism": 1}))).await;
    let task = rig.submit("batch", json!({})).await;
    rig.answer(&Q::runs(&rig).await[0], split(2)).await;
    let of_split = rig.step_id(task, "split").await;
    let redo = OperatorAction::RedoStep { inputs: None };
    rig.engine.operate((task, Some(of_split)), redo, by("again"), Precondition::default()).await.unwrap();
    let delivered = Q::runs(&rig).await;
    let deleted: Vec<&RunStep> = delivered.iter().filter(|run| run.step_name == "work_001").collect();
    for (outcome, answer) in [(Outcome::Started {}, Answer::Refused), (success(json!("late")), Answer::Refused)] {
        for run in &deleted {
            assert_eq!(rig.answer(run, outcome.clone()).await, answer, "{outcome:?}");
        }
    }
    rig.check().await;
    let again = delivered.iter().find(|run| run.step_name == "split").unwrap();
    rig.answer(again, split(1)).await;
    for run in &deleted {
        assert_eq!(rig.answer(run, success(json!("late"))).await, Answer::Stale);
    }
    for name in ["work_001", "join"] {
        let runs = Q::runs(&rig).await;
        assert_eq!(runs.iter().map(|run| &run.step_name).collect::<Vec<_>>(), [name]);
        assert_eq!(rig.answer(&runs[0], success(json!(name))).await, Answer::Accepted);
        rig.check().await;
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(rig.step(task, "work_001").await.result, Some(json!("work_001")));
    delivered.into_iter().map(|run| run.step_name).collect()
}

#[tokio::test]
async fn the_waiting_message_of_a_deleted_worker_does_no_harm() {
    assert_eq!(deleted_while_its_message_waits::<InProcess>().await, ["split"]);
    assert_eq!(deleted_while_its_message_waits::<RemoteQueue>().await, ["split", "work_001"]);
}

#[tokio::test]
async fn a_million_cursors_and_duplicates_are_refused_with_a_sentence() {
    let cursors = |ids: &[usize]| {
        let cursors: Vec<String> = ids.iter().map(|id| format!(r#"{{"batch_id":"{id}","start":{id},"end":{id}}}"#)).collect();
        RawValue::from_string(format!(r#"{{"cursors":[{}]}}"#, cursors.join(","))).unwrap()
    };
    let numbered = |count: usize| cursors(&(0..count).collect::<Vec<_>>());
    for (batches, sentence) in [
        // A million are more bytes than are read, however short each is.
        (numbered(1_000_000), "/batches: has 49666683 bytes; at most 6291456 are read"),
        (numbered(10_001), "/batches/cursors: has 10001 items; at most 10000 are allowed"),
        (cursors(&[7, 8, 7]), "/batches/cursors/2/batch_id: is \"7\", as is /batches/cursors/0/batch_id"),
    ] {
        let rig = Rig::still().await;
        rig.register(&batch(json!({}))).await;
        let task = rig.submit("batch", json!({})).await;
        let Outcome::Success { result, metadata, .. } = success(json!({})) else { unreachable!() };
        rig.answer(&rig.receive().await, Outcome::Success { result, metadata, decision: None, batches: Some(batches) }).await;
        let error = rig.step(task, "split").await.error.unwrap();
        assert_eq!((&error["error_type"], &error["message"]), (&json!("invalid_outcome"), &json!(sentence)));
        assert_eq!(rig.state(task).await, TaskState::Error);
        rig.check().await;
    }
}

#[tokio::test]
async fn of_ten_thousand_workers_as_many_run_as_there_are_places() {
    let rig = Rig::still().await;
    rig.register(&batch(json!({"parallelism": 10}))).await;
    let task = rig.submit("batch", json!({})).await;
    rig.answer(&rig.receive().await, split(10_000)).await;
    rig.check().await;
    let runs = rig.receive_all().await;
    assert_eq!(runs.len(), 10);
    for run in runs.values() {
        rig.answer(run, success(json!(1))).await;
    }
    assert_eq!(rig.receive_all().await.len(), 10);
    rig.engine.cancel_task(task, by("enough")).await.unwrap();
    rig.check().await;
}

#[tokio::test]
async fn the_messages_of_a_batch_that_ended_are_not_delivered() {
    let rig = Rig::still().await;
    rig.register(&batch(json!({"failure_strategy": "fail_fast"}))).await;
    rig.submit("batch", json!({})).await;
    rig.answer(&rig.receive().await, split(4)).await;
    rig.answer(&rig.receive().await, permanent("bad rows")).await;
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.check().await;
}
