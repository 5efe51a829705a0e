//! What is kept of a failure: its texts and its context, cut to their limits. Never its type, its code or its retryability.

use serde_json::{Map, Value};

use crate::{Failure, limits};

/// Stands for what was cut.
const CUT: &str = "…";
/// Levels of nesting that are kept.
const DEPTH: usize = 60;
/// Bytes for the marks of what was cut, one a level.
const MARKS: usize = 4 * 1024;

impl Failure {
    /// The failure as it is kept. One within the limits stays as it is.
    pub fn kept(self) -> Self {
        let longest = limits::BACKOFF_MS as f64 / 1000.0;
        Self {
            message: kept_text(self.message),
            error_type: kept_text(self.error_type),
            error_code: self.error_code.map(kept_text),
            delay_seconds: self.delay_seconds.filter(|pause| *pause >= 0.0).map(|pause| pause.min(longest)),
            context: self.context.map(kept_json),
            ..self
        }
    }
}

/// At most [`limits::ERROR_CHARS`] of a text.
pub fn kept_text(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(limits::ERROR_CHARS) {
        let last = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        text.truncate(last);
        text.push_str(CUT);
        text.shrink_to_fit();
    }
    text
}

/// At most [`limits::METADATA_BYTES`] of a document, without the character that cannot be stored.
pub fn kept_json(value: Value) -> Value {
    kept_value(value, &mut (limits::METADATA_BYTES - MARKS), DEPTH)
}

fn kept_value(value: Value, room: &mut usize, levels: usize) -> Value {
    // Brackets or quotes, and a comma.
    *room = room.saturating_sub(3);
    match value {
        Value::String(text) => kept_part(text, room).into(),
        Value::Array(_) | Value::Object(_) if levels == 0 => CUT.into(),
        Value::Array(parts) => kept_array(parts, room, levels - 1).into(),
        Value::Object(fields) => kept_object(fields, room, levels - 1).into(),
        Value::Number(number) => {
            *room = room.saturating_sub(number.to_string().len());
            number.into()
        }
        value @ (Value::Bool(_) | Value::Null) => {
            *room = room.saturating_sub(4);
            value
        }
    }
}

fn kept_array(parts: Vec<Value>, room: &mut usize, levels: usize) -> Vec<Value> {
    let mut kept = Vec::new();
    for part in parts {
        if *room == 0 {
            kept.push(CUT.into());
            break;
        }
        kept.push(kept_value(part, room, levels));
    }
    kept
}

fn kept_object(fields: Map<String, Value>, room: &mut usize, levels: usize) -> Map<String, Value> {
    let mut kept = Map::new();
    for (key, part) in fields {
        if *room == 0 {
            kept.insert(CUT.into(), CUT.into());
            break;
        }
        *room = room.saturating_sub(3);
        kept.insert(kept_part(key, room), kept_value(part, room, levels));
    }
    kept
}

/// As much of a text as there is room for, in JSON.
fn kept_part(mut text: String, room: &mut usize) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    for (at, character) in text.char_indices() {
        let bytes = match character {
            '"' | '\\' => 2,
            character if character < ' ' => 6,
            character => character.len_utf8(),
        };
        if bytes > *room {
            *room = 0;
            text.truncate(at);
            text.push_str(CUT);
            break;
        }
        *room -= bytes;
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failure(message: &str, context: Value) -> Failure {
        Failure { context: Some(context), ..Failure::permanent("my_type", message) }
    }

    #[test]
    fn a_failure_within_the_limits_stays_as_it_is() {
        let context =
            json!({"text": "x".repeat(limits::METADATA_BYTES - MARKS - 100), "more": [1, -2.5, null, true, {"a": "\n\"é"}]});
        let small = Failure {
            error_code: Some("code".into()),
            delay_seconds: Some(1.5),
            ..failure(&"é".repeat(limits::ERROR_CHARS), context)
        };
        assert_eq!(small.clone().kept(), small);
    }

    #[test]
    fn texts_are_cut_to_their_characters_and_a_context_to_its_bytes() {
        let long = "é".repeat(limits::ERROR_CHARS + 1);
        let Failure { message, error_type, retryable, .. } = failure(&long, json!(null)).kept();
        assert_eq!((message.chars().count(), message.ends_with("é…")), (limits::ERROR_CHARS, true));
        assert_eq!((error_type.as_str(), retryable), ("my_type", false));
        let wide: Map<String, Value> = (0..100_000).map(|n| (n.to_string(), json!(n))).collect();
        let mut deep = json!("x".repeat(1_000_000));
        for _ in 0..50 {
            deep = json!([deep, "beside"]);
        }
        for context in [json!("x".repeat(1_000_000)), json!(vec!["\u{1}"; 100_000]), json!({"a": wide, "b": 1}), deep] {
            let kept = failure("m", context).kept().context.unwrap().to_string();
            assert!(kept.len() <= limits::METADATA_BYTES && kept.contains(CUT), "{} bytes", kept.len());
            assert!(kept.len() > limits::METADATA_BYTES / 2, "{} bytes", kept.len());
        }
    }

    #[test]
    fn what_cannot_be_stored_is_replaced() {
        let mut deep = json!(1);
        for _ in 0..=DEPTH {
            deep = json!([deep]);
        }
        let kept = failure("m", json!({"a\0": "b\0", "deep": deep})).kept().context.unwrap();
        assert_eq!(kept["a\u{fffd}"], "b\u{fffd}");
        assert!(kept["deep"].to_string().contains("[\"…\"]"), "{kept}");
        for (delay, kept) in [(f64::NAN, None), (-1.0, None), (f64::INFINITY, Some(86400.0)), (2.0, Some(2.0))] {
            let late = Failure { delay_seconds: Some(delay), ..failure("m", json!(null)) };
            assert_eq!(late.kept().delay_seconds, kept);
        }
    }
}
