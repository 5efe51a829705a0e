//! Reads YAML as a JSON value, within a budget: aliases must not expand a small file into a huge value.

use serde_json::Value;
use serde_saphyr::{Error, Options, UserMessageFormatter, budget, options};

use crate::reader::Findings;
use tasker_wire::{Fault, Faults, fault::pointer, limits};

/// The most keys, scalars, lists and maps of a template with resolved aliases: 10,000 steps of 40 values each, and some more.
const NODES: usize = 600_000;

/// The value of a file with one YAML or JSON document.
pub(super) fn value(text: &str) -> Result<Value, Faults> {
    if text.len() > limits::TEMPLATE_BYTES {
        let message = format!("the template has {} bytes; at most {} are read", text.len(), limits::TEMPLATE_BYTES);
        return Err(Fault::new("", message).into());
    }
    let value: Value = serde_saphyr::from_str_with_options(text, options()).map_err(|error| fault(&error))?;
    if value.is_null() {
        return Err(Fault::new("", "the template is empty").into());
    }
    let mut findings = Findings::default();
    refuse_nul(&value, String::new(), &mut findings);
    findings.finish()?;
    Ok(value)
}

fn options() -> Options {
    options! {
        budget: budget! {
            max_depth: limits::TEMPLATE_DEPTH,
            max_nodes: NODES,
            max_events: 3 * NODES,
            max_total_scalar_bytes: 2 * limits::TEMPLATE_BYTES,
            max_documents: 1,
            // A retry block that every step shares through one anchor is good style. The other limits stop alias bombs.
            enforce_alias_anchor_ratio: false,
        },
        // As in YAML 1.2 and in Tasker, `no`, `1_000` and `007` are strings.
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        emit_comments: false,
        with_snippet: false,
    }
}

fn fault(error: &Error) -> Fault {
    let message = error.without_snippet().render_with_formatter(&UserMessageFormatter);
    // Positions follow; the first one becomes the place.
    let message = message.split_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    let message = if message.contains("documents:") {
        "contains more than one YAML document; write one template per file"
    } else {
        message
    };
    let place = error.location().map(|location| format!("{}:{}", location.line(), location.column()));
    Fault::new(place.unwrap_or_default(), message)
}

/// Rejects U+0000, which PostgreSQL cannot store.
fn refuse_nul(value: &Value, place: String, findings: &mut Findings) {
    let refuse = |text: &str, place: &str, findings: &mut Findings| {
        if text.contains('\0') {
            findings.fault(place, "contains U+0000, which cannot be stored");
        }
    };
    match value {
        Value::String(text) => refuse(text, &place, findings),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| refuse_nul(v, pointer(&place, i), findings)),
        Value::Object(map) => {
            for (key, value) in map {
                let place = pointer(&place, key);
                refuse(key, &place, findings);
                refuse_nul(value, place, findings);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Fault {
        value(text).expect_err(text).0.remove(0)
    }

    #[test]
    fn broken_yaml_has_a_line_and_a_column() {
        for (text, place, word) in [
            ("a:\n  - b: [1", "2:8", "bracket"),
            ("a: 1\na: 2", "2:1", "duplicate"),
            ("a: 1\n---\nb: 2", "2:1", "document"),
            ("a: *x", "1:4", "reference"),
            ("a: 1e400", "1:4", "finite"),
            ("", "", "empty"),
            ("# nothing\n", "", "empty"),
            ("a: [\"\\0\"]", "/a/0", "U+0000"),
        ] {
            let fault = refused(text);
            assert_eq!(fault.place, place, "{fault}");
            assert!(fault.message.contains(word), "{fault}");
            assert!(!fault.message.contains("line "), "{fault}");
        }
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        let value = value("{a: no, b: 1_000, c: 007, d: true, e: 1.0, f: ~, g: 2024-01-01}").unwrap();
        let expected =
            serde_json::json!({"a": "no", "b": "1_000", "c": "007", "d": true, "e": 1.0, "f": null, "g": "2024-01-01"});
        assert_eq!(value, expected);
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let value = value("a: &x {k: 1}\nb: {<<: *x, l: 2}\nc: *x").unwrap();
        assert_eq!(value, serde_json::json!({"a": {"k": 1}, "b": {"k": 1, "l": 2}, "c": {"k": 1}}));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "{\"a\": [".repeat(depth / 2), "]}".repeat(depth / 2));
        assert!(value(&nested(limits::TEMPLATE_DEPTH)).is_ok());
        assert!(value(&nested(limits::TEMPLATE_DEPTH + 2)).is_err());
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..10 {
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
        }
        let long = format!("a: &x {}\nb: [{}]", "y".repeat(1_000_000), vec!["*x"; 1_000].join(","));
        for text in [bomb, long, "[".repeat(1_000_000), "- ".repeat(1_000_000), " ".repeat(limits::TEMPLATE_BYTES + 1)] {
            value(&text).unwrap_err();
        }
    }
}
