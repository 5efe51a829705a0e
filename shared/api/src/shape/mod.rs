//! Converts rows of the store to the documents of [`tasker_wire::rest`], one file per document.

mod action;
mod dlq;
mod doctor;
mod explain;
mod step;
mod task;
mod template;

use jiff::Timestamp;

pub(crate) use action::{action, pause, pause_change};
pub(crate) use dlq::{dlq_cause, dlq_entry, dlq_stats, recovered, staleness, urgent_entry};
pub(crate) use doctor::report;
pub(crate) use explain::explanation;
pub(crate) use step::step;
pub(crate) use task::{listed, task};
pub(crate) use template::{detail, templates};

/// RFC 3339 with `Z` and six digits, as Tasker writes it where its clients read a string.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// ISO 8601 in UTC without an offset. Tasker's clients read a time without an offset here, and fail on an offset.
fn naive(time: Timestamp) -> String {
    micros(time).trim_end_matches('Z').to_owned()
}
