//! Watches the clock of the database: a jump is noticed, logged and counted, and no step is judged late because of a jump, or because this
//! process was paused.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tasker_queue::Queue;
use tasker_store::StoreError;

use crate::Engine;

/// A difference between the two clocks that is no drift and no slow answer.
const JUMP: Duration = Duration::from_secs(5);
/// How long after a jump or a pause no step is judged late: what was answered meanwhile is applied first.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct ClockWatch(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    /// The last time of the database, with this process's at that moment.
    seen: Option<(Timestamp, Duration)>,
    jumps: u64,
    /// Until when nothing is judged late, and the length of the jump or pause.
    grace: Option<(Instant, Duration)>,
}

/// How the clock of the database moved.
#[derive(Debug, PartialEq, Eq)]
enum Moved {
    /// Nothing was known of it before.
    First,
    AsExpected,
    Forward(Duration),
    Back(Duration),
}

impl Watched {
    fn look(&mut self, database: Timestamp, process: Duration) -> Moved {
        let Some((last, at)) = self.seen.replace((database, process)) else { return Moved::First };
        let passed = process.saturating_sub(at);
        let difference = database.duration_since(last).as_millis() - passed.as_millis() as i128;
        let length = Duration::from_millis(difference.unsigned_abs() as u64);
        match length {
            _ if length <= JUMP => Moved::AsExpected,
            _ if difference > 0 => Moved::Forward(length),
            _ => Moved::Back(length),
        }
    }

    fn judge_later(&mut self, length: Duration) {
        self.grace = Some((Instant::now() + GRACE, length));
    }
}

impl<Q: Queue> Engine<Q> {
    /// Compares the clock of the database with the one of this process since the last call. After the clock was set back, and at the first
    /// call, steps that wait only because of that are made due. Only an engine that calls this knows of jumps.
    pub async fn watch_clock(&self) -> Result<(), StoreError> {
        let database = self.store.clock().await?;
        let moved = {
            let mut watched = self.clock.0.lock();
            let moved = watched.look(database, self.time());
            if let Moved::Forward(length) = moved {
                watched.judge_later(length);
            }
            watched.jumps += u64::from(matches!(moved, Moved::Forward(_) | Moved::Back(_)));
            moved
        };
        match moved {
            Moved::AsExpected => return Ok(()),
            Moved::Forward(length) => {
                let seconds = length.as_secs();
                tracing::warn!(
                    seconds,
                    "the clock of the database was set forward; steps that it made late get their time again"
                );
                return Ok(());
            }
            Moved::First | Moved::Back(_) => {}
        }
        let steps = self.store.after_set_back().await?;
        if let Moved::Back(length) = moved {
            tracing::warn!(
                seconds = length.as_secs(),
                steps,
                "the clock of the database was set back; steps that waited for it are due"
            );
        } else if steps > 0 {
            tracing::warn!(
                steps,
                "the clock of the database was set back before this process began; steps that waited for it are due"
            );
        }
        Ok(())
    }

    /// This process was paused for so long: answers that arrived meanwhile are applied before anything is judged late.
    pub fn was_paused(&self, length: Duration) {
        tracing::warn!(
            seconds = length.as_secs(),
            "this process was paused; what was answered meanwhile is applied before anything is late"
        );
        self.clock.0.lock().judge_later(length);
    }

    /// Whether [`Engine::watch_clock`] was called.
    pub fn watches_clock(&self) -> bool {
        self.clock.0.lock().seen.is_some()
    }

    /// How often the clock of the database jumped while this process watched it.
    pub fn clock_jumps(&self) -> u64 {
        self.clock.0.lock().jumps
    }

    /// Whether steps may be late only because of a jump or a pause: its length.
    pub(crate) async fn grace(&self) -> Result<Option<Duration>, StoreError> {
        if self.watches_clock() {
            self.watch_clock().await?;
        }
        let grace = self.clock.0.lock().grace;
        Ok(grace.filter(|(until, _)| Instant::now() < *until).map(|(_, length)| length.max(GRACE)))
    }

    /// A clock beside the database's. In the process that runs the database's machine too, one that nobody can set; in a function, which may
    /// be frozen, the one of its own machine.
    fn time(&self) -> Duration {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        match self.settings.in_process {
            Some(_) => BEGIN.elapsed(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_a_difference_of_more_than_seconds_and_is_noticed_once() {
        let mut watched = Watched::default();
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let process = Duration::from_secs;
        let looks = [(0, 0), (10, 10), (24, 20), (3634, 30), (3644, 40), (54, 50), (64, 60), (3664, 3660)];
        let moved = looks.map(|(database, passed)| watched.look(at(database), process(passed)));
        let hour = Duration::from_secs(3600);
        use Moved::{AsExpected, Back, First, Forward};
        let expected = [First, AsExpected, AsExpected, Forward(hour), AsExpected, Back(hour), AsExpected, AsExpected];
        assert_eq!(moved, expected);
    }
}
