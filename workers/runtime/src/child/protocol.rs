use serde::Deserialize;
use serde_json::value::RawValue;
use tasker_wire::{
    Outcome,
    child::{Ready, ReadyLine, ReplyLine},
};

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

/// Reads the step number of an invalid outcome.
#[derive(Deserialize)]
struct LooseReply<'a> {
    id: u64,
    #[serde(borrow)]
    outcome: Option<&'a RawValue>,
}

/// Reads the first line.
pub(super) fn read_ready(line: &[u8]) -> Option<Ready> {
    serde_json::from_slice::<ReadyLine>(line).ok().map(|first| first.ready)
}

/// Reads any other line.
pub(super) fn read(line: &[u8]) -> Line {
    match serde_json::from_slice::<ReplyLine>(line) {
        Ok(ReplyLine { id, outcome: Some(Outcome::Started {} | Outcome::Heartbeat {}), .. }) => Line::Heartbeat(id),
        Ok(ReplyLine { id, outcome: Some(outcome), .. }) => Line::Outcome(id, Box::new(outcome)),
        Ok(ReplyLine { id, heartbeat: Some(_), .. }) => Line::Heartbeat(id),
        Ok(ReplyLine { id, .. }) => Line::BadOutcome(id, "the line has no outcome".into()),
        Err(error) => match serde_json::from_slice::<LooseReply>(line) {
            Ok(LooseReply { id, outcome: Some(_) }) => Line::BadOutcome(id, error.to_string()),
            Ok(LooseReply { id, outcome: None }) => Line::BadOutcome(id, "the line has no outcome".into()),
            Err(_) => Line::Garbage(excerpt(line)),
        },
    }
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
