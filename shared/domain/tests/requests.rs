//! Reads requests for tasks, and identifies duplicates.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use proptest::prelude::*;
use semver::Version;
use serde_json::{Value, json};
use tasker_domain::{json, request::*};
use tasker_wire::limits;

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
}

#[test]
fn a_name_is_enough() {
    let request = parse_task_request(br#"{"name": "x"}"#).unwrap();
    assert_eq!((request.namespace.as_str(), request.version, request.context.get()), ("default", None, "{}"));
    let texts = [&request.initiator, &request.source_system, &request.reason];
    assert_eq!(texts, ["unknown"; 3]);
}

#[test]
fn a_null_counts_as_an_absent_key() {
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
        (r#"{"name": "x", "context": {"a": [1e-400]}}"#, "/context/a/0: is a number closer to 0 than 1e-324; write 0, or a text"),
    ] {
        assert_eq!(faults(body), [expected], "{body}");
    }
    let RequestError::Malformed(faults) = parse_task_request(b"{\"name\": \"\xff\"}").unwrap_err() else { panic!() };
    assert_eq!(faults.to_string(), "the body is not UTF-8 from byte 10 on");
}

#[test]
fn a_context_that_is_too_large_is_a_distinct_error() {
    let body = |bytes: usize| json!({"name": "x", "context": {"a": "x".repeat(bytes - r#"{"a":""}"#.len())}});
    assert!(parse(&body(limits::CONTEXT_BYTES)).is_ok());
    let Err(RequestError::TooLarge(fault)) = parse(&body(limits::CONTEXT_BYTES + 1)) else { panic!() };
    assert_eq!(fault.place, "/context");
}

#[test]
fn unusual_names_are_accepted() {
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
        strict_identity("a", "bc", &version, r#"{"id": 1000000000000000000000}"#),
        strict_identity("a", "bc", &version, r#"{"id": 1000000000000000000001}"#),
        strict_identity("a", "bc", &version, r#"{"id": -9223372036854775809}"#),
        strict_identity("a", "bc", &version, r#"{"id": -9223372036854775810}"#),
        strict_identity("a", "bc", &version, r#"{"id": 0.1}"#),
        strict_identity("a", "bc", &version, r#"{"id": 0.1000000000000000055511151231257827}"#),
        message_identity("a", "bc", "1.0.0"),
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
    assert_eq!(hex(strict), "0b35a76c520f900b0830094f84824d21955ede7d6f53fa3929416e8640ae42b6");
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
            prop::collection::btree_map("[^\\x00]{0,5}", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The same value in another notation: keys in reverse order, white space everywhere, every letter escaped.
fn otherwise(value: &Value) -> String {
    let text = |text: &str| {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{units}\"")
    };
    match value {
        Value::String(s) => text(s),
        Value::Array(list) => format!("[ {} ]", list.iter().map(otherwise).collect::<Vec<_>>().join(" ,\n")),
        Value::Object(map) => {
            let members: Vec<_> = map.iter().rev().map(|(key, value)| format!("{}\t: {}", text(key), otherwise(value))).collect();
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
        prop_assert_eq!(json::canonical(&plain), json::canonical(&otherwise(&value)));
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
