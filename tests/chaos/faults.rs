//! The faults that a seed injects, counted by kind.

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
    /// The queue refused a message and still delivered it.
    RefusedAndDelivered,
    /// A statement never reached the database.
    CutBeforeCommit,
    /// A statement was committed and its answer lost.
    CutInCommit,
    /// The statement that marks a message as sent was cut, before or after its commit.
    CutAfterSend,
    /// The process died between the commit and the send.
    KilledBeforeSend,
    /// The process died when its connection was cut.
    Killed,
    /// A worker died while it ran a step.
    WorkerDied,
    /// A worker answered long after its deadline.
    LateAnswer,
    /// A worker that had already run a step released its re-send.
    Released,
    /// Two sweeps at once: the second one starts while the first one holds its rows.
    TwoSweeps,
    /// Two evaluations at once, of the same steps.
    TwoEvaluations,
    /// Two completers at once, with the same completions or with those of siblings.
    TwoCompleters,
    /// Two parents of a step completed in overlapping transactions.
    Met,
    /// A cancel and a completion at once.
    CancelledInFlight,
    /// The clock jumped ahead.
    ClockJumped,
    /// An old outcome was sent again after the end.
    OldAnswer,
}

/// After so many faults a seed injects no more, so that it ends.
const ENOUGH: u64 = 50;

/// How often each kind was injected.
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

    /// Whether there were enough at the last [`Self::settle`]. Calls at once would pass the bound in any order.
    pub fn enough(&self) -> bool {
        self.enough.load(SeqCst)
    }

    /// Counts the faults: between calls.
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
