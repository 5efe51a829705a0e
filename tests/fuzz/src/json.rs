//! JSON texts that pass the check, and the identity of a task by them.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};
use tasker_domain::{json, request::strict_identity};

/// The check is a function of its text; what passes has one identity, however it is written.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = json::check(text);
    assert_eq!(checked, json::check(text), "the check changed its mind");
    if checked.is_err() {
        return;
    }
    let version = semver::Version::new(1, 0, 0);
    let identity = |text: &str| strict_identity("ns", "name", &version, text);
    let (first, canonical) = (identity(text), json::canonical(text));
    for other in [&canonical, &backwards(text)] {
        assert_eq!(json::check(other), Ok(()), "what is accepted is accepted again: {other}");
        assert_eq!(first, identity(other), "one identity: {text} and {other}");
    }
    assert_eq!(canonical, json::canonical(&canonical), "canonical text is its own");
}

/// The text with the members of all objects in the opposite order, and white space around everything.
fn backwards(text: &str) -> String {
    if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(text) {
        return format!(" [ {} ]\n", list.iter().map(|value| backwards(value.get())).collect::<Vec<_>>().join(" , "));
    }
    let Ok(map) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else { return format!(" {} ", text.trim()) };
    let members = map.iter().rev().map(|(key, value)| format!("\t{} : {}", Value::from(key.as_str()), backwards(value.get())));
    format!(" {{ {} }}\r\n", members.collect::<Vec<_>>().join(" , "))
}
