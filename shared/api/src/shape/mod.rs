//! Conversions from what the store reads to the documents of [`tasker_wire::rest`], one file a document.

mod doctor;
mod step;
mod task;
mod template;

use jiff::Timestamp;

pub(crate) use doctor::report;
pub(crate) use step::step;
pub(crate) use task::{listed, task};
pub(crate) use template::{detail, templates};

/// RFC 3339 with `Z` and six digits: what Tasker writes where its clients read a string.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// ISO 8601 without an offset: what Tasker's clients read as a local time that means UTC. With one they fail.
fn naive(time: Timestamp) -> String {
    micros(time).trim_end_matches('Z').to_owned()
}
