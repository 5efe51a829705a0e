//! The check before a step starts.

use futures::future::BoxFuture;
use tasker_wire::{Outcome, RunStep};

/// Decides whether a step may start; the receiving side implements it. It may wait, for example for a network call, and does
/// not delay other steps.
pub trait Gate: Send + Sync + 'static {
    /// Called each time a step would start: after it waited for a free place, and again after its process died. `Some` is the outcome
    /// of a step that must not start.
    fn refusal<'a>(&'a self, step: &'a RunStep) -> BoxFuture<'a, Option<Outcome>>;
}
