//! Tasker's reference documents are read by a client of ours, and nothing of them is lost.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tasker_wire::{
    StepState,
    rest::{
        ErrorBody, ErrorDetails, Health, Readiness, StepResponse, SubmitTask, TaskListResponse, TaskResponse, TemplateDetail,
        TemplateListResponse, Word,
    },
};

#[track_caller]
fn is_read_in_full<T: Serialize + DeserializeOwned>(name: &str) {
    let file = format!("{}/../../tests/wire/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let document: T = serde_json::from_str(&text).unwrap();
    assert_holds(name, &serde_json::to_value(document).unwrap(), &serde_json::from_str(&text).unwrap());
}

#[track_caller]
fn assert_holds(place: &str, ours: &Value, given: &Value) {
    match (ours, given) {
        (Value::Object(ours), Value::Object(given)) => {
            for (key, given) in given.iter().filter(|(_, value)| !value.is_null()) {
                let place = format!("{place}/{key}");
                // Accepted from Tasker's clients, and without effect.
                if !place.ends_with("/requested_at") {
                    assert_holds(&place, ours.get(key).unwrap_or_else(|| panic!("{place} is lost")), given);
                }
            }
        }
        (Value::Array(ours), Value::Array(given)) => {
            assert_eq!(ours.len(), given.len(), "{place}");
            ours.iter().zip(given).for_each(|(ours, given)| assert_holds(place, ours, given));
        }
        _ => assert_eq!(ours, given, "{place}"),
    }
}

#[test]
fn taskers_documents_are_read_in_full() {
    is_read_in_full::<TaskResponse>("POST_v1_tasks");
    is_read_in_full::<TaskResponse>("GET_v1_tasks_uuid");
    is_read_in_full::<TaskResponse>("DELETE_v1_tasks_uuid");
    is_read_in_full::<TaskListResponse>("GET_v1_tasks");
    is_read_in_full::<Vec<StepResponse>>("GET_v1_tasks_uuid_workflow_steps");
    is_read_in_full::<StepResponse>("GET_v1_tasks_uuid_workflow_steps_step");
    is_read_in_full::<StepResponse>("PATCH_v1_tasks_uuid_workflow_steps_step");
    is_read_in_full::<TemplateListResponse>("GET_v1_templates");
    is_read_in_full::<TemplateDetail>("GET_v1_templates_ns_name_version");
    is_read_in_full::<Health>("GET_health");
    is_read_in_full::<Health>("GET_health_live");
    is_read_in_full::<Health>("worker_GET_health");
    is_read_in_full::<Readiness>("GET_health_ready");
    is_read_in_full::<SubmitTask>("REQUEST_POST_v1_tasks");
}

#[test]
fn an_older_and_a_newer_server_can_be_read() {
    let older: StepResponse = serde_json::from_str(r#"{"name": "a", "current_state": "complete"}"#).unwrap();
    assert_eq!((older.current_state, older.attempts), (Word::Known(StepState::Complete), 0));
    let newer: StepResponse = serde_json::from_str(r#"{"current_state": "dreaming", "dreams": [1]}"#).unwrap();
    assert_eq!((newer.current_state.known(), newer.current_state.to_string().as_str()), (None, "dreaming"));
    let error: ErrorBody = serde_json::from_str(r#"{"error": {"message": "no", "details": {"moon": "full"}}}"#).unwrap();
    assert!(matches!(error.error.details, Some(ErrorDetails::Other(_))));
}

#[test]
fn numbers_of_contexts_and_results_keep_their_digits() {
    let text = r#"{"context":{"n":123456789012345678901234567890,"m":1.50}}"#;
    let task: TaskResponse = serde_json::from_str(text).unwrap();
    assert!(serde_json::to_string(&task).unwrap().contains(&text[1..text.len() - 1]));
}

#[test]
fn the_details_of_an_error_are_told_apart_and_written_as_they_came() {
    for details in [
        r#"{"faults":[{"place":"/name","message":"is missing"}]}"#,
        r#"{"registered_versions":[]}"#,
        r#"{"diff":["- /a: 1"],"version":"1.0.0"}"#,
        r#"{"status":"complete","task_uuid":"01990000-0000-7000-8000-000000000001"}"#,
        r#"{"status":"cancelled","step_uuid":null}"#,
    ] {
        let text = format!(r#"{{"error":{{"code":"X","details":{details},"message":"m"}}}}"#);
        let error: ErrorBody = serde_json::from_str(&text).unwrap();
        assert!(!matches!(error.error.details, Some(ErrorDetails::Other(_))), "{details}");
        assert_eq!(serde_json::to_string(&error).unwrap(), text);
    }
}
