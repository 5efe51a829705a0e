//! The check before a step starts.

use futures::future::BoxFuture;
use tasker_wire::{Outcome, RunStep};

/// Decides whether a step may start. It belongs to the side that receives steps, and may wait, for example for a network: a step that
/// waits at its gate holds up no other.
pub trait Gate: Send + Sync + 'static {
    /// Asked each time a step would start: after it waited for a free place, and again after its process died. `Some` is the outcome
    /// of a step that must not start.
    fn refusal<'a>(&'a self, step: &'a RunStep) -> BoxFuture<'a, Option<Outcome>>;
}
