//! The JSON of Tasker's REST interface, as its clients parse it. Times come in two dialects, and counters are integers.

mod step;
mod task;

use jiff::Timestamp;
use serde::Serializer;

pub(crate) use step::StepResponse;
pub(crate) use task::TaskResponse;

/// RFC 3339 with `Z` and six digits: what Tasker writes where its clients read a string.
fn micros<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

/// [`micros`], or null.
fn micros_or_null<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => micros(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// ISO 8601 without an offset, or null: what Tasker's clients read as a local time that means UTC. With one they fail.
fn naive_or_null<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_str(format!("{time:.6}").trim_end_matches('Z')),
        None => serializer.serialize_none(),
    }
}
