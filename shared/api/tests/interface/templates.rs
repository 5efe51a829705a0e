//! Templates over HTTP.

use axum::{body::Body, http::Request};
use serde_json::json;

use crate::rig::{Rig, template};

#[tokio::test]
async fn a_template_is_registered_once_and_refused_with_other_content() {
    let rig = Rig::new().await;
    let again = rig.post("/v1/templates", &template("small", "1.0.0")).await;
    let expected = json!({"namespace": "ns", "name": "small", "version": "1.0.0", "revision": 1, "created": false, "notes": []});
    assert_eq!((again.status.as_u16(), again.body), (200, expected));
    let mut other = template("small", "1.0.0");
    other["steps"][1]["timeout_seconds"] = 7.into();
    let refused = rig.post("/v1/templates", &other).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "CONFLICT"));
    let diff = &refused.body["error"]["details"]["diff"];
    assert_eq!(*diff, json!(["- /steps/1/timeout_seconds: 30", "+ /steps/1/timeout_seconds: 7"]));
    assert_eq!(rig.count("templates").await, 1);
}

#[tokio::test]
async fn a_yaml_template_is_registered_and_its_notes_are_returned() {
    let rig = Rig::new().await;
    let yaml =
        "name: y\nnamespace_name: ns\nversion: 1.0.0\nsteps:\n- {name: a, handler: {callable: x}, retry: {max_attempts: 0}}\n";
    let request = Request::post("/v1/templates").header("content-type", "application/yaml");
    let answer = rig.send(request.body(Body::from(yaml)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body["created"].as_bool()), (201, Some(true)));
    assert!(answer.body["notes"][0]["place"].as_str().unwrap().contains("max_attempts"), "{}", answer.body);
}

#[tokio::test]
async fn templates_are_listed_and_shown_with_their_configuration() {
    let rig = Rig::new().await;
    rig.post("/v1/templates", &template("small", "2.0.0")).await;
    let list = rig.get("/v1/templates").await.body;
    let summary =
        |version| json!({"name": "small", "namespace": "ns", "version": version, "description": "Two steps.", "step_count": 2});
    assert_eq!(list["templates"], json!([summary("1.0.0"), summary("2.0.0")]));
    assert_eq!(list["namespaces"], json!([{"name": "ns", "description": null, "template_count": 2}]));
    let other = rig.get("/v1/templates?namespace=other").await.body;
    assert_eq!((&other["templates"], &other["total_count"]), (&json!([]), &json!(2)));
    let detail = rig.get("/v1/templates/ns/small/2.0.0").await.body;
    assert_eq!(detail["configuration"]["steps"][1]["dependencies"], json!(["a"]));
    let a =
        json!({"name": "a", "description": null, "default_retryable": true, "default_max_attempts": 2, "result_schema": null});
    assert_eq!(detail["steps"][0], a);
    for unknown in ["ns/small/3.0.0", "ns/other/1.0.0", "ns/%00/1.0.0", "ns/small/%1b%5b31m"] {
        assert_eq!(rig.get(&format!("/v1/templates/{unknown}")).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn every_fault_of_a_template_is_returned_with_its_place_and_nothing_is_stored() {
    let rig = Rig::new().await;
    let mut bad = template("bad\u{1b}", "one");
    bad["steps"][1]["dependencies"] = json!(["nobody", "b"]);
    bad["steps"][0]["handlerr"] = 1.into();
    let answer = rig.post("/v1/templates", &bad).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "BAD_REQUEST"));
    let places = answer.places();
    for place in ["/name", "/version", "/steps/1/dependencies/0", "/steps/1/dependencies/1"] {
        assert!(places.contains(&place), "{place} in {places:?}");
    }
    let broken = rig.with_body("POST", "/v1/templates", "name: [\n").await;
    assert_eq!(broken.status, 400);
    let no_pattern = json!({
        "name": "d", "namespace_name": "ns", "version": "1.0.0",
        "steps": [{"name": "a", "handler": {"callable": "a"}},
                  {"name": "d", "type": "batchable", "dependencies": ["a"], "handler": {"callable": "d"}}],
    });
    assert_eq!(rig.post("/v1/templates", &no_pattern).await.places(), ["/steps/1/type"]);
    assert_eq!(rig.count("templates").await, 1);
}
