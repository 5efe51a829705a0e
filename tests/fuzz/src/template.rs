//! Templates: YAML files from anybody.

use serde_json::Value;
use tasker_domain::template::{self, Template};
use tasker_wire::Fault;

use super::places;

/// Parsing depends on the text only. An accepted template has its rows, and reads its own definition back as itself.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = template::parse(text);
    assert_eq!(parsed, template::parse(text), "the parser changed its mind");
    match parsed {
        Ok((template, _)) => {
            let definition = serde_json::to_string(&template).expect("a template can be written");
            let same = |again: Template| {
                assert_eq!(template, again, "a definition is read as itself");
                assert_eq!(template.sha256(), again.sha256(), "the same template has the same sum");
            };
            same(serde_json::from_str(&definition).unwrap_or_else(|e| panic!("{definition} cannot be loaded: {e}")));
            // The definition is read back as YAML, which gives up the search for the colon after a key earlier than JSON.
            if !has_long_key(&serde_json::from_str(&definition).expect("a definition is JSON")) {
                same(template::parse(&definition).unwrap_or_else(|faults| panic!("{definition} is refused: {faults}")).0);
            }
            for environment in template.environments.keys().map(String::as_str).chain(["test"]) {
                template.workflow(environment).unwrap_or_else(|faults| panic!("no plan for {environment}: {faults}"));
            }
        }
        Err(faults) => {
            assert!(!faults.0.is_empty(), "refused without a fault");
            // Pointers are checked in JSON only: another parser may read YAML as another document.
            if let Ok(value) = serde_json::from_str(text) {
                places::resolve(&faults.0, &value, "meta-schema");
            }
            // Places inside a schema come from its library, which does not escape control characters.
            faults.0.iter().filter(|fault| !fault.message.starts_with("is not a JSON Schema")).for_each(printable);
        }
    }
}

/// A key that takes more than the 1,024 characters that YAML allows one on a line.
fn has_long_key(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.iter().any(|(key, value)| Value::from(key.as_str()).to_string().len() > 1_000 || has_long_key(value))
        }
        Value::Array(list) => list.iter().any(has_long_key),
        _ => false,
    }
}

fn printable(fault: &Fault) {
    assert!(!fault.place.chars().any(char::is_control), "{:?} would move a terminal's cursor", fault.place);
}
