//! Operator actions over HTTP, and what they would do.

use serde_json::{Value, json};

use crate::rig::{Rig, failure, success};

/// A task whose first step failed for good, and the URI of that step.
async fn failed(rig: &Rig) -> (String, String) {
    let task = rig.submit(json!({})).await;
    rig.answer(failure(false)).await;
    let steps = rig.get(&format!("{task}/workflow_steps")).await.body;
    let step = format!("{task}/workflow_steps/{}", steps[0]["step_uuid"].as_str().unwrap());
    (task, step)
}

/// `[name, from, to]` of the steps that an action changes.
fn effects(body: &Value) -> Vec<Value> {
    let steps = body["steps"].as_array().unwrap_or_else(|| panic!("no effects: {body}"));
    steps.iter().map(|step| json!([step["name"], step["from_state"], step["to_state"]])).collect()
}

#[tokio::test]
async fn a_dry_run_says_what_the_action_then_does() {
    let rig = Rig::new().await;
    let (task, step) = failed(&rig).await;
    let retry = |more: Value| {
        let mut body = json!({"action": "retry", "actor": "me", "reason": "the bank is back"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let actions = format!("{step}/actions");
    let dry = rig.post(&actions, &retry(json!({"dry_run": true, "inputs": {"limit": 5}}))).await;
    assert_eq!((dry.status.as_u16(), &dry.body["applied"], &dry.body["action"]), (200, &json!(false), &json!("retry_step")));
    assert_eq!(effects(&dry.body), [json!(["a", "error", "enqueued"])]);
    assert_eq!((&rig.get(&task).await.body["status"], rig.count("audit_log").await), (&json!("error"), 1));
    let done = rig.post(&actions, &retry(json!({"seen": dry.body["seen"], "inputs": {"limit": 5}}))).await;
    assert_eq!((done.status.as_u16(), &done.body["applied"], effects(&done.body)), (200, &json!(true), effects(&dry.body)));
    let run = rig.receive().await;
    assert_eq!(run.step_inputs.as_ref().unwrap().get(), r#"{"limit":5}"#);
    rig.complete(&run, success("1")).await;
    rig.answer(success("2")).await;
    assert_eq!(rig.get(&task).await.body["status"], "complete");
}

#[tokio::test]
async fn an_action_is_rejected_with_its_new_effect_once_what_was_seen_has_changed() {
    let rig = Rig::new().await;
    let (_, step) = failed(&rig).await;
    let actions = format!("{step}/actions");
    let redo = json!({"action": "redo", "actor": "me", "reason": "again", "dry_run": true});
    let seen = rig.post(&actions, &redo).await.body["seen"].clone();
    rig.post(&actions, &json!({"action": "retry", "actor": "other", "reason": "first"})).await;
    rig.answer(failure(false)).await;
    let late = rig.post(&actions, &json!({"action": "redo", "actor": "me", "reason": "again", "seen": seen})).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "CHANGED"));
    assert_eq!(effects(&late.body["error"]["details"]["effects"]), [json!(["a", "error", "enqueued"])]);
    let retries = "audit_log where action = 'redo_step'";
    assert_eq!(rig.count(retries).await, 0);
}

#[tokio::test]
async fn a_task_is_paused_resumed_reopened_resolved_and_noted() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let act = async |action: &str| {
        let answer = rig.post(&format!("{task}/actions"), &json!({"action": action, "actor": "me", "reason": "because"})).await;
        assert_eq!(answer.status, 200, "{action}: {answer:?}");
        effects(&answer.body)
    };
    let run = rig.receive().await;
    assert_eq!(act("pause").await, Vec::<Value>::new());
    rig.complete(&run, success("1")).await;
    assert_eq!(act("resume").await, [json!(["b", "pending", "enqueued"])]);
    assert_eq!(act("cancel").await, [json!(["b", "enqueued", "cancelled"])]);
    assert_eq!(act("reopen").await, [json!(["b", "cancelled", "enqueued"])]);
    rig.answer(failure(false)).await;
    assert_eq!(act("note").await, Vec::<Value>::new());
    assert_eq!(act("resolve").await, Vec::<Value>::new());
    assert_eq!(rig.get(&task).await.body["status"], "resolved_manually");
    let refused = rig.post(&format!("{task}/actions"), &json!({"action": "pause", "actor": "me", "reason": "late"})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "CONFLICT"));
}

#[tokio::test]
async fn every_fault_of_an_action_is_returned_with_its_place() {
    let rig = Rig::new().await;
    let (task, step) = failed(&rig).await;
    let post = async |uri: &str, body: Value| {
        let answer = rig.post(&format!("{uri}/actions"), &body).await;
        assert_eq!(answer.status, 400, "{body}");
        answer.places().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(post(&step, json!({})).await, ["/action", "/actor", "/reason"]);
    assert_eq!(post(&step, json!({"action": "retri", "actor": "me", "reason": "x", "more": 1})).await, ["/action", "/more"]);
    let result = json!({"action": "retry", "actor": "me", "reason": "x", "result": 1});
    assert_eq!(post(&step, result).await, ["/result"]);
    let inputs = |action, inputs: Value| json!({"action": action, "actor": "me", "reason": "x", "inputs": inputs});
    assert_eq!(post(&step, inputs("resolve", json!({}))).await, ["/inputs"]);
    assert_eq!(post(&step, inputs("retry", json!([1]))).await, ["/inputs"]);
    assert_eq!(post(&task, inputs("cancel", json!({}))).await, ["/inputs"]);
    let unknown = task.replace(&task[task.len() - 12..], "0000f0000000");
    let answer = rig.post(&format!("{unknown}/actions"), &json!({"action": "cancel", "actor": "me", "reason": "x"})).await;
    assert_eq!(answer.status, 404);
}
