//! Requests for tasks: HTTP bodies from anybody.

use tasker_domain::{
    json,
    request::{RequestError, parse_task_request, strict_identity},
};

use super::places;

/// Parsing depends on the body only. An accepted request keeps its context byte by byte.
pub fn run(data: &[u8]) {
    let parsed = parse_task_request(data);
    assert_eq!(format!("{parsed:?}"), format!("{:?}", parse_task_request(data)), "the parser changed its mind");
    match parsed {
        Ok(request) => {
            let text = std::str::from_utf8(data).expect("what is accepted is UTF-8");
            let context = request.context.get();
            assert_eq!(json::check(context), Ok(()), "the context was not checked");
            assert!(context == "{}" || text.contains(context), "the context is not what was sent");
            let version = request.version.unwrap_or(semver::Version::new(0, 0, 0));
            let again = serde_json::json!({ "name": request.name, "namespace": request.namespace, "version": version.to_string(),
                "priority": request.priority, "tags": request.tags, "initiator": request.initiator, "reason": request.reason,
                "source_system": request.source_system, "correlation_id": request.correlation_id,
                "idempotency_key": request.idempotency_key });
            // As text, because a value does not hold every number.
            let again = format!(r#"{{"context":{},{}"#, json::canonical(context), &again.to_string()[1..]);
            let again = parse_task_request(again.as_bytes()).expect("what was accepted is accepted again");
            assert_eq!((&request.name, &request.tags, &request.reason), (&again.name, &again.tags, &again.reason));
            assert_eq!(request.priority, again.priority);
            let identity = |context: &str| strict_identity(&request.namespace, &request.name, &version, context);
            assert_eq!(identity(context), identity(again.context.get()), "the same request is the same task");
        }
        Err(RequestError::Malformed(faults)) => {
            assert!(!faults.0.is_empty(), "refused without a fault");
            if let Ok(value) = serde_json::from_slice(data) {
                places::resolve(&faults.0, &value, "meta-schema");
            }
        }
        Err(RequestError::TooLarge(fault)) => assert_eq!(fault.place, "/context"),
    }
}
