//! Reads YAML as JSON, within a budget: aliases must not expand a small file into a huge value.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};
use serde_saphyr::{Error, Options, UserMessageFormatter, budget, options};

use crate::{json::object_of, number::Decimal, reader::Findings};
use tasker_wire::{Fault, Faults, Json, fault::pointer, limits};

/// The most keys, scalars, lists and maps of a template with resolved aliases: 10,000 steps of 40 values each, and some more.
const NODES: usize = 600_000;

/// A file with one YAML or JSON document, as JSON: keys are sorted, and numbers have the digits of the file.
pub(super) fn json(text: &str) -> Result<Json, Faults> {
    let value = value(text)?;
    let json = if has_double(&value) {
        let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |file| Exact(&value).deserialize(file));
        read.map_err(|error| fault(&error))?
    } else {
        value.to_string()
    };
    let raw = RawValue::from_string(json).map_err(|error| Fault::new("", error.to_string()))?;
    Ok(raw.into())
}

/// The value of a file, in which numbers beyond 64 bits, and those with a point or an exponent, are doubles.
fn value(text: &str) -> Result<Value, Faults> {
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

fn has_double(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_double),
        Value::Object(map) => map.values().any(has_double),
        _ => false,
    }
}

/// Reads the same file again, and writes its value as JSON with the digits of its doubles: the reader of any value has only the
/// doubles, but the reader of a string has the text.
struct Exact<'v>(&'v Value);

impl<'de> DeserializeSeed<'de> for Exact<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, file: D) -> Result<String, D::Error> {
        match self.0 {
            Value::Number(number) if number.is_f64() => file.deserialize_str(self),
            Value::Array(_) => file.deserialize_seq(self),
            Value::Object(_) => file.deserialize_map(self),
            other => file.deserialize_ignored_any(IgnoredAny).map(|_| other.to_string()),
        }
    }
}

impl<'de> Visitor<'de> for Exact<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value that was read before")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        number(text.trim(), self.0).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
        let mut values = Vec::new();
        for value in self.0.as_array().into_iter().flatten() {
            values.extend(list.next_element_seed(Exact(value))?);
        }
        // The end of the list must be read too.
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(format!("[{}]", values.join(",")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let json = map.next_value_seed(Exact(self.0.get(&key).unwrap_or(&Value::Null)))?;
            members.insert(key, json);
        }
        Ok(object_of(members))
    }
}

/// The JSON of a number: whole ones, and those that are no double, have the digits of the file.
fn number(text: &str, double: &Value) -> Result<String, String> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let written = double.to_string();
    // Other notations are no decimals; nothing but a double is known of them.
    let Some(exact) = Decimal::parse(text) else { return Ok(written) };
    if let Some(message) = exact.refuse() {
        return Err(message);
    }
    let is_double = text.contains(['.', 'e', 'E']) && Decimal::parse(&written).as_ref() == Some(&exact);
    let is_json = || serde_json::from_str::<&RawValue>(text).is_ok();
    Ok(if is_double {
        written
    } else if is_json() {
        text.to_owned()
    } else {
        exact.canonical()
    })
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
    } else if message.contains("tagged scalar") {
        "is a number with a tag; write it without a tag"
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
        json(text).expect_err(text).0.remove(0)
    }

    #[test]
    fn broken_yaml_has_a_line_and_a_column() {
        for (text, place, word) in [
            ("a:\n  - b: [1", "2:8", "bracket"),
            ("a: 1\na: 2", "2:1", "duplicate"),
            ("a: 1\n---\nb: 2", "2:1", "document"),
            ("a: *x", "1:4", "reference"),
            ("a: 1e400", "1:4", "finite"),
            ("a: [!!float 1.5]", "1:13", "without a tag"),
            ("a: 1\nb:\n  c: [0.5, 1e-400]", "3:12", "closer to 0"),
            (&format!("a: 0.{}", "7".repeat(limits::NUMBER_DIGITS + 1)), "1:4", "digits"),
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
    fn numbers_keep_their_digits() {
        for (yaml, expected) in [
            ("12345678901234567890123", "12345678901234567890123"),
            ("-9223372036854775809", "-9223372036854775809"),
            ("+18446744073709551616", "18446744073709551616"),
            ("1000000000000000000000", "1000000000000000000000"),
            ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
            (".3333333333333333333333", "3333333333333333333333e-22"),
            ("1e21", "1e+21"),
            ("1.50", "1.5"),
            ("18446744073709551615", "18446744073709551615"),
            ("'12345678901234567890123'", "\"12345678901234567890123\""),
        ] {
            assert_eq!(json(&format!("a: {yaml}")).unwrap().get(), format!("{{\"a\":{expected}}}"), "{yaml}");
        }
        let anchors = "b: &x {k: [12345678901234567890123, x], j: ~}\na: {<<: *x, l: 1.5}\nc: *x";
        let expected = r#"{"a":{"j":null,"k":[12345678901234567890123,"x"],"l":1.5},"b":{"j":null,"k":[12345678901234567890123,"x"]},"c":{"j":null,"k":[12345678901234567890123,"x"]}}"#;
        assert_eq!(json(anchors).unwrap().get(), expected);
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
