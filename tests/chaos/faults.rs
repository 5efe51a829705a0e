//! What a seed does to the engine, counted by kind.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The queue lost a message.
    Dropped,
    /// The queue delivered a message twice.
    Doubled,
    /// The queue kept a message for minutes.
    Delayed,
    /// The queue delivered a message after a later one.
    Reordered,
    /// The queue delivered a wake-up before its time.
    Early,
    /// The queue refused a part of a batch.
    Refused,
    /// The queue refused a message and delivered it all the same.
    RefusedAndDelivered,
    /// A statement never reached the database.
    CutBeforeCommit,
    /// A statement was carried out and its answer lost.
    CutInCommit,
    /// The note that a message was sent never reached the database, or its answer was lost.
    CutAfterSend,
    /// The process died between the commit and the sending.
    KilledBeforeSend,
    /// The process died with a cut.
    Killed,
    /// A worker died with a step.
    WorkerDied,
    /// A worker answered long after its deadline.
    LateAnswer,
    /// A worker that had run a step before answered a re-send by giving it back.
    Released,
    /// Two sweeps at once: the second one comes while the first one holds what it found.
    TwoSweeps,
    /// Two evaluations at once, of the same steps.
    TwoEvaluations,
    /// Two completers at once, over the same completions or over siblings.
    TwoCompleters,
    /// Two parents of a step completed in overlapping transactions.
    Met,
    /// A cancel at once with a completion.
    CancelledInFlight,
    /// The clock leapt.
    ClockLeapt,
    /// An old answer came once more when all was over.
    Echo,
}

/// How often each kind was done.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Counts>);

pub type Counts = BTreeMap<Fault, u64>;

impl Faults {
    pub fn note(&self, fault: Fault) {
        *self.lock().entry(fault).or_default() += 1;
    }

    pub fn total(&self) -> u64 {
        self.lock().values().sum()
    }

    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.push(c.to_ascii_lowercase());
        }
        f.pad(&words)
    }
}
