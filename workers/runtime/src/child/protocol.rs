use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, Visitor},
};
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
    /// An invalid outcome for a known step number, with the reason.
    BadOutcome(u64, String),
    /// A line outside of the protocol.
    Garbage(String),
}

/// Reads the outline of a line whose outcome is a failure.
#[derive(Deserialize)]
struct FailureLine {
    id: u64,
    outcome: FailureOutcome,
}

#[derive(Deserialize)]
struct FailureOutcome {
    failure: LooseFailure,
}

/// A failure whose texts need not be Unicode.
#[derive(Deserialize)]
struct LooseFailure {
    message: Lossy,
    error_type: Lossy,
    #[serde(default)]
    error_code: Option<Lossy>,
    retryable: bool,
    #[serde(default)]
    delay_seconds: Option<f64>,
    #[serde(default)]
    context: Option<IgnoredAny>,
}

impl From<LooseFailure> for Failure {
    fn from(loose: LooseFailure) -> Self {
        let LooseFailure { message, error_type, error_code, retryable, delay_seconds, context } = loose;
        Self {
            message: message.0,
            error_type: error_type.0,
            error_code: error_code.map(|code| code.0),
            retryable,
            delay_seconds,
            context: context.map(|_| serde_json::json!({"left_out": "a context that is too large or cannot be read"})),
        }
    }
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
        Ok(ReplyLine { id, .. }) => Line::BadOutcome(id, "the line has no outcome".into()),
        Err(error) => {
            let outline = Outline::of(line);
            if let Ok(FailureLine { id, outcome }) = serde_json::from_slice(&outline) {
                return kept(id, outcome.failure.into());
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
    if let Ok(FailureLine { id, outcome }) = serde_json::from_slice(outline) {
        return kept(id, outcome.failure.into());
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
        "the outcome has more than {most} bytes; at most {kept} are allowed. Store the data elsewhere and return a reference"
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
