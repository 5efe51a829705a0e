//! The last question before a step is started.

use std::{fmt, sync::Arc};

use tasker_wire::{Outcome, RunStep};

type Ask = dyn Fn(&RunStep) -> Option<Outcome> + Send + Sync;

/// Asked each time that a step would be started, after it waited for its place and also when its process died: whether it may be.
#[derive(Clone, Default)]
pub struct Gate(Option<Arc<Ask>>);

impl Gate {
    /// Asks `refusal`, which must not wait. `Some`: the step is not started, and this is its outcome.
    pub fn new(refusal: impl Fn(&RunStep) -> Option<Outcome> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(refusal)))
    }

    pub(crate) fn refusal(&self, step: &RunStep) -> Option<Outcome> {
        self.0.as_ref().and_then(|ask| ask(step))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Gate" } else { "Gate(open)" })
    }
}
