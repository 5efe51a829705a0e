//! When each dispatched step was sent, by the database's clock. Whatever is lost, cut or killed, it is not sent again before its
//! send lease ends; and if the queue accepted it and the database knows, not before its re-send is due.

use std::collections::HashMap;

use tasker_wire::{limits, message::Lease};

/// Milliseconds until a step that is marked as sent is sent again. Doubles with each re-send, up to six hours.
const RESEND_MS: u64 = 15 * 60_000;
const RESEND_MAX_MS: u64 = 6 * 3_600_000;

/// Every send of a seed, and the sends that came too early.
#[derive(Debug, Default)]
pub struct Sends {
    last: HashMap<Lease, Sent>,
    /// Sends of the current call that the queue accepted, and of which the database may not know.
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
    /// A message reaches the queue, which accepts or refuses it.
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

    /// A call has ended. `noted`: the database knows of everything that it sent.
    pub fn called(&mut self, noted: bool) {
        for key in self.taken.drain(..) {
            if let Some(sent) = self.last.get_mut(&key) {
                sent.noted |= noted;
            }
        }
    }

    /// The first send that came too early.
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

    /// Whether a second send is wrong, so much later than the first.
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
