//! What a seed does to the engine, counted by kind.

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use parking_lot::Mutex;

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
    OldAnswer,
}

/// Faults of a seed beyond which everything behaves, so that every seed ends.
const ENOUGH: u64 = 50;

/// How often each kind was done.
#[derive(Debug, Default)]
pub struct Faults {
    counts: Mutex<Counts>,
    enough: AtomicBool,
}

pub type Counts = BTreeMap<Fault, u64>;

impl Faults {
    pub fn note(&self, fault: Fault) {
        *self.counts.lock().entry(fault).or_default() += 1;
    }

    pub fn total(&self) -> u64 {
        self.counts.lock().values().sum()
    }

    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// Whether there were enough when it was last looked at. Calls at once would pass the bound in any order.
    pub fn enough(&self) -> bool {
        self.enough.load(SeqCst)
    }

    /// Looks whether there are enough: between calls.
    pub fn settle(&self) {
        self.enough.store(self.total() > ENOUGH, SeqCst);
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
