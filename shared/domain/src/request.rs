//! Reads the request for a task, and computes the identity by which duplicates are found.
//!
//! The context stays unchanged JSON text. This module does not know whether the template exists and accepts the context.

use std::cell::RefCell;

use jiff::{Timestamp, civil, tz::TimeZone};
use semver::Version;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    json,
    reader::{Findings, Object, members, refuse_line, refuse_name, refuse_prose, shown},
};
use tasker_wire::{Fault, Faults, limits};

/// A request for a task, with the defaults filled in.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    pub name: String,
    pub namespace: String,
    /// The highest version by default.
    pub version: Option<Version>,
    /// A JSON object, as it was received. [`json::check`] accepts it.
    pub context: Box<RawValue>,
    pub priority: Option<i32>,
    pub tags: Vec<String>,
    pub initiator: String,
    pub source_system: String,
    pub reason: String,
    pub correlation_id: Option<Uuid>,
    pub parent_correlation_id: Option<Uuid>,
    /// Overrides the template's identity strategy.
    pub idempotency_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request is malformed or contains forbidden values: HTTP status 400.
    #[error("{0}")]
    Malformed(Faults),
    /// The context is too large: HTTP status 413.
    #[error("{0}")]
    TooLarge(Fault),
}

impl From<Fault> for RequestError {
    fn from(fault: Fault) -> Self {
        Self::Malformed(fault.into())
    }
}

/// Reads the body of a request for a task. Places are JSON pointers into it, or `line:column` if it is not JSON.
pub fn parse_task_request(body: &[u8]) -> Result<TaskRequest, RequestError> {
    let findings = RefCell::new(Findings::default());
    let mut members = members(body, &findings)?;
    let context = context(members.remove("context"), &findings)?;
    let request = read(Object::of_members(members, &findings), context);
    findings.into_inner().finish().map_err(RequestError::Malformed)?;
    Ok(request)
}

/// The identity of a task under the strategy `strict`: equal for the same template version and equal contexts.
///
/// Contexts are equal if their canonical texts (RFC 8785) and their integers beyond the precision of a double are equal.
///
/// # Panics
/// If the context is not JSON. [`parse_task_request`] checks it.
pub fn strict_identity(namespace: &str, name: &str, version: &Version, context: &str) -> [u8; 32] {
    let context: Value = serde_json::from_str(context).expect("the context was checked at intake");
    let mut large = Vec::new();
    collect_large(&context, &mut large);
    let canonical = json::canonical(&context);
    let version = version.to_string();
    let parts = ["strict", namespace, name, &version, &canonical];
    digest(parts.into_iter().chain(large.iter().map(String::as_str)))
}

/// The identity of a task with an idempotency key: equal for the same key and the same template in any version.
pub fn key_identity(namespace: &str, name: &str, key: &str) -> [u8; 32] {
    digest(["key", namespace, name, key].into_iter())
}

/// The SHA-256 of parts, each prefixed with its length so that parts cannot merge. The first part separates the two kinds of identity.
fn digest<'a>(parts: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The integers beyond 2^53, in the order of sorted keys. RFC 8785 writes every number as a double, which would make the ids
/// 9007199254740992 and 9007199254740993 equal, and two orders one task.
fn collect_large(value: &Value, large: &mut Vec<String>) {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > 1 << 53) {
                large.push(number.to_string());
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect_large(value, large)),
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            members.into_iter().for_each(|(_, value)| collect_large(value, large));
        }
        _ => {}
    }
}

fn context(context: Option<Box<RawValue>>, findings: &RefCell<Findings>) -> Result<Box<RawValue>, RequestError> {
    let context = context.filter(|context| context.get() != "null").unwrap_or_else(empty);
    let bytes = context.get().len();
    if bytes > limits::CONTEXT_BYTES {
        let message = format!(
            "has {bytes} bytes; at most {} are allowed. Store the data and pass a reference to it",
            limits::CONTEXT_BYTES
        );
        return Err(RequestError::TooLarge(Fault::new("/context", message)));
    }
    if !context.get().starts_with('{') {
        findings.borrow_mut().fault("/context", "must be a JSON object");
    }
    Ok(context)
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

fn read(mut object: Object, context: Box<RawValue>) -> TaskRequest {
    let unknown = || "unknown".to_owned();
    let request = TaskRequest {
        name: object.required_checked("name", refuse_name),
        namespace: object.checked("namespace", refuse_name).unwrap_or_else(|| "default".to_owned()),
        version: parsed(&mut object, "version", "a SemVer version such as 1.0.0", |text| text.parse().ok()),
        context,
        priority: object.number("priority", i32::MIN..=i32::MAX),
        tags: tags(&mut object),
        initiator: object.checked("initiator", refuse_line).unwrap_or_else(unknown),
        source_system: object.checked("source_system", refuse_line).unwrap_or_else(unknown),
        reason: object.checked("reason", refuse_prose).unwrap_or_else(unknown),
        correlation_id: parsed(&mut object, "correlation_id", "a UUID", |text| Uuid::parse_str(text).ok()),
        parent_correlation_id: parsed(&mut object, "parent_correlation_id", "a UUID", |text| Uuid::parse_str(text).ok()),
        idempotency_key: object.checked("idempotency_key", refuse_line),
    };
    // Tasker's clients send it. It is checked and not used: the database's own clock decides.
    let _ = parsed(&mut object, "requested_at", "a time such as 2026-01-02T03:04:05", time);
    object.ignore("options", "is not read");
    if object.value("callback_url").is_some() {
        object.fault("callback_url", "is not supported yet; ask for the task's state instead");
    }
    object.close();
    request
}

fn parsed<T>(object: &mut Object, key: &'static str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = object.text(key)?;
    let parsed = parse(&text);
    if parsed.is_none() {
        object.fault(key, format!("is {}; it must be {what}", shown(&text)));
    }
    parsed
}

/// A time. Tasker's clients send it in UTC without an offset.
fn time(text: &str) -> Option<Timestamp> {
    let naive = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(naive)
}

fn tags(object: &mut Object) -> Vec<String> {
    let tags = object.texts("tags", refuse_name);
    if tags.len() > limits::TAGS {
        object.fault("tags", format!("are {}; at most {} are allowed", tags.len(), limits::TAGS));
    }
    tags
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<TaskRequest, RequestError> {
        parse_task_request(value.to_string().as_bytes())
    }

    fn faults(body: &str) -> Vec<String> {
        match parse_task_request(body.as_bytes()) {
            Err(RequestError::Malformed(faults)) => faults.0.iter().map(ToString::to_string).collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn what_taskers_client_sends_is_accepted() {
        let request = parse(&json!({
            "name": "mathematical_sequence", "namespace": "rust_e2e_linear", "version": "1.0.0", "context": {"even_number": 6},
            "initiator": "tasker-ctl", "source_system": "cli", "reason": "CLI task creation", "tags": [],
            "requested_at": "2026-01-02T03:04:05.678901234", "options": null, "priority": 5,
            "correlation_id": "01990000-0000-7000-8000-000000000004", "parent_correlation_id": null,
        }))
        .unwrap();
        assert_eq!(request.context.get(), r#"{"even_number":6}"#);
        assert_eq!((request.version, request.priority), (Some(Version::new(1, 0, 0)), Some(5)));
        assert_eq!(time("2026-01-02T03:04:05.678901234").unwrap().to_string(), "2026-01-02T03:04:05.678901234Z");
    }

    #[test]
    fn a_name_is_enough() {
        let request = parse_task_request(br#"{"name": "x"}"#).unwrap();
        assert_eq!((request.namespace.as_str(), request.version, request.context.get()), ("default", None, "{}"));
        let texts = [&request.initiator, &request.source_system, &request.reason];
        assert_eq!(texts, ["unknown"; 3]);
    }

    #[test]
    fn a_null_is_what_is_not_sent() {
        let keys = ["namespace", "version", "context", "priority", "tags", "initiator", "source_system", "reason", "options"];
        let ids = ["correlation_id", "parent_correlation_id", "idempotency_key", "requested_at", "callback_url"];
        let mut body = json!({"name": "x"});
        keys.iter().chain(&ids).for_each(|key| body[key] = Value::Null);
        let request = parse(&body).unwrap();
        assert_eq!((request.namespace.as_str(), request.context.get(), request.correlation_id), ("default", "{}", None));
    }

    #[test]
    fn all_faults_are_found_at_once() {
        let body = r#"{"namespace": 5, "version": "1", "context": [], "priority": 3000000000, "tags": ["a", 1, ""],
            "initiator": "\u001b[31m", "source_system": "", "reason": "a\nb\u0000", "correlation_id": "x", "requested_at": "today",
            "idempotency_key": "a\nb", "callback_url": "https://x", "prioritiy": 1}"#;
        let expected = [
            "/callback_url: is not supported yet; ask for the task's state instead",
            "/context: must be a JSON object",
            "/correlation_id: is \"x\"; it must be a UUID",
            "/idempotency_key: contains the control character U+000A",
            "/initiator: contains the control character U+001B",
            "/name: is missing",
            "/namespace: must be a string, not a number",
            "/prioritiy: unknown key; did you mean priority?",
            "/priority: is 3000000000; it must be -2147483648 to 2147483647",
            "/reason: contains \\u0000, which cannot be stored",
            "/reason: contains the control character U+0000",
            "/requested_at: is \"today\"; it must be a time such as 2026-01-02T03:04:05",
            "/source_system: must not be empty",
            "/tags/1: must be a string, not a number",
            "/tags/2: must not be empty",
            "/version: is \"1\"; it must be a SemVer version such as 1.0.0",
        ];
        assert_eq!(faults(body), expected);
    }

    #[test]
    fn what_is_not_a_json_object_is_malformed() {
        for (body, expected) in [
            ("", "1:0: EOF while parsing a value"),
            ("[]", "the body must be a JSON object"),
            ("null", "the body must be a JSON object"),
            (r#"{"name": "x", "name": "y"}"#, "/name: is a duplicate key"),
            (r#"{"name": "x", "context": {"a": {"b": 1, "b": 2}}}"#, "/context/a/b: is a duplicate key"),
            (r#"{"name": "x", "context": {"a": 1e400}}"#, "/context/a: is a number beyond the range of a double"),
        ] {
            assert_eq!(faults(body), [expected], "{body}");
        }
        let RequestError::Malformed(faults) = parse_task_request(b"{\"name\": \"\xff\"}").unwrap_err() else { panic!() };
        assert_eq!(faults.to_string(), "the body is not UTF-8 from byte 10 on");
    }

    #[test]
    fn a_context_that_is_too_large_is_told_apart() {
        let body = |bytes: usize| json!({"name": "x", "context": {"a": "x".repeat(bytes - r#"{"a":""}"#.len())}});
        assert!(parse(&body(limits::CONTEXT_BYTES)).is_ok());
        let Err(RequestError::TooLarge(fault)) = parse(&body(limits::CONTEXT_BYTES + 1)) else { panic!() };
        assert_eq!(fault.place, "/context");
    }

    #[test]
    fn names_that_are_merely_strange_are_kept() {
        let name = "Robert'); drop table \"tasks\"; -- ${x} {{y}} \u{202e}ü";
        assert_eq!(parse(&json!({"name": name, "reason": "two\n\tlines"})).unwrap().name, name);
    }

    #[test]
    fn limits_hold_at_their_edge() {
        for (key, good, bad) in [
            ("name", json!("x".repeat(limits::NAME_CHARS)), json!("x".repeat(limits::NAME_CHARS + 1))),
            ("reason", json!("ü".repeat(limits::TEXT_CHARS)), json!("ü".repeat(limits::TEXT_CHARS + 1))),
            ("tags", json!(vec!["x"; limits::TAGS]), json!(vec!["x"; limits::TAGS + 1])),
            ("priority", json!(i32::MIN), json!(i64::from(i32::MIN) - 1)),
            ("requested_at", json!("2026-01-02T03:04:05+02:00"), json!("2026-13-02T03:04:05")),
        ] {
            let body = |value: Value| {
                let mut body = json!({"name": "x"});
                body[key] = value;
                body
            };
            assert!(parse(&body(good)).is_ok(), "{key}");
            assert!(parse(&body(bad)).is_err(), "{key}");
        }
    }

    #[test]
    fn identities_cannot_be_made_to_collide() {
        let version = Version::new(1, 0, 0);
        let identities = [
            strict_identity("ab", "c", &version, "{}"),
            strict_identity("a", "bc", &version, "{}"),
            strict_identity("a", "bc", &Version::new(1, 0, 1), "{}"),
            strict_identity("a", "bc", &version, r#"{"id": 9007199254740992}"#),
            strict_identity("a", "bc", &version, r#"{"id": 9007199254740993}"#),
            strict_identity("a", "bc", &version, r#"{"id": "9007199254740993"}"#),
            key_identity("a", "bc", "1.0.0"),
            key_identity("ab", "c", "1.0.0"),
        ];
        let different: std::collections::BTreeSet<_> = identities.iter().collect();
        assert_eq!(different.len(), identities.len());
    }

    #[test]
    fn identities_are_the_same_in_every_release() {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let strict = strict_identity("shop", "order", &Version::new(1, 2, 3), r#"{"b": 1.0, "a": "ü"}"#);
        assert_eq!(hex(strict), "b2f7c45392c6e060bd846a05384f046ce2d01c2dbe9ad308c243c36720027f81");
        assert_eq!(hex(key_identity("shop", "order", "k-1")), "fc904d41e26609c5a75e8b5b7f2ad57903ba6eb0d55eae10ff3f91070953d4a0");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e15..1e15).prop_map(Value::from),
            "[^\\x00]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[^\\x00]{0,5}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same value written otherwise: keys from last to first, white space everywhere, every letter escaped.
    fn otherwise(value: &Value) -> String {
        let text = |text: &str| {
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            format!("\"{units}\"")
        };
        match value {
            Value::String(s) => text(s),
            Value::Array(list) => format!("[ {} ]", list.iter().map(otherwise).collect::<Vec<_>>().join(" ,\n")),
            Value::Object(map) => {
                let members: Vec<_> =
                    map.iter().rev().map(|(key, value)| format!("{}\t: {}", text(key), otherwise(value))).collect();
                format!("{{ {} }}", members.join(" , "))
            }
            other => format!(" {other} "),
        }
    }

    proptest! {
        #[test]
        fn identity_does_not_depend_on_how_a_context_is_written(value in any_json()) {
            let version = Version::new(1, 0, 0);
            let plain = value.to_string();
            prop_assert_eq!(json::check(&plain), Ok(()));
            let one = strict_identity("n", "t", &version, &plain);
            prop_assert_eq!(one, strict_identity("n", "t", &version, &otherwise(&value)));
            let again: Value = serde_json::from_str(&otherwise(&value)).unwrap();
            prop_assert_eq!(json::canonical(&value), json::canonical(&again));
        }

        #[test]
        fn junk_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_task_request(&body);
        }

        #[test]
        fn strange_requests_never_panic(members in prop::collection::btree_map("name|context|tags|version|requested_at|x", any_json(), 0..6)) {
            let body = Value::Object(members.into_iter().collect());
            if let Ok(request) = parse(&body) {
                strict_identity(&request.namespace, &request.name, &Version::new(1, 0, 0), request.context.get());
            }
        }
    }
}
