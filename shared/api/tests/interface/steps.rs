//! Steps over HTTP, and what operators do to them.

use jiff::civil::DateTime;
use serde_json::{Value, json, value::RawValue};
use tasker_wire::Outcome;
use uuid::Uuid;

use crate::rig::{Rig, failure, success};

/// The URIs of the steps a and b.
async fn steps_of(rig: &Rig, task: &str) -> [String; 2] {
    let steps = rig.get(&format!("{task}/workflow_steps")).await.body;
    [0, 1].map(|i| format!("{task}/workflow_steps/{}", steps[i]["step_uuid"].as_str().unwrap()))
}

#[tokio::test]
async fn results_have_the_shape_of_taskers_execution_result() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let [a, b] = steps_of(&rig, &task).await;
    assert_eq!(rig.get(&a).await.body["results"], Value::Null);
    rig.answer(failure(true)).await;
    let failed = rig.get(&a).await.body;
    let results = &failed["results"];
    assert_eq!((&results["success"], &results["status"], &results["result"]), (&json!(false), &json!("failed"), &Value::Null));
    let error = json!({
        "message": "it broke", "error_type": "upstream", "backtrace": null, "retryable": true, "status_code": 503, "context": {"tried": 1},
    });
    assert_eq!(results["error"], error);
    assert_eq!((&failed["current_state"], &failed["retry_eligible"]), (&json!("waiting_for_retry"), &json!(true)));
    rig.database.advance_clock(std::time::Duration::from_secs(100)).await;
    rig.engine.sweep().await.unwrap();
    rig.answer(success(r#"{"n": 1}"#)).await;
    let done = rig.get(&a).await.body;
    let results = &done["results"];
    assert_eq!(
        (&results["success"], &results["status"], &results["result"]),
        (&json!(true), &json!("completed"), &json!({"n": 1}))
    );
    assert_eq!((&results["error"], &results["step_uuid"]), (&Value::Null, &done["step_uuid"]));
    let metadata = &results["metadata"];
    assert_eq!(
        (&metadata["execution_time_ms"], &metadata["worker_id"], &metadata["custom"]),
        (&json!(12), &json!("worker-7"), &json!({}))
    );
    assert_eq!(
        (&done["attempts"], &done["current_state"], &done["retry_eligible"]),
        (&json!(2), &json!("complete"), &json!(false))
    );
    assert!(done["completed_at"].is_string() && done["last_failure_at"].is_string());
    let waiting = rig.get(&b).await.body;
    assert_eq!(
        (&waiting["total_parents"], &waiting["completed_parents"], &waiting["dependencies_satisfied"]),
        (&json!(1), &json!(1), &json!(true))
    );
}

#[tokio::test]
async fn a_worker_that_waits_for_a_place_says_so_and_a_tolerated_failure_that_it_counts_as_done() {
    let rig = Rig::new().await;
    let config = json!({"worker_template": "work", "parallelism": 1, "failure_strategy": "continue_on_failure"});
    let template = json!({"name": "batch", "namespace_name": "ns", "version": "1.0.0", "steps": [
        {"name": "split", "type": "batchable", "handler": {"callable": "split"}, "batch_config": config},
        {"name": "work", "type": "batch_worker", "dependencies": ["split"], "handler": {"callable": "work"}},
    ]});
    assert_eq!(rig.post("/v1/templates", &template).await.status, 201);
    let task = rig.post("/v1/tasks", &json!({"name": "batch", "namespace": "ns", "context": {}})).await;
    let task = task.headers["location"].to_str().unwrap().to_owned();
    let batches = json!({"cursors": [{"batch_id": "1", "start": 0, "end": 1}, {"batch_id": "2", "start": 1, "end": 2}]});
    let batches = Some(RawValue::from_string(batches.to_string()).unwrap());
    let result = RawValue::from_string("1".into()).unwrap();
    rig.answer(Outcome::Success { result, metadata: None, decision: None, batches }).await;
    let of = |steps: &Value, name: &str| {
        let step = steps.as_array().unwrap().iter().find(|step| step["name"] == name).unwrap().clone();
        let known = ["completed_parents", "dependencies_satisfied", "ready_for_execution", "waiting_reason", "tolerated"];
        json!(known.map(|key| step[key].clone()))
    };
    let place = json!([1, true, false, "waits for a place in its batch", null]);
    assert_eq!(of(&rig.get(&task).await.body["steps"], "work_2"), place);
    let steps = format!("{task}/workflow_steps");
    assert_eq!(of(&rig.get(&steps).await.body, "work_2"), place);

    rig.answer(failure(false)).await;
    rig.answer(success("1")).await;
    let listed = rig.get(&steps).await.body;
    assert_eq!(of(&listed, "work_1"), json!([1, true, false, null, true]));
    assert_eq!(of(&listed, "work_2"), json!([1, true, false, null, null]));
    // The task is complete: what was tolerated is redone, and not retried.
    let failed = listed.as_array().unwrap().iter().find(|step| step["name"] == "work_1").unwrap();
    let actions = format!("{steps}/{}/actions", failed["step_uuid"].as_str().unwrap());
    for (action, status) in [("retry", 409), ("redo", 200)] {
        let answer = rig.post(&actions, &json!({"action": action, "actor": "sam", "reason": "again"})).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_failed_step_is_retried_settled_and_completed_by_hand() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let [a, b] = steps_of(&rig, &task).await;
    rig.answer(failure(false)).await;
    let retried = rig.patch(&a, &json!({"action_type": "reset_for_retry", "reason": "db is back", "reset_by": "anna"})).await;
    assert_eq!(
        (retried.status.as_u16(), &retried.body["current_state"], &retried.body["attempts"]),
        (200, &json!("enqueued"), &json!(1))
    );
    assert_eq!(rig.get(&task).await.body["status"], "running");
    let under_way = rig.receive().await;
    let complete = json!({
        "action_type": "complete_manually", "reason": "checked", "completed_by": "anna",
        "completion_data": {"result": {"ok": true}, "metadata": {"k": 1}},
    });
    let completed = rig.patch(&a, &complete).await;
    assert_eq!((completed.status.as_u16(), &completed.body["current_state"]), (200, &json!("resolved_manually")));
    let results = &completed.body["results"];
    assert_eq!((&results["success"], &results["result"]), (&json!(true), &json!({"ok": true})));
    let custom = json!({"k": 1, "manually_completed": true, "completed_by": "anna", "completion_reason": "checked"});
    assert_eq!(results["metadata"]["custom"], custom);
    // What was under way for a is stale; b has its result.
    assert_eq!(rig.complete(&under_way, success("9")).await, tasker_wire::Answer::Stale);
    let run = rig.receive().await;
    assert_eq!((run.step_name.as_str(), run.dependency_results["a"].get()), ("b", r#"{"ok":true}"#));
    let resolved =
        rig.patch(&b, &json!({"action_type": "resolve_manually", "reason": "not critical", "resolved_by": "anna"})).await;
    assert_eq!(resolved.body["results"]["metadata"]["custom"]["manually_resolved"], true);
    assert_eq!(rig.get(&task).await.body["status"], "complete");
    let list = rig.get(&format!("{task}/workflow_steps")).await.body;
    assert_eq!(list[0]["results"], *results);
}

#[tokio::test]
async fn what_a_steps_state_does_not_allow_is_a_conflict_that_names_it() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let [a, _] = steps_of(&rig, &task).await;
    let retry = json!({"action_type": "reset_for_retry", "reason": "x", "reset_by": "anna"});
    let conflict = rig.patch(&a, &retry).await;
    assert_eq!((conflict.status.as_u16(), conflict.code()), (409, "CONFLICT"));
    assert_eq!(conflict.body["error"]["details"], json!({"step_uuid": a.rsplit('/').next(), "status": "enqueued"}));
    rig.delete(&task).await;
    let conflict = rig.patch(&a, &retry).await;
    assert_eq!(conflict.body["error"]["details"], json!({"step_uuid": null, "status": "cancelled"}));
}

#[tokio::test]
async fn a_step_of_another_task_is_not_found() {
    let rig = Rig::new().await;
    let (one, other) = (rig.submit(json!({"n": 1})).await, rig.submit(json!({"n": 2})).await);
    let [step, _] = steps_of(&rig, &one).await;
    let step = step.rsplit('/').next().unwrap();
    let retry = json!({"action_type": "reset_for_retry", "reason": "x", "reset_by": "anna"});
    for uri in [
        format!("{other}/workflow_steps/{step}"),
        format!("{one}/workflow_steps/{}", one.rsplit('/').next().unwrap().replace("0000000", "0ffffff")),
    ] {
        assert_eq!(rig.get(&uri).await.status, 404, "{uri}");
        assert_eq!(rig.patch(&uri, &retry).await.status, 404, "{uri}");
    }
}

/// A document with its ids and times numbered in their order, so that equal ones stay equal.
fn numbered(document: &Value, seen: &mut Vec<String>) -> Value {
    match document {
        Value::String(text) if Uuid::try_parse(text).is_ok() || text.trim_end_matches('Z').parse::<DateTime>().is_ok() => {
            let place = seen.iter().position(|s| s == text).unwrap_or_else(|| {
                seen.push(text.clone());
                seen.len() - 1
            });
            json!(format!("#{place}"))
        }
        Value::Array(list) => list.iter().map(|v| numbered(v, seen)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), numbered(v, seen))).collect(),
        other => other.clone(),
    }
}

/// The steps of tasks with successes after a failure, a checkpoint, a release and a loss, with late outcomes, and with steps that an
/// operator resolved or cancelled. Where an outcome is recorded must not be visible: the documents are compared with stored ones,
/// which this test writes anew if `TASKER_WRITE_DOCUMENTS` is set.
#[tokio::test]
async fn where_outcomes_are_recorded_is_not_visible() {
    use tasker_wire::Answer::{Accepted, Duplicate, Stale};
    let rig = Rig::new().await;
    let with_metadata = || match success(r#"{"n": 1}"#) {
        Outcome::Success { result, .. } => {
            Outcome::success(result, Some(RawValue::from_string(r#"{"rows": 7}"#.into()).unwrap()))
        }
        other => other,
    };
    let checkpoint =
        || Outcome::Checkpoint { cursor: RawValue::from_string("3".into()).unwrap(), items_processed: 3, accumulated: None };
    let pass = async || {
        rig.database.advance_clock(std::time::Duration::from_secs(3_600)).await;
        rig.engine.sweep().await.unwrap();
    };
    let mut tasks = Vec::new();

    tasks.push(rig.submit(json!({"n": 1})).await);
    let failed = rig.answer(failure(true)).await;
    pass().await;
    let run = rig.answer(with_metadata()).await;
    assert_eq!(rig.complete(&run, with_metadata()).await, Duplicate);
    assert_eq!(rig.complete(&failed, success("9")).await, Stale);
    rig.answer(checkpoint()).await;
    rig.answer(success("2")).await;

    tasks.push(rig.submit(json!({"n": 2})).await);
    rig.answer(failure(false)).await;
    let [a, _] = steps_of(&rig, &tasks[1]).await;
    rig.patch(&a, &json!({"action_type": "reset_for_retry", "reason": "again", "reset_by": "anna"})).await;
    let run = rig.receive().await;
    rig.patch(&a, &json!({"action_type": "resolve_manually", "reason": "enough", "resolved_by": "anna"})).await;
    assert_eq!(rig.complete(&run, success("9")).await, Stale);
    rig.answer(failure(true)).await;

    tasks.push(rig.submit(json!({"n": 3})).await);
    rig.answer(Outcome::Released {}).await;
    rig.answer(success("1")).await;
    let run = rig.receive().await;
    rig.delete(&tasks[2]).await;
    assert_eq!(rig.complete(&run, success("9")).await, Stale);

    tasks.push(rig.submit(json!({"n": 4})).await);
    let lost = rig.answer(Outcome::Started {}).await;
    pass().await;
    let mut runs = [rig.receive().await, rig.receive().await];
    runs.sort_by_key(|run| run.task_id != lost.task_id);
    assert_eq!(rig.complete(&lost, success("9")).await, Stale);
    assert_eq!(rig.complete(&runs[0], with_metadata()).await, Accepted);

    let (mut seen, mut documents) = (Vec::new(), Vec::new());
    for task in &tasks {
        for uri in [task.clone(), format!("{task}/workflow_steps")] {
            documents.push(numbered(&rig.get(&uri).await.body, &mut seen));
        }
        for uri in steps_of(&rig, task).await {
            documents.push(numbered(&rig.get(&uri).await.body, &mut seen));
        }
    }
    let text = serde_json::to_string_pretty(&documents).unwrap() + "\n";
    if std::env::var_os("TASKER_WRITE_DOCUMENTS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interface/outcomes.json"), &text).unwrap();
    }
    assert_eq!(text, include_str!("outcomes.json"));
}
