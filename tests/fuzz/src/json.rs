//! JSON texts that pass the check, and the identity of a task by them.

use serde_json::Value;
use tasker_domain::{json, request::strict_identity};

/// The check is a function of its text; what passes has one identity, however it is written.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = json::check(text);
    assert_eq!(checked, json::check(text), "the check changed its mind");
    if checked.is_err() {
        return;
    }
    let value: Value = serde_json::from_str(text).expect("what the check accepts is JSON");
    let version = semver::Version::new(1, 0, 0);
    let identity = |text: &str| strict_identity("ns", "name", &version, text);
    let first = identity(text);
    for other in [value.to_string(), backwards(&value), serde_json::to_string_pretty(&value).expect("a value can be written")] {
        assert_eq!(json::check(&other), Ok(()), "what is accepted is accepted again: {other}");
        assert_eq!(first, identity(&other), "one identity: {text} and {other}");
    }
    let canonical = json::canonical(&value);
    let again = serde_json::from_str(&canonical).expect("a canonical text is JSON");
    assert_eq!(canonical, json::canonical(&again), "canonical text is its own");
}

/// The value with the members of all objects in the opposite order, and white space around everything.
fn backwards(value: &Value) -> String {
    match value {
        Value::Array(list) => format!(" [ {} ]\n", list.iter().map(backwards).collect::<Vec<_>>().join(" , ")),
        Value::Object(map) => {
            let members = map.iter().rev().map(|(key, value)| format!("\t{} : {}", Value::from(key.as_str()), backwards(value)));
            format!(" {{ {} }}\r\n", members.collect::<Vec<_>>().join(" , "))
        }
        other => format!(" {other} "),
    }
}
