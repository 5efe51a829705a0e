//! How fast letters are sent.

use std::time::{Duration, Instant};

/// Gives out the moments at which something may happen, evenly spread: a pause is not made up for by a burst.
#[derive(Debug)]
pub struct Pace {
    gap: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// So many a second.
    pub fn new(per_second: u32) -> Self {
        Self { gap: Duration::from_secs(1) / per_second.max(1), next: None }
    }

    /// The first moment from `now` on that nobody has.
    pub fn slot(&mut self, now: Instant) -> Instant {
        let slot = self.next.map_or(now, |next| next.max(now));
        self.next = Some(slot + self.gap);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_a_second_are_twenty_milliseconds_apart_also_after_a_pause() {
        let (mut pace, begin) = (Pace::new(50), Instant::now());
        let ms = |ms| Duration::from_millis(ms);
        let mut after = |now| pace.slot(begin + now) - begin;
        assert_eq!([after(ms(0)), after(ms(0)), after(ms(1))], [ms(0), ms(20), ms(40)]);
        assert_eq!([after(ms(500)), after(ms(500))], [ms(500), ms(520)]);
    }
}
