//! The place of a fault must exist in the input, because its reader looks it up there.

use serde_json::Value;
use tasker_wire::Fault;

/// Every pointer leads to a value of the input, or to a member that its object lacks.
/// A pointer that shows a control character as an escape is exempt.
pub fn resolve<'a>(faults: impl IntoIterator<Item = &'a Fault>, input: &Value, rest: &str) {
    for fault in faults {
        let pointed = fault.place.is_empty() || fault.place.starts_with('/');
        if !pointed {
            assert!(is_position(&fault.place), "{:?} is neither a pointer nor a position: {fault}", fault.place);
            continue;
        }
        if fault.place.contains("\\u{") || fault.message.contains(rest) {
            continue;
        }
        let parent = fault.place.rsplit_once('/').map_or("", |(parent, _)| parent);
        let there = input.pointer(&fault.place).is_some() || input.pointer(parent).is_some_and(Value::is_object);
        assert!(there, "{:?} leads nowhere in {input}: {fault}", fault.place);
    }
}

fn is_position(place: &str) -> bool {
    place.split_once(':').is_some_and(|(line, column)| line.parse::<usize>().is_ok() && column.parse::<usize>().is_ok())
}
