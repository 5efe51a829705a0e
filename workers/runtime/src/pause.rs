//! Notices that this process stood still: it was stopped by a signal, its machine slept, or it got no time to run. Then everything looks
//! late that was only not read, so a loop that judges lateness first reads, and gives the time of the pause again.

use std::time::Duration;

use tokio::time::Instant;

/// How often a loop looks at the time while it measures something.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// A loop that was not heard of for so long stood still. Shorter delays are ordinary on a busy machine.
const PAUSE: Duration = Duration::from_secs(1);

/// When a loop last looked at the time.
#[derive(Debug)]
pub(crate) struct Awake(Instant);

impl Awake {
    pub fn since(now: Instant) -> Self {
        Self(now)
    }

    /// When to look next.
    pub fn next_tick(&self) -> Instant {
        self.0 + TICK
    }

    /// How long the loop stood still, if it did. Sleep that stops the monotonic clock too, as on Linux, is no pause: no time passed.
    pub fn pause(&mut self, now: Instant) -> Option<Duration> {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.0, now));
        (gap >= PAUSE).then_some(gap)
    }
}

/// A deadline after a pause. The least of a second lets those that wait for us, such as a child with a full pipe, go on first.
pub(crate) fn postponed(deadline: Instant, pause: Duration, now: Instant) -> Instant {
    (deadline + pause).max(now + PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_between_two_looks_is_a_pause_and_a_short_one_is_not() {
        let start = Instant::now();
        let mut awake = Awake::since(start);
        assert_eq!(awake.pause(start + TICK), None);
        assert_eq!(awake.pause(start + TICK + Duration::from_secs(80)), Some(Duration::from_secs(80)));
        assert_eq!(awake.pause(start + TICK + Duration::from_secs(80)), None, "it is told once");
    }

    #[test]
    fn a_deadline_keeps_what_was_left_of_it_and_at_least_a_second() {
        let (start, pause) = (Instant::now(), Duration::from_secs(80));
        let after = start + pause;
        assert_eq!(postponed(start + Duration::from_secs(7), pause, after), after + Duration::from_secs(7));
        assert_eq!(postponed(start, pause, after), after + Duration::from_secs(1));
    }
}
