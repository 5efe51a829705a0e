//! Bad input is refused with every fault and its place, and nothing is stored.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tasker_wire::limits;

use crate::rig::Rig;

/// The row counts that a rejected request must not change.
async fn stored(rig: &Rig) -> [i64; 4] {
    [rig.count("tasks").await, rig.count("steps").await, rig.count("templates").await, rig.count("audit_log").await]
}

#[tokio::test]
async fn malformed_requests_for_tasks_are_refused() {
    let rig = Rig::new().await;
    let before = stored(&rig).await;
    let deep = format!("{{\"name\": \"small\", \"context\": {}1{}}}", "{\"a\":".repeat(200), "}".repeat(200));
    for (body, code, places) in [
        ("", "JSON_ERROR", vec!["1:0"]),
        ("{", "JSON_ERROR", vec!["1:1"]),
        ("{\"name\": }", "JSON_ERROR", vec!["1:10"]),
        ("[1]", "BAD_REQUEST", vec![""]),
        ("\"x\"", "BAD_REQUEST", vec![""]),
        ("{}", "BAD_REQUEST", vec!["/name"]),
        (
            r#"{"name": 1, "namespace": [], "context": "x", "tags": "a", "priority": "high"}"#,
            "BAD_REQUEST",
            vec!["/context", "/name", "/namespace", "/priority", "/tags"],
        ),
        (r#"{"name": "small", "nmae": 1, "contxt": {}}"#, "BAD_REQUEST", vec!["/contxt", "/nmae"]),
        (r#"{"name": "small", "namespace": "ns", "context": {"a": "\u0000"}}"#, "BAD_REQUEST", vec!["/context/a"]),
        (r#"{"name": "small", "namespace": "ns", "context": {"a": 1, "a": 2}}"#, "BAD_REQUEST", vec!["/context/a"]),
        (r#"{"name": "small", "version": "latest", "correlation_id": "x"}"#, "BAD_REQUEST", vec!["/correlation_id", "/version"]),
        (r#"{"name": "\u001b[31m", "reason": "a\u0007b"}"#, "BAD_REQUEST", vec!["/name", "/reason"]),
    ] {
        let answer = rig.with_body("POST", "/v1/tasks", body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{body}: {answer:?}");
        let mut found = answer.places();
        found.sort_unstable();
        assert_eq!(found, places, "{body}: {answer:?}");
    }
    assert_eq!(rig.with_body("POST", "/v1/tasks", deep).await.status, 400);
    assert_eq!(rig.with_body("POST", "/v1/tasks", b"{\"name\": \"\xff\"}".to_vec()).await.status, 400);
    assert_eq!(stored(&rig).await, before);
}

#[tokio::test]
async fn input_above_a_limit_is_rejected_and_nothing_is_stored() {
    let rig = Rig::new().await;
    let before = stored(&rig).await;
    let context = json!({"name": "small", "namespace": "ns", "context": {"a": "x".repeat(limits::CONTEXT_BYTES)}});
    let answer = rig.post("/v1/tasks", &context).await;
    assert_eq!((answer.status.as_u16(), answer.code(), answer.places()), (413, "PAYLOAD_TOO_LARGE", vec!["/context"]));
    for (uri, bytes) in [("/v1/tasks", limits::BODY_BYTES), ("/v1/templates", limits::TEMPLATE_BYTES)] {
        let answer = rig.with_body("POST", uri, " ".repeat(bytes + 1)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (413, "PAYLOAD_TOO_LARGE"), "{uri}");
    }
    let tags: Value = (0..=limits::TAGS).map(|i| i.to_string()).collect();
    let answer = rig.post("/v1/tasks", &json!({"name": "x".repeat(200), "tags": tags, "reason": "x".repeat(501)})).await;
    assert_eq!((answer.status.as_u16(), answer.places()), (400, vec!["/name", "/reason", "/tags"]));
    assert_eq!(stored(&rig).await, before);
}

#[tokio::test]
async fn an_unknown_template_version_is_rejected_with_the_registered_versions() {
    let rig = Rig::new().await;
    for (body, known) in [
        (json!({"name": "nobody", "namespace": "ns"}), json!([])),
        (json!({"name": "small", "namespace": "ns", "version": "9.0.0"}), json!(["1.0.0"])),
        (json!({"name": "Robert'); drop table \"tasks\"; --", "namespace": "ns"}), json!([])),
        (json!({"name": "%s ${x} {{y}} \u{202e}", "namespace": "../../etc"}), json!([])),
    ] {
        let answer = rig.post("/v1/tasks", &body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "NOT_FOUND"), "{body}");
        assert!(answer.body["error"]["message"].as_str().unwrap().starts_with("Task template not found"));
        assert_eq!(answer.body["error"]["details"]["registered_versions"], known);
    }
    assert_eq!(rig.count("tasks").await, 0);
}

#[tokio::test]
async fn a_context_against_the_templates_schema_is_refused_with_its_places() {
    let rig = Rig::new().await;
    let schema = json!({"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}, "who": {"type": "string"}}});
    let strict = json!({"name": "strict", "namespace_name": "ns", "version": "1.0.0", "input_schema": schema, "steps": []});
    assert_eq!(rig.post("/v1/templates", &strict).await.status, 201);
    let answer =
        rig.post("/v1/tasks", &json!({"name": "strict", "namespace": "ns", "context": {"amount": "much", "who": 1}})).await;
    assert_eq!((answer.status.as_u16(), answer.places()), (400, vec!["/context/amount", "/context/who"]));
    assert_eq!(rig.count("tasks").await, 0);
}

#[tokio::test]
async fn malformed_actions_are_refused() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    let steps = rig.get(&format!("{task}/workflow_steps")).await.body;
    let step = format!("{task}/workflow_steps/{}", steps[0]["step_uuid"].as_str().unwrap());
    let before = stored(&rig).await;
    for (body, places) in [
        ("{}", vec!["/action_type", "/reason"]),
        (r#"{"action_type": "explode", "reason": "x"}"#, vec!["/action_type"]),
        (
            r#"{"action_type": "reset_for_retry", "reason": "", "reset_by": "a\nb", "force": true}"#,
            vec!["/force", "/reason", "/reset_by"],
        ),
        (
            r#"{"action_type": "complete_manually", "reason": "x", "completed_by": "y", "completion_data": {"result": {"a": "\u0000"}}}"#,
            vec!["/completion_data/result/a"],
        ),
    ] {
        let answer = rig.with_body("PATCH", &step, body).await;
        let mut found = answer.places();
        found.sort_unstable();
        assert_eq!((answer.status.as_u16(), found), (400, places), "{body}");
    }
    let answer = rig.with_body("DELETE", &task, r#"{"actor": 1, "because": "x"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.places()), (400, vec!["/actor", "/because"]));
    assert_eq!(stored(&rig).await, before);
}

#[tokio::test]
async fn malformed_queries_and_ids_are_refused() {
    let rig = Rig::new().await;
    let task = rig.submit(json!({})).await;
    for (uri, places) in [
        ("/v1/tasks?page=0&per_page=101".to_owned(), vec!["?per_page", "?page"]),
        ("/v1/tasks?page=-1&per_page=x&status=paused".to_owned(), vec!["?per_page", "?page", "?status"]),
        ("/v1/tasks?page=99999999".to_owned(), vec!["?page"]),
        ("/v1/tasks?namepsace=x&name=a&name=b".to_owned(), vec!["?name", "?namepsace"]),
        ("/v1/tasks?namespace=%00".to_owned(), vec!["?namespace"]),
        (format!("{task}?wait=soon"), vec!["?wait"]),
        (format!("{task}/workflow_steps?page=1"), vec!["?page"]),
        ("/v1/doctor?fix=1".to_owned(), vec!["?fix"]),
    ] {
        let answer = rig.get(&uri).await;
        assert_eq!((answer.status.as_u16(), answer.places()), (400, places), "{uri}");
    }
    for uri in ["/v1/tasks/x", "/v1/tasks/%27%20or%201=1", "/v1/tasks/x/workflow_steps", "/v1/tasks/%00"] {
        let answer = rig.get(uri).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "INVALID_UUID"), "{uri}");
    }
    assert_eq!(rig.get("/v1/tasks/%ff").await.status, 400);
    let unknown = "/v1/tasks/01990000-0000-7000-8000-000000000000";
    for uri in [unknown.to_owned(), format!("{unknown}/workflow_steps"), "/v1/tasks/01990000-0000-7000-8000-000000000001".into()]
    {
        assert_eq!(rig.get(&uri).await.code(), "NOT_FOUND", "{uri}");
        assert_eq!(rig.get(&uri).await.status, 404, "{uri}");
    }
    assert_eq!(rig.delete(unknown).await.status, 404);
}

#[tokio::test]
async fn another_content_type_is_refused() {
    let rig = Rig::new().await;
    for (uri, content_type) in
        [("/v1/tasks", "application/x-www-form-urlencoded"), ("/v1/tasks", "text/plain"), ("/v1/templates", "image/png")]
    {
        let request = Request::post(uri).header("content-type", content_type).body(Body::from("{}")).unwrap();
        let answer = rig.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (415, "UNSUPPORTED_MEDIA_TYPE"), "{uri} {content_type}");
    }
    let silent = rig.send(Request::post("/v1/tasks").body(Body::from(r#"{"name": "small", "namespace": "ns"}"#)).unwrap()).await;
    assert_eq!(silent.status, 415);
    assert_eq!(rig.count("tasks").await, 0);
}
