//! Verdicts that the database ends again and again because they take too long, while it records others.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tasker_wire::Lease;

/// A statement that is ended earlier waited for a lock, or was cancelled.
const LONG: Duration = Duration::from_secs(20);
/// A verdict that was ended so often fails its step. A database that is slow for everything fails none.
const TRIES: u32 = 3;

#[derive(Default)]
pub(crate) struct SlowVerdicts {
    /// The rounds that were recorded.
    recorded: AtomicU64,
    /// How often a verdict was ended, and the recorded rounds at the last time.
    ended: Mutex<HashMap<Lease, (u32, u64)>>,
}

impl SlowVerdicts {
    pub fn recorded(&self, round: impl Iterator<Item = Lease>) {
        self.recorded.fetch_add(1, Relaxed);
        let mut ended = self.ended.lock();
        if !ended.is_empty() {
            for lease in round {
                ended.remove(&lease);
            }
        }
    }

    /// The database ended the verdict on this lease, alone and without a lock in its way, after that time. Whether to give it up: for the
    /// third time, and each time other verdicts were recorded in between.
    pub fn is_too_slow(&self, lease: Lease, after: Duration) -> bool {
        if after < LONG {
            return false;
        }
        let recorded = self.recorded.load(Relaxed);
        let mut ended = self.ended.lock();
        let (times, at) = ended.entry(lease).or_insert((0, u64::MAX));
        if recorded != *at {
            (*times, *at) = (*times + 1, recorded);
        }
        *times >= TRIES
    }
}

#[cfg(test)]
mod tests {
    use tasker_wire::TaskId;

    use super::*;

    #[test]
    fn a_verdict_is_given_up_only_if_others_are_recorded_meanwhile() {
        let lease = |no| Lease { step: TaskId::from_fresh(uuid::Uuid::from_u128(1 << 90)).step(no), number: 1 };
        let slow = SlowVerdicts::default();
        let is_too_slow = |after| slow.is_too_slow(lease(1), after);
        assert!((0..5).all(|_| !is_too_slow(LONG)), "nothing else is recorded either");
        slow.recorded([lease(2)].into_iter());
        assert!(!is_too_slow(LONG));
        slow.recorded([lease(2)].into_iter());
        assert!(!is_too_slow(Duration::from_secs(2)), "it waited for a lock");
        assert!(is_too_slow(LONG));
        slow.recorded([lease(1)].into_iter());
        assert!(!is_too_slow(LONG), "it was recorded");
    }
}
