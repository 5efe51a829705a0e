//! What the orchestrator answers to a completion.

use serde::{Deserialize, Serialize};

/// What became of one completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It moved the step; or it was a report, and the handler may go on.
    Accepted,
    /// The same outcome was applied before. Nothing changed.
    Duplicate,
    /// Another lease is current, or another outcome was applied. It is recorded and nothing changed: a handler that still runs may stop.
    Stale,
    /// The step was never dispatched under this lease.
    Refused,
    /// A report while a callback is awaited, or a verdict about a deadline that has moved.
    Ignored,
    /// Its token was not signed by us, or not for this step, lease and attempt.
    Forged,
    /// Another session holds a lock on a row that it changes. Nothing changed; it is tried again later.
    Locked,
    /// Its token names a key or a template that this process does not know. Another process may, or this one later.
    Unknown,
}
