use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, Visitor},
};
use serde_json::value::RawValue;
use tasker_wire::{
    Outcome,
    child::{Ready, ReadyLine, ReplyLine},
    limits,
    outcome::Failure,
};

use super::outline::Outline;

/// A later line of a child.
#[derive(Debug)]
pub(super) enum Line {
    Outcome(u64, Box<Outcome>),
    Heartbeat(u64),
    /// Whether the child still has the step.
    Held(u64, bool),
    /// An invalid outcome for a known step number, with the reason.
    BadOutcome(u64, String),
    /// A line outside of the protocol.
    Garbage(String),
}

/// A line whose outcome may be a failure.
#[derive(Deserialize)]
struct FailureLine<'a> {
    id: u64,
    #[serde(borrow)]
    outcome: HashMap<String, &'a RawValue>,
}

/// A failure of an SDK that takes the protocol less exactly: its words count, whatever their types.
#[derive(Deserialize)]
struct LooseFailure<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    error_type: Option<&'a RawValue>,
    #[serde(borrow)]
    error_code: Option<&'a RawValue>,
    #[serde(borrow)]
    retryable: Option<&'a RawValue>,
    #[serde(borrow)]
    delay_seconds: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

impl LooseFailure<'_> {
    /// The context is only read from a whole line, because it is empty in an outline.
    fn read(self, is_whole: bool) -> Failure {
        let context = |raw: &RawValue| {
            let read = if is_whole { serde_json::from_str(raw.get()).ok() } else { None };
            read.unwrap_or_else(|| serde_json::json!({"left_out": "a context that is too large or cannot be read"}))
        };
        Failure {
            message: words(self.message).unwrap_or_else(|| "the failure has no message".into()),
            error_type: words(self.error_type).unwrap_or_else(|| "handler_error".into()),
            error_code: words(self.error_code),
            // As any error that nobody knows.
            retryable: self.retryable.is_none_or(|raw| raw.get() != "false"),
            delay_seconds: self.delay_seconds.and_then(|raw| raw.get().parse().ok()).filter(|delay: &f64| delay.is_finite()),
            context: self.context.map(context),
        }
    }
}

/// A text, number or boolean as text.
fn words(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw?.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str::<Lossy>(raw).ok().map(|text| text.0),
        b'{' | b'[' | b'n' => None,
        _ => Some(raw.into()),
    }
}

/// The failure in a line, or in the outline of one.
fn failure_in(line: &[u8], is_whole: bool) -> Option<(u64, Failure)> {
    let text = String::from_utf8_lossy(line);
    let FailureLine { id, outcome } = serde_json::from_str(&text).ok()?;
    // A list would be read as a failure, field by field.
    let failure = outcome.get("failure").filter(|raw| raw.get().starts_with('{'))?;
    let failure: LooseFailure = serde_json::from_str(failure.get()).ok()?;
    Some((id, failure.read(is_whole)))
}

/// A text in which bytes that are not UTF-8 and halves of surrogate pairs are replaced.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Lossy;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }

        // serde_json checks the content of strings, but not that of bytes.
        deserializer.deserialize_bytes(Text)
    }
}

/// Reads the step number of an invalid outcome.
#[derive(Deserialize)]
struct NumberLine {
    id: u64,
    outcome: Option<IgnoredAny>,
}

/// Reads the first line.
pub(super) fn read_ready(line: &[u8]) -> Option<Ready> {
    serde_json::from_slice::<ReadyLine>(line).ok().map(|first| first.ready)
}

/// Reads any other line.
pub(super) fn read(line: &[u8]) -> Line {
    match serde_json::from_slice::<ReplyLine>(line) {
        Ok(ReplyLine { id, outcome: Some(Outcome::Started {} | Outcome::Heartbeat {}), .. }) => Line::Heartbeat(id),
        Ok(ReplyLine { id, outcome: Some(Outcome::Failure(failure)), .. }) => kept(id, failure),
        Ok(ReplyLine { id, outcome: Some(outcome), .. }) => Line::Outcome(id, Box::new(outcome)),
        Ok(ReplyLine { id, heartbeat: Some(_), .. }) => Line::Heartbeat(id),
        Ok(ReplyLine { id, held: Some(held), .. }) => Line::Held(id, held),
        Ok(ReplyLine { id, .. }) => Line::BadOutcome(id, "the line has no outcome".into()),
        Err(error) => {
            let outline = Outline::of(line);
            if let Some((id, failure)) = failure_in(line, true).or_else(|| failure_in(&outline, false)) {
                return kept(id, failure);
            }
            match serde_json::from_slice::<NumberLine>(&outline) {
                Ok(NumberLine { id, outcome: Some(_) }) => Line::BadOutcome(id, error.to_string()),
                Ok(NumberLine { id, outcome: None }) => Line::BadOutcome(id, "the line has no outcome".into()),
                Err(_) => Line::Garbage(excerpt(line)),
            }
        }
    }
}

/// Reads the outline of a line that was above the limit: a failure stays the failure that it is.
pub(super) fn read_outline(outline: &[u8]) -> Line {
    if let Some((id, failure)) = failure_in(outline, false) {
        return kept(id, failure);
    }
    match id_at_start(outline) {
        Some(id) => Line::Outcome(id, Box::new(too_large())),
        None => Line::Garbage(excerpt(outline)),
    }
}

fn kept(id: u64, failure: Failure) -> Line {
    Line::Outcome(id, Box::new(Outcome::Failure(failure.kept())))
}

/// The failure of a step whose outcome was above the limit of a line.
pub(super) fn too_large() -> Outcome {
    let (most, kept) = (limits::WORKER_LINE_BYTES, limits::RESULT_BYTES);
    let message = format!(
        "the outcome has more than {most} bytes; at most {kept} are allowed. Store the data elsewhere and return a reference; a \
         batchable step makes fewer batches"
    );
    Outcome::Failure(Failure::permanent("result_too_large", message))
}

/// The step number from the beginning of a line. SDKs write `{"id":` first.
pub(super) fn id_at_start(line: &[u8]) -> Option<u64> {
    let start = std::str::from_utf8(&line[..line.len().min(64)]).unwrap_or_default();
    let rest =
        start.trim_start().strip_prefix('{')?.trim_start().strip_prefix("\"id\"")?.trim_start().strip_prefix(':')?.trim_start();
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The beginning of a line, for a message.
pub(super) fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
    if line.len() > shown.len() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_recognized() {
        assert!(matches!(read(br#"{"id":7,"outcome":{"success":{"result":[1, 2]}}}"#), Line::Outcome(7, _)));
        assert!(matches!(
            read(br#"{"id":7,"outcome":{"failure":{"message":"m","error_type":"t","retryable":true}}}"#),
            Line::Outcome(7, _)
        ));
        assert!(matches!(read(br#"{"id":7,"heartbeat":{}}"#), Line::Heartbeat(7)));
        assert!(matches!(read(br#"{"id":7,"outcome":{"heartbeat":{}}}"#), Line::Heartbeat(7)));
        assert!(matches!(read(br#"{"id":7,"held":true}"#), Line::Held(7, true)));
        assert!(matches!(read(br#"{"id":7,"held":false}"#), Line::Held(7, false)));
        assert!(matches!(read(br#"{"id":7,"outcome":{"victory":{}}}"#), Line::BadOutcome(7, _)));
        assert!(matches!(read(br#"{"id":7,"outcome":{"success":{}}}"#), Line::BadOutcome(7, _)));
        assert!(matches!(read(br#"{"id":7}"#), Line::BadOutcome(7, _)));
        for garbage in
            [&b"hello"[..], b"", b"[]", b"{\"id\":-1}", b"{\"id\":7", b"\xff\xfe", b"{\"outcome\":{\"success\":{\"result\":1}}}"]
        {
            assert!(matches!(read(garbage), Line::Garbage(_)), "{garbage:?}");
        }
    }

    #[test]
    fn a_failure_is_read_although_its_texts_or_its_context_cannot_be() {
        let failure = |line: &[u8]| match read(line) {
            Line::Outcome(7, outcome) => match *outcome {
                Outcome::Failure(failure) => failure,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let line = |message: &[u8], context: &str| {
            let start = br#"{"id":7,"outcome":{"failure":{"error_type":"mine","retryable":false,"message":""#;
            [&start[..], message, br#"","context":"#, context.as_bytes(), b"}}}"].concat()
        };
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for (message, context, read) in [
            (&b"caf\\udce9.csv"[..], "null", "caf"),
            (b"caf\xe9.csv", "{}", "caf"),
            (b"deep", &deep, "deep"),
            (b"number", r#"{"n":1e400}"#, "number"),
            (b"not JSON", r#"{"n":[NaN]}"#, "not JSON"),
        ] {
            let found = failure(&line(message, context));
            assert!(found.message.starts_with(read), "{}", found.message);
            assert_eq!((found.error_type.as_str(), found.retryable), ("mine", false));
        }
        let found = failure(&line(b"words", r#"{"n":1e400}"#));
        assert!(found.context.unwrap()["left_out"].is_string());
        assert_eq!(failure(&line(&[b'x'; 5000], "null")).message.chars().count(), limits::ERROR_CHARS);
        assert!(matches!(read(br#"{"id":7,"outcome":{"success":{"result":{"n":NaN}}}}"#), Line::BadOutcome(7, _)));
    }

    #[test]
    fn a_failure_with_a_slip_keeps_its_own_words() {
        let read = |failure: &str| match read(format!(r#"{{"id":7,"outcome":{{"failure":{failure}}}}}"#).as_bytes()) {
            Line::Outcome(7, outcome) => match *outcome {
                Outcome::Failure(failure) => failure,
                other => panic!("{other:?}"),
            },
            other => panic!("{failure}: {other:?}"),
        };
        let own = r#""message":"declined","error_type":"mine","retryable":false,"context":{"bank":"b"}"#;
        for (slip, code) in [
            (r#""error_code":42"#, Some("42")),
            (r#""error_code":true"#, Some("true")),
            (r#""error_code":{"a":1}"#, None),
            (r#""error_code":"E\udce91","delay_seconds":{}"#, Some("E\u{fffd}\u{fffd}\u{fffd}1")),
            (r#""delay_seconds":"soon""#, None),
            (r#""delay_seconds":[1]"#, None),
            (r#""delay_seconds":1e400"#, None),
        ] {
            let found = read(&format!("{{{own},{slip}}}"));
            assert_eq!((found.message.as_str(), found.error_type.as_str(), found.retryable), ("declined", "mine", false));
            assert_eq!((found.error_code.as_deref(), found.delay_seconds), (code, None), "{slip}");
            assert_eq!(found.context.unwrap()["bank"], "b", "{slip}");
        }
        for retryable in ["", r#","retryable":"no""#, r#","retryable":0"#, r#","retryable":null"#] {
            let found = read(&format!(r#"{{"message":404,"delay_seconds":2.5{retryable}}}"#));
            assert_eq!((found.message.as_str(), found.error_type.as_str(), found.retryable), ("404", "handler_error", true));
            assert_eq!(found.delay_seconds, Some(2.5));
        }
        assert_eq!(read(r#"{"error_type":"mine","message":null}"#).message, "the failure has no message");
        for no_object in ["[]", "null", "7", r#""declined""#, r#"["m","t"]"#] {
            let line = format!(r#"{{"id":7,"outcome":{{"failure":{no_object}}}}}"#);
            assert!(matches!(super::read(line.as_bytes()), Line::BadOutcome(7, _)), "{no_object}");
        }
    }

    #[test]
    fn a_result_is_kept_as_the_child_wrote_it() {
        let Line::Outcome(_, outcome) = read(br#"{"id":1,"outcome":{"success":{"result":{"n": 1e400, "b":2}}}}"#) else {
            panic!()
        };
        let Outcome::Success { result, .. } = *outcome else { panic!() };
        assert_eq!(result.get(), r#"{"n": 1e400, "b":2}"#);
    }

    #[test]
    fn the_number_is_read_from_a_line_that_was_cut() {
        assert_eq!(id_at_start(br#"{"id":42,"outcome":{"succ"#), Some(42));
        assert_eq!(id_at_start(b" { \"id\" : 42 , "), Some(42));
        assert_eq!(id_at_start(br#"{"outcome":{"id":1"#), None);
        assert_eq!(id_at_start(b"xxxx"), None);
    }
}
