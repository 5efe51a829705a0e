//! When each dispatch was sent, by the database's clock. Whatever is lost, cut or killed, the same one is not sent again before its
//! send lease is over; and where the queue took it and that was noted, not before its re-send is due.

use std::collections::HashMap;

use tasker_wire::{limits, message::Lease};

/// Milliseconds until a dispatch that was noted as sent is sent again; doubles with each time, up to six hours.
const RESEND_MS: u64 = 15 * 60_000;
const RESEND_MAX_MS: u64 = 6 * 3_600_000;

/// Every sending of a seed, and what is wrong about them.
#[derive(Debug, Default)]
pub struct Sends {
    last: HashMap<Lease, Sent>,
    /// Of the call that is made now: taken by the queue, and perhaps not noted.
    taken: Vec<Lease>,
    wrong: Vec<String>,
}

#[derive(Debug)]
struct Sent {
    at_ms: u64,
    resend: u32,
    noted: bool,
}

impl Sends {
    /// A message of a dispatch reaches the queue, which takes it or refuses it.
    pub fn send(&mut self, at_ms: u64, key: Lease, resend: u32, taken: bool) {
        if let Some(before) = self.last.insert(key, Sent { at_ms, resend, noted: false }) {
            let (gap, least) = (at_ms.saturating_sub(before.at_ms), before.least_ms());
            if gap < least {
                self.wrong.push(format!(
                    "step {} of task {} was sent twice under lease {}, {gap} ms apart and not {least}: {before:?}, then at {at_ms}",
                    key.step.no, key.step.task, key.number
                ));
            }
        }
        if taken {
            self.taken.push(key);
        }
    }

    /// A call is over: either all it sent was noted in the database, or perhaps not.
    pub fn called(&mut self, noted: bool) {
        for key in self.taken.drain(..) {
            if let Some(sent) = self.last.get_mut(&key) {
                sent.noted |= noted;
            }
        }
    }

    /// The first thing that is wrong.
    pub fn wrong(&self) -> Option<&str> {
        self.wrong.first().map(String::as_str)
    }
}

impl Sent {
    fn least_ms(&self) -> u64 {
        if self.noted { (RESEND_MS << self.resend.min(16)).min(RESEND_MAX_MS) } else { limits::SEND_LEASE_MS as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: u64 = limits::SEND_LEASE_MS as u64;

    fn key(lease: i32) -> Lease {
        let task = tasker_wire::TaskId::from_fresh(uuid::Uuid::from_u128(7 << 64));
        Lease { step: task.step(1), number: lease }
    }

    /// What is wrong when a dispatch is sent at 0 and again so much later.
    fn again(noted: bool, at_ms: u64, lease: i32) -> bool {
        let mut sends = Sends::default();
        sends.send(0, key(1), 0, true);
        sends.called(noted);
        sends.send(at_ms, key(lease), 1, true);
        sends.wrong().is_some()
    }

    #[test]
    fn a_second_sending_within_the_send_lease_is_wrong() {
        assert!(again(false, 0, 1));
        assert!(again(false, LEASE_MS - 1, 1));
    }

    #[test]
    fn a_sending_that_was_not_noted_may_be_repeated_after_its_lease() {
        assert!(!again(false, LEASE_MS, 1));
    }

    #[test]
    fn a_sending_that_was_noted_is_repeated_when_its_resend_is_due() {
        assert!(again(true, LEASE_MS, 1));
        assert!(!again(true, RESEND_MS, 1));
    }

    #[test]
    fn the_next_lease_may_be_sent_at_once() {
        assert!(!again(true, 0, 2));
    }
}
