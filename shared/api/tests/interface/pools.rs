//! Work that nobody will do is told wherever somebody may look.

use serde_json::{Value, json};

use crate::rig::Rig;

const WHY: &str = "waits for a worker of pool gamma; none is known; there are workers of default";

/// a, then b and c; a and c name a pool without a worker.
async fn rig() -> Rig {
    let rig = Rig::new().await;
    let step = |name: &str, worker: Value, after: &[&str]| json!({"name": name, "worker": worker, "dependencies": after, "handler": {"callable": name}});
    let steps = [step("a", json!("gamma"), &[]), step("b", Value::Null, &["a"]), step("c", json!("gamma"), &["a"])];
    let template = json!({"name": "lost", "namespace_name": "ns", "version": "1.0.0", "steps": steps});
    let answer = rig.post("/v1/templates", &template).await;
    let note = json!({"place": "/steps/0/worker", "message": format!("{WHY} (2 steps)")});
    assert_eq!((answer.status.as_u16(), &answer.body["notes"]), (201, &json!([note])));
    rig
}

#[tokio::test]
async fn a_task_and_its_steps_say_that_no_worker_of_their_pool_is_known() {
    let rig = rig().await;
    let created = rig.post("/v1/tasks", &json!({"name": "lost", "namespace": "ns"})).await;
    let warnings = json!([format!("step a and 1 more: each {WHY}")]);
    assert_eq!((created.status.as_u16(), &created.body["warnings"]), (201, &warnings), "{created:?}");
    let uri = created.headers["location"].to_str().unwrap();
    let task = rig.get(uri).await.body;
    assert_eq!(task["warnings"], warnings);
    let reasons: Vec<&Value> = task["steps"].as_array().unwrap().iter().map(|step| &step["waiting_reason"]).collect();
    assert_eq!(reasons, [&json!(WHY), &Value::Null, &Value::Null], "a pending step waits for its parents");
    let steps = rig.get(&format!("{uri}/workflow_steps")).await.body;
    assert_eq!((&steps[0]["waiting_reason"], &steps[1]["waiting_reason"]), (&json!(WHY), &Value::Null));

    let doctor = rig.get("/v1/doctor").await.body;
    assert_eq!(doctor["unserved_pools"], json!([{"pool": "gamma", "steps": 1, "why": WHY}]));
    assert_eq!(doctor["total"], 0, "nothing is wrong with the counters");

    rig.delete(uri).await;
    assert_eq!(rig.get(uri).await.body["warnings"], Value::Null, "a cancelled task waits for nobody");
    assert_eq!(rig.get("/v1/doctor").await.body["unserved_pools"], Value::Null);
}

#[tokio::test]
async fn nothing_is_said_of_work_that_has_workers() {
    let rig = rig().await;
    let uri = rig.submit(json!({})).await;
    let task = rig.get(&uri).await.body;
    assert_eq!((&task["warnings"], &task["steps"][0]["waiting_reason"]), (&Value::Null, &Value::Null));
    assert_eq!(rig.get("/v1/doctor").await.body["unserved_pools"], Value::Null);
}

#[tokio::test]
async fn a_near_pool_is_suggested() {
    let rig = Rig::new().await;
    let step = json!({"name": "a", "worker": "defualt", "handler": {"callable": "a"}});
    let template = json!({"name": "typo", "namespace_name": "ns", "version": "1.0.0", "steps": [step]});
    let notes = rig.post("/v1/templates", &template).await.body["notes"].clone();
    assert_eq!(notes[0]["message"], "waits for a worker of pool defualt; none is known; did you mean default?");
}
