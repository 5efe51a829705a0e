//! Lines of child processes, which may be of any language and any quality.

use tasker_wire::Outcome;

use super::protocol::{self, Line};

/// A line has the same meaning each time; an outcome survives being written and read again.
pub fn run(line: &[u8]) {
    let shown = |line: &[u8]| format!("{:?}", protocol::read(line));
    assert_eq!(shown(line), shown(line), "the parser changed its mind");
    match protocol::read(line) {
        Line::Outcome(id, outcome) => {
            assert!(!matches!(*outcome, Outcome::Started {} | Outcome::Heartbeat {}), "that is a sign of life");
            let again =
                format!(r#"{{"id":{id},"outcome":{}}}"#, serde_json::to_string(&outcome).expect("an outcome can be written"));
            let Line::Outcome(same, other) = protocol::read(again.as_bytes()) else { panic!("{again} is no outcome") };
            assert_eq!((id, format!("{outcome:?}")), (same, format!("{other:?}")));
        }
        Line::BadOutcome(_, why) => assert!(!why.is_empty()),
        Line::Garbage(excerpt) => assert!(excerpt.chars().count() <= 81 && !excerpt.chars().any(char::is_control)),
        Line::Heartbeat(_) | Line::Held(..) => {}
    }
    // A line that was cut is identified by its beginning, under the same number as the whole line.
    if let (Some(start), Line::Outcome(id, _) | Line::Heartbeat(id) | Line::Held(id, _)) =
        (protocol::id_at_start(line), protocol::read(line))
    {
        assert_eq!(start, id, "the beginning names another step");
    }
    let _ = protocol::read_ready(line);
}
