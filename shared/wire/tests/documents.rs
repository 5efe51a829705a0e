//! Our client types read Tasker's reference documents without losing a key.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tasker_wire::{
    StepState,
    rest::{
        ActionBody, ActionResponse, CompletionData, DlqEntry, DlqInvestigated, DlqInvestigationQueueEntry, DlqStats, ErrorBody,
        ErrorDetails, ExplainResponse, Health, Readiness, StalenessMonitoring, StepEffect, StepManualAction, StepResponse,
        SubmitTask, TaskListResponse, TaskResponse, TemplateDetail, TemplateListResponse, Word,
    },
};

fn reference(name: &str) -> String {
    let file = format!("{}/../../tests/wire/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[track_caller]
fn is_read_in_full<T: Serialize + DeserializeOwned>(name: &str) {
    let text = reference(name);
    let document: T = serde_json::from_str(&text).unwrap();
    assert_holds(name, &serde_json::to_value(document).unwrap(), &serde_json::from_str(&text).unwrap());
}

#[track_caller]
fn assert_holds(place: &str, ours: &Value, given: &Value) {
    match (ours, given) {
        (Value::Object(ours), Value::Object(given)) => {
            for (key, given) in given.iter().filter(|(_, value)| !value.is_null()) {
                let place = format!("{place}/{key}");
                assert_holds(&place, ours.get(key).unwrap_or_else(|| panic!("{place} is lost")), given);
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
    is_read_in_full::<Vec<DlqEntry>>("GET_v1_dlq");
    is_read_in_full::<DlqEntry>("GET_v1_dlq_task_uuid");
    is_read_in_full::<Vec<DlqStats>>("GET_v1_dlq_stats");
    is_read_in_full::<Vec<DlqInvestigationQueueEntry>>("GET_v1_dlq_investigation-queue");
    is_read_in_full::<Vec<StalenessMonitoring>>("GET_v1_dlq_staleness");
    is_read_in_full::<DlqInvestigated>("PATCH_v1_dlq_entry_uuid");
    is_read_in_full::<TemplateListResponse>("GET_v1_templates");
    is_read_in_full::<TemplateDetail>("GET_v1_templates_ns_name_version");
    is_read_in_full::<Health>("GET_health");
    is_read_in_full::<Health>("GET_health_live");
    is_read_in_full::<Health>("worker_GET_health");
    is_read_in_full::<Readiness>("GET_health_ready");
}

#[test]
fn a_submission_is_written_as_taskers_clients_write_it() {
    let mut given: Value = serde_json::from_str(&reference("REQUEST_POST_v1_tasks")).unwrap();
    // Of what Tasker's clients send, this has no effect.
    ["requested_at", "options"].iter().for_each(|key| assert!(given.as_object_mut().unwrap().remove(*key).is_some()));
    let text = |key: &str| Some(given[key].as_str().unwrap().to_owned());
    let ours = SubmitTask {
        name: text("name").unwrap(),
        namespace: text("namespace"),
        version: text("version"),
        context: Some(to_raw_value(&given["context"]).unwrap()),
        initiator: text("initiator"),
        source_system: text("source_system"),
        reason: text("reason"),
        priority: Some(5),
        correlation_id: text("correlation_id").map(|id| id.parse().unwrap()),
        ..SubmitTask::default()
    };
    assert_holds("POST /v1/tasks", &serde_json::to_value(ours).unwrap(), &given);
}

#[test]
fn actions_on_a_step_are_written_as_the_server_reads_them() {
    let (reason, me) = (|| "checked".to_owned(), || "me".to_owned());
    let completion_data = CompletionData { result: RawValue::from_string(r#"{"n":1.50}"#.into()).unwrap(), metadata: None };
    let actions = [
        StepManualAction::ResetForRetry { reason: reason(), reset_by: me() },
        StepManualAction::ResolveManually { reason: reason(), resolved_by: me() },
        StepManualAction::CompleteManually { completion_data, reason: reason(), completed_by: me() },
    ];
    assert_eq!(
        actions.map(|action| serde_json::to_string(&action).unwrap()),
        [
            r#"{"action_type":"reset_for_retry","reason":"checked","reset_by":"me"}"#,
            r#"{"action_type":"resolve_manually","reason":"checked","resolved_by":"me"}"#,
            r#"{"action_type":"complete_manually","completion_data":{"result":{"n":1.50}},"reason":"checked","completed_by":"me"}"#,
        ]
    );
}

#[test]
fn an_operators_action_is_written_without_what_was_not_given() {
    let action = ActionBody { action: "retry".into(), actor: "me".into(), reason: "checked".into(), ..ActionBody::default() };
    assert_eq!(serde_json::to_string(&action).unwrap(), r#"{"action":"retry","actor":"me","reason":"checked"}"#);
    let inputs = Some(RawValue::from_string(r#"{"n":1.50}"#.into()).unwrap());
    let all = ActionBody { inputs, seen: Some("abc".into()), dry_run: true, ..action };
    assert_eq!(
        serde_json::to_string(&all).unwrap(),
        r#"{"action":"retry","actor":"me","reason":"checked","inputs":{"n":1.50},"seen":"abc","dry_run":true}"#
    );
}

#[test]
fn what_an_action_changes_is_read_as_it_is_written_also_as_details_of_an_error() {
    let steps = [
        (Some(Word::Known(StepState::Error)), Word::Known(StepState::Enqueued)),
        (None, Word::Known(StepState::Pending)),
        (Some(Word::Known(StepState::Complete)), Word::Unknown("deleted".into())),
    ];
    let steps =
        steps.map(|(from_state, to_state)| StepEffect { name: "a".into(), from_state, to_state, ..StepEffect::default() });
    let response = ActionResponse { action: "redo".into(), steps: steps.into(), ..ActionResponse::default() };
    let text = serde_json::to_string(&response).unwrap();
    assert!(text.contains(r#""from_state":null,"to_state":"pending""#) && text.contains(r#""to_state":"deleted""#), "{text}");
    assert_eq!(serde_json::from_str::<ActionResponse>(&text).unwrap(), response);
    let error: ErrorBody = serde_json::from_str(&format!(r#"{{"error": {{"message": "no", "details": {text}}}}}"#)).unwrap();
    assert!(matches!(error.error.details, Some(ErrorDetails::Changed(now)) if *now == response));
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
fn reasons_that_a_client_does_not_know_are_kept() {
    let text = r#"{"reason": "dreaming", "steps": [{"reason": "no_workers", "act": {"action": "sing"}}]}"#;
    let explained: ExplainResponse = serde_json::from_str(text).unwrap();
    let step = &explained.steps[0];
    assert_eq!((explained.reason.known(), explained.reason.to_string().as_str()), (None, "dreaming"));
    assert_eq!((step.reason.known(), step.changes_at.as_ref()), (Some(tasker_wire::StepReason::NoWorkers), None));
    assert_eq!(step.act.as_ref().unwrap().action.to_string(), "sing");
}

#[test]
fn numbers_of_contexts_and_results_keep_their_digits() {
    let text = r#"{"context":{"n":123456789012345678901234567890,"m":1.50}}"#;
    let task: TaskResponse = serde_json::from_str(text).unwrap();
    assert!(serde_json::to_string(&task).unwrap().contains(&text[1..text.len() - 1]));
}

#[test]
fn the_kinds_of_error_details_are_distinguished_and_written_unchanged() {
    for details in [
        r#"{"faults":[{"place":"/name","message":"is missing"}]}"#,
        r#"{"registered_versions":[]}"#,
        r#"{"diff":["- /a: 1"],"version":"1.0.0"}"#,
        r#"{"status":"complete","task_uuid":"01990000-0000-7000-8000-000000000001"}"#,
        r#"{"status":"cancelled","step_uuid":null}"#,
        r#"{"problems":["a sentence"]}"#,
    ] {
        let text = format!(r#"{{"error":{{"code":"X","details":{details},"message":"m"}}}}"#);
        let error: ErrorBody = serde_json::from_str(&text).unwrap();
        assert!(!matches!(error.error.details, Some(ErrorDetails::Other(_))), "{details}");
        assert_eq!(serde_json::to_string(&error).unwrap(), text);
    }
}

#[cfg(feature = "openapi")]
#[test]
fn a_schema_names_the_words_of_a_state() {
    use utoipa::PartialSchema;
    let state = serde_json::to_value(StepState::schema()).unwrap();
    let words: Vec<&str> = StepState::ALL.iter().map(|state| state.as_str()).collect();
    assert_eq!(state["enum"], serde_json::json!(words));
    let step = serde_json::to_value(StepResponse::schema()).unwrap();
    assert!(step["properties"]["current_state"].to_string().contains("#/components/schemas/StepState"), "{step:#}");
    assert_eq!(step["properties"]["step_uuid"]["format"], "uuid");
}
