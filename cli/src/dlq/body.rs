//! The body of a dead letter without what its sender trusted the queue with: shown is what this list names, and nothing else.

use serde_json::{Map, Value, json};

/// What is shown of any message, where it is a number, a word or a truth: of messages about steps, of handlers and outcomes, and of
/// requests.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "v", "task_id", "step_id", "step_name", "lease", "attempt", "max_attempts", "timeout_seconds", "report_start", "resend",
    "worker", "execution_time_ms", "correlation_id", "traceparent",
    "callable", "method", "resolver", "error_type", "error_code", "retryable", "delay_seconds", "items_processed",
    "name", "namespace", "version", "priority", "initiator", "source_system", "parent_correlation_id", "requested_at",
];
/// What is looked into.
#[rustfmt::skip]
const OPENED: &[&str] = &[
    "handler", "outcome", "success", "failure", "checkpoint", "pending_callback", "released", "started", "heartbeat",
];
/// Characters of a shown word: what is in the place of an id may be anything.
const CHARS: usize = 200;

/// A body without its contents.
pub fn hidden(body: &str) -> Value {
    match serde_json::from_str(body) {
        Ok(Value::Object(members)) => object(members),
        Ok(other) => instead_of(&other),
        Err(_) => json!(format!("hidden: {} bytes that are no JSON", body.len())),
    }
}

fn object(members: Map<String, Value>) -> Value {
    let member = |(key, value): (String, Value)| {
        let (is_shown, is_opened) = (SHOWN.contains(&key.as_str()), OPENED.contains(&key.as_str()));
        let shown = match value {
            Value::Null => Value::Null,
            Value::Object(inner) if is_opened => object(inner),
            Value::Number(_) | Value::Bool(_) if is_shown => value,
            Value::String(ref text) if is_shown && text.chars().count() <= CHARS => value,
            value => instead_of(&value),
        };
        (key, shown)
    };
    Value::Object(members.into_iter().map(member).collect())
}

fn instead_of(value: &Value) -> Value {
    json!(format!("hidden: {} bytes", value.to_string().len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_contents_are_hidden_and_ids_are_not() {
        let body = json!({"v": 1, "step_id": "s", "token": "secret", "context": {"card": "secret"}, "dependency_results": {"a": "secret"},
            "handler": {"callable": "charge", "initialization": {"key": "secret"}}, "name": {"first": "secret"}, "worker": "x".repeat(201),
            "outcome": {"failure": {"message": "secret", "error_type": "declined", "retryable": false}}, "unheard_of": "secret"});
        let shown = hidden(&body.to_string());
        assert!(!shown.to_string().contains("secret"), "{shown}");
        assert_eq!(shown["handler"], json!({"callable": "charge", "initialization": "hidden: 16 bytes"}));
        assert_eq!(shown["outcome"]["failure"]["error_type"], "declined");
        assert_eq!((&shown["step_id"], &shown["worker"]), (&json!("s"), &json!("hidden: 203 bytes")));
    }

    #[test]
    fn what_is_no_object_is_hidden_as_a_whole() {
        assert_eq!(hidden("{secret"), "hidden: 7 bytes that are no JSON");
        assert_eq!(hidden(r#"["secret"]"#), "hidden: 10 bytes");
    }
}
