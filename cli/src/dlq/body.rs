//! The body of a dead letter without its confidential parts. Only the values listed here are shown.

use serde_json::{Map, Value, json};

/// Keys of messages about steps, of handlers, outcomes and requests. A value is shown if it is a number, a boolean or a short string.
#[rustfmt::skip]
const SHOWN: &[&str] = &[
    "v", "task_id", "step_id", "step_name", "lease", "attempt", "max_attempts", "timeout_seconds", "report_start", "resend",
    "worker", "execution_time_ms", "correlation_id", "traceparent",
    "callable", "method", "resolver", "error_type", "error_code", "retryable", "delay_seconds", "items_processed",
    "name", "namespace", "version", "priority", "initiator", "source_system", "parent_correlation_id", "requested_at",
];
/// Keys of objects whose members are shown by the same rule.
const OPENED: &[&str] =
    &["handler", "outcome", "success", "failure", "checkpoint", "pending_callback", "released", "started", "heartbeat"];
/// The key of the token, whose holder can complete a step.
const TOKEN: &str = "\"token\"";
/// Characters of a shown string: the sender may have put anything in the place of an id.
const CHARS: usize = 200;

/// A body with all but the listed values hidden.
pub fn hidden(body: &str) -> Value {
    match serde_json::from_str(body) {
        Ok(Value::Object(members)) => object(members),
        Ok(other) => placeholder(&other),
        Err(_) => json!(format!("hidden: {} bytes that are not JSON", body.len())),
    }
}

/// The whole text, with the values of all keys `token` hidden. It need not be valid JSON: a truncated message contains a token too.
pub fn without_tokens(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(TOKEN) {
        let (upto_key, after) = rest.split_at(at + TOKEN.len());
        let value = after.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ':');
        let (between, value) = after.split_at(after.len() - value.len());
        shown.extend([upto_key, between]);
        rest = value;
        if between.contains(':') && value.starts_with('"') {
            let (token, after) = value.split_at(bytes_of_string(value));
            shown.push_str(&format!("\"hidden: {} bytes\"", token.len()));
            rest = after;
        }
    }
    shown + rest
}

/// The length of the JSON string at the start of a text, with its quotes; the whole text if the string does not end.
fn bytes_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn object(members: Map<String, Value>) -> Value {
    let member = |(key, value): (String, Value)| {
        let (is_shown, is_opened) = (SHOWN.contains(&key.as_str()), OPENED.contains(&key.as_str()));
        let shown = match value {
            Value::Null => Value::Null,
            Value::Object(inner) if is_opened => object(inner),
            Value::Number(_) | Value::Bool(_) if is_shown => value,
            Value::String(ref text) if is_shown && text.chars().count() <= CHARS => value,
            value => placeholder(&value),
        };
        (key, shown)
    };
    Value::Object(members.into_iter().map(member).collect())
}

fn placeholder(value: &Value) -> Value {
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
    fn a_token_is_hidden_wherever_it_is_and_the_rest_of_the_text_is_kept() {
        for (text, shown) in [
            (r#"{"token":"1.a.b","n":1.50}"#, r#"{"token":"hidden: 7 bytes","n":1.50}"#),
            (r#"{"a":[{"token" :  "x\"y\\"}],"b":"token"}"#, r#"{"a":[{"token" :  "hidden: 8 bytes"}],"b":"token"}"#),
            (r#"{"token":"cut sho"#, r#"{"token":"hidden: 8 bytes""#),
            (r#"["token", "kept", {"token":null}]"#, r#"["token", "kept", {"token":null}]"#),
            ("", ""),
        ] {
            assert_eq!(without_tokens(text), shown);
        }
    }

    #[test]
    fn a_body_that_is_not_an_object_is_hidden_completely() {
        assert_eq!(hidden("{secret"), "hidden: 7 bytes that are not JSON");
        assert_eq!(hidden(r#"["secret"]"#), "hidden: 10 bytes");
    }
}
