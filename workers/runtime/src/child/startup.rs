//! How long a process that starts is waited for. Pure: its input is the time and what the process did.

use std::time::Duration;

use tasker_wire::limits;
use tokio::time::Instant;

use crate::pause::{Awake, postponed};

/// How long a process may do nothing after its time, if that is not longer than the time itself.
const QUIET: Duration = Duration::from_secs(5);
/// The part of one CPU that a process needs that visibly works.
const WORKS: u32 = 20;
/// How often the log says that a worker is waited for.
const TELL: Duration = Duration::from_secs(5);

/// What a process did since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// The CPU time of its process group.
    pub cpu: Duration,
    /// The bytes that it wrote to stdout and stderr.
    pub output: u64,
}

pub(super) enum Look {
    Wait,
    /// Wait, and say so in the log.
    Tell,
    /// The reason, with the remedy.
    GiveUp(String),
}

pub(super) struct Startup {
    timeout: Duration,
    began: Instant,
    /// The first is after the timeout. Then once in each quiet time.
    judge_at: Instant,
    /// However much it works.
    ends: Instant,
    tell_at: Instant,
    /// What it had done at the beginning of the time that is judged next.
    before: Option<Work>,
    awake: Awake,
}

impl Startup {
    pub fn begin(timeout: Duration, now: Instant) -> Self {
        let (judge_at, ends) = (now + timeout, now + timeout * limits::READY_TIMES);
        Self { timeout, began: now, judge_at, ends, tell_at: now + TELL, before: None, awake: Awake::since(now) }
    }

    /// Called after each read of what the process wrote.
    pub fn look(&mut self, now: Instant, work: impl FnOnce() -> Work) -> Look {
        if let Some(pause) = self.awake.pause(now) {
            self.judge_at = postponed(self.judge_at, pause, now);
            self.ends = postponed(self.ends, pause, now);
        }
        let quiet = QUIET.min(self.timeout);
        if self.before.is_none() && now + quiet >= self.judge_at {
            self.before = Some(work());
        } else if now >= self.judge_at {
            let (before, after) = (self.before.unwrap_or_default(), work());
            if now >= self.ends {
                return Look::GiveUp(self.problem(now, "still works"));
            }
            if after.output == before.output && after.cpu.saturating_sub(before.cpu) < quiet / WORKS {
                return Look::GiveUp(self.problem(now, "does nothing"));
            }
            (self.before, self.judge_at) = (Some(after), now + quiet);
        }
        if now < self.tell_at {
            return Look::Wait;
        }
        self.tell_at = now + TELL;
        Look::Tell
    }

    pub fn next_look(&self) -> Instant {
        self.awake.next_tick().min(self.judge_at)
    }

    pub fn seconds(&self, now: Instant) -> u64 {
        (now - self.began).as_secs()
    }

    fn problem(&self, now: Instant, what: &str) -> String {
        let seconds = (10.0 * (now - self.began).as_secs_f32()).floor() / 10.0;
        format!(
            "was not ready within {seconds} s and {what}; does it call its SDK's run()? If it needs longer, raise --ready-timeout \
             (TASKER_READY_TIMEOUT_SECONDS)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Looks every tick, at a process that works for a time. Returns when it is given up.
    fn given_up_after(cpu_until: Duration, output_until: Duration) -> (Duration, String) {
        let start = Instant::now();
        let mut startup = Startup::begin(TIMEOUT, start);
        let mut passed = Duration::ZERO;
        loop {
            passed += crate::pause::TICK;
            let work = || Work { cpu: passed.min(cpu_until) / 4, output: passed.min(output_until).as_secs() };
            if let Look::GiveUp(problem) = startup.look(start + passed, work) {
                return (passed, problem);
            }
        }
    }

    #[test]
    fn a_process_that_does_nothing_is_given_up_at_its_time() {
        let (after, problem) = given_up_after(Duration::from_secs(20), Duration::ZERO);
        assert_eq!(after, TIMEOUT);
        assert!(problem.starts_with("was not ready within 30 s and does nothing; does it call its SDK's run()?"), "{problem}");
    }

    #[test]
    fn a_process_that_computes_or_writes_is_waited_for_until_it_stops_to() {
        let forty = Duration::from_secs(40);
        for (cpu, output) in [(forty, Duration::ZERO), (Duration::ZERO, forty)] {
            let (after, _) = given_up_after(cpu, output);
            assert_eq!(after, Duration::from_secs(45));
        }
    }

    #[test]
    fn a_process_that_works_for_ever_is_given_up_after_ten_times_its_time() {
        let (after, problem) = given_up_after(Duration::MAX / 8, Duration::ZERO);
        assert_eq!(after, TIMEOUT * limits::READY_TIMES);
        assert!(problem.contains("within 300 s and still works"), "{problem}");
    }

    #[test]
    fn a_pause_uses_up_no_time() {
        let start = Instant::now();
        let mut startup = Startup::begin(TIMEOUT, start);
        let after = start + Duration::from_secs(80);
        assert!(matches!(startup.look(after, Work::default), Look::Tell));
        assert!(startup.judge_at >= after + Duration::from_secs(25));
    }
}
