//! Our answers hold every key of Tasker's reference documents, with the same type and the same dialect of time.

use serde_json::{Value, json};

use crate::rig::{Rig, failure, success, template};

fn document(name: &str) -> Value {
    let file = format!("{}/../../tests/wire/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"))).unwrap()
}

/// What a parser of Tasker's sees in a string.
fn dialect(text: &str) -> &'static str {
    let mut shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if let Some(dot) = shape.find('.').filter(|_| shape.starts_with("0000-00-00T")) {
        let digits = shape[dot + 1..].chars().take_while(|&c| c == '0').count();
        shape.replace_range(dot..=dot + digits, "");
    }
    match shape.as_str() {
        "0000-00-00T00:00:00Z" => "a time with Z",
        "0000-00-00T00:00:00+00:00" => "a time with an offset",
        "0000-00-00T00:00:00" => "a local time",
        _ if text.len() == 36 && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit()) => "a UUID",
        _ => "a text",
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a flag",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(text) => dialect(text),
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[track_caller]
fn assert_shape(place: &str, expected: &Value, given: &Value) {
    match (expected, given) {
        (Value::Object(expected), Value::Object(given)) => {
            for (key, expected) in expected {
                let place = format!("{place}/{key}");
                assert_shape(&place, expected, given.get(key).unwrap_or_else(|| panic!("{place} is missing")));
            }
        }
        (Value::Array(expected), Value::Array(given)) => {
            let Some(expected) = expected.first() else { return };
            assert!(!given.is_empty(), "{place} is empty");
            given.iter().for_each(|given| assert_shape(place, expected, given));
        }
        (Value::Null, _) => {}
        _ => assert_eq!(kind(given), kind(expected), "{place}: {given}"),
    }
}

#[tokio::test]
async fn tasks_and_steps_have_the_shape_of_taskers() {
    let rig = Rig::new().await;
    let mut request = document("REQUEST_POST_v1_tasks");
    (request["name"], request["namespace"]) = ("small".into(), "ns".into());
    let created = rig.post("/v1/tasks", &request).await;
    assert_eq!(created.status, 201, "{created:?}");
    let mut expected = document("POST_v1_tasks");
    // A context is as it was sent; only its presence is of the contract. Steps that were never tried have no time of a try.
    expected["context"] = Value::Null;
    expected["steps"][0]["last_attempted_at"] = Value::Null;
    assert_shape("POST /v1/tasks", &expected, &created.body);
    assert_eq!(created.body["context"], json!({"even_number": 6}));
    for key in ["priority", "correlation_id", "initiator", "source_system", "reason", "tags", "version"] {
        assert_eq!(created.body[key], request[key], "{key}");
    }
    let task = created.headers["location"].to_str().unwrap();
    assert_shape("GET task", &expected, &rig.get(task).await.body);

    let list = rig.get("/v1/tasks?page=1&per_page=20").await.body;
    let mut expected_list = document("GET_v1_tasks");
    expected_list["tasks"][0]["context"] = Value::Null;
    assert_shape("GET /v1/tasks", &expected_list, &list);
    assert_eq!(list["tasks"][0]["steps"], json!([]));

    rig.answer(success("1")).await;
    let steps = rig.get(&format!("{task}/workflow_steps")).await.body;
    assert_shape("GET steps", &document("GET_v1_tasks_uuid_workflow_steps"), &steps);
    let step = format!("{task}/workflow_steps/{}", steps[1]["step_uuid"].as_str().unwrap());
    assert_shape("GET step", &document("GET_v1_tasks_uuid_workflow_steps_step"), &rig.get(&step).await.body);
    let action = json!({"action_type": "resolve_manually", "reason": "not critical", "resolved_by": "cli-operator"});
    let patched = rig.patch(&step, &action).await;
    assert_shape("PATCH step", &document("PATCH_v1_tasks_uuid_workflow_steps_step"), &patched.body);

    let other = rig.submit(json!({"other": 1})).await;
    let mut expected = document("DELETE_v1_tasks_uuid");
    expected["context"] = Value::Null;
    expected["steps"][0]["last_attempted_at"] = Value::Null;
    assert_shape("DELETE task", &expected, &rig.delete(&other).await.body);
}

#[tokio::test]
async fn dead_letters_have_the_shape_of_taskers() {
    let rig = Rig::new().await;
    let mut template = template("slow", "1.0.0");
    template["lifecycle"] = json!({"max_duration_minutes": 100});
    rig.post("/v1/templates", &template).await;
    rig.post("/v1/tasks", &json!({"name": "slow", "namespace": "ns", "context": {}})).await;
    rig.receive().await;
    let task = rig.submit(json!({})).await;
    rig.answer(failure(false)).await;
    let task = task.rsplit('/').next().unwrap();
    assert_shape("GET /v1/dlq", &document("GET_v1_dlq"), &rig.get("/v1/dlq").await.body);
    let entry = rig.get(&format!("/v1/dlq/task/{task}")).await.body;
    assert_shape("GET entry", &document("GET_v1_dlq_task_uuid"), &entry);
    for name in ["stats", "investigation-queue", "staleness"] {
        let given = rig.get(&format!("/v1/dlq/{name}")).await.body;
        assert_shape(name, &document(&format!("GET_v1_dlq_{name}")), &given);
    }
    let path = format!("/v1/dlq/entry/{}", entry["dlq_entry_uuid"].as_str().unwrap());
    let patched = rig.patch(&path, &document("REQUEST_PATCH_v1_dlq_entry_uuid")).await;
    assert_shape("PATCH entry", &document("PATCH_v1_dlq_entry_uuid"), &patched.body);
    let resolved = rig.get(&path).await.body;
    assert_eq!(resolved["resolution_status"], document("REQUEST_PATCH_v1_dlq_entry_uuid")["resolution_status"]);
    assert_eq!(kind(&resolved["resolution_timestamp"]), "a local time");
}

#[tokio::test]
async fn templates_have_the_shape_of_taskers() {
    let rig = Rig::new().await;
    assert_shape("GET /v1/templates", &document("GET_v1_templates"), &rig.get("/v1/templates").await.body);
    let detail = rig.get("/v1/templates/ns/small/1.0.0").await.body;
    assert_shape("GET template", &document("GET_v1_templates_ns_name_version"), &detail);
}

#[tokio::test]
async fn health_has_the_shape_of_taskers() {
    let rig = Rig::new().await;
    let health = rig.get("/health").await.body;
    assert_shape("GET /health", &document("GET_health"), &health);
    assert_eq!(health["worker_id"], document("worker_GET_health")["worker_id"]);
    assert_shape("GET /health/live", &document("GET_health_live"), &rig.get("/health/live").await.body);
    assert_shape("GET /health/ready", &document("GET_health_ready"), &rig.get("/health/ready").await.body);
}

#[tokio::test]
async fn the_times_of_steps_inside_a_task_are_local_and_all_others_are_not() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    rig.answer(failure(true)).await;
    let shown = rig.get(&task).await.body;
    for key in ["last_failure_at", "next_retry_at", "last_attempted_at"] {
        assert_eq!(kind(&shown["steps"][0][key]), "a local time", "{key}: {}", shown["steps"][0][key]);
    }
    assert_eq!(shown["steps"][0]["backoff_request_seconds"], 91);
    let steps = rig.get(&format!("{task}/workflow_steps")).await.body;
    for key in ["created_at", "updated_at", "last_failure_at", "next_retry_at", "last_attempted_at"] {
        assert_eq!(kind(&steps[0][key]), "a time with Z", "{key}: {}", steps[0][key]);
        assert_eq!(steps[0][key].as_str().unwrap().len(), "2026-01-02T03:04:05.678901Z".len());
    }
    let cancelled = rig.delete(&task).await.body;
    assert_eq!(kind(&cancelled["completed_at"]), "a time with Z");
}
