//! Says values as text or JSON of a bounded size. Nothing here panics, although it calls the `Display` and `Serialize` of handlers.

use std::{
    fmt::{self, Display, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tasker_wire::{kept, limits};

/// The text of a value, or what it wrote until it failed, panicked, or wrote more than is kept. `None` if it wrote nothing.
pub(crate) fn text_of(value: &dyn Display) -> Option<String> {
    let mut text = Text(String::new());
    let _ = catch_unwind(AssertUnwindSafe(|| write!(text, "{value}")));
    (!text.0.is_empty()).then(|| kept::kept_text(text.0))
}

/// A value as JSON, or a text that says why it is not.
pub(crate) fn json_of(value: &impl Serialize) -> Value {
    match catch_unwind(AssertUnwindSafe(|| serde_json::to_value(value))) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => json!({ "left_out": format!("it is not JSON: {}", text_of(&error).unwrap_or_default()) }),
        Err(_) => json!({ "left_out": "it is not JSON: its Serialize panicked" }),
    }
}

/// Metadata as it is sent: unchanged if it can be kept.
pub(crate) fn metadata_of(value: &impl Serialize) -> Box<RawValue> {
    let written = catch_unwind(AssertUnwindSafe(|| to_raw_value(value)));
    if let Ok(Ok(raw)) = written
        && raw.get().len() <= limits::METADATA_BYTES
        && !raw.get().contains("\\u0000")
    {
        return raw;
    }
    to_raw_value(&kept::kept_json(json_of(value))).expect("a JSON value serializes")
}

/// Takes as many bytes as the characters that are kept can have, and a few more.
struct Text(String);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (4 * limits::ERROR_CHARS + 4).saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}
