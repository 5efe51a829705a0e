//! The pause between two attempts of a step.

use serde::{Deserialize, Serialize};

use tasker_wire::limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackoffKind {
    None,
    /// base · n
    Linear,
    /// base · 2^(n-1)
    Exponential,
    /// base · fib(n): 1, 1, 2, 3, 5, …
    Fibonacci,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub kind: BackoffKind,
    /// The first pause.
    pub base_ms: u64,
    /// The longest pause, before jitter.
    pub max_ms: u64,
}

impl Backoff {
    /// Milliseconds between the failed `attempt` (from 1) and the next one.
    ///
    /// `jitter` from 0 to 1 becomes a factor from 0.85 to 1.15. The outcome's hint can only lengthen the pause.
    pub fn delay_ms(&self, attempt: i32, hint_seconds: Option<f64>, jitter: f64) -> u64 {
        let n = attempt.max(1) as u32;
        let grown = match self.kind {
            BackoffKind::None => 0,
            BackoffKind::Linear => self.base_ms.saturating_mul(n.into()),
            BackoffKind::Exponential => self.base_ms.saturating_mul(2u64.saturating_pow(n - 1)),
            BackoffKind::Fibonacci => self.base_ms.saturating_mul(fibonacci(n)),
        };
        let capped = grown.min(self.max_ms) as f64 * (0.85 + 0.3 * jitter.clamp(0.0, 1.0));
        let hint = hint_seconds.filter(|s| s.is_finite()).unwrap_or(0.0).max(0.0) * 1000.0;
        (capped.round() as u64).max(hint as u64).min(limits::BACKOFF_MS)
    }
}

fn fibonacci(n: u32) -> u64 {
    let (mut a, mut b) = (0u64, 1u64);
    for _ in 0..n {
        (a, b) = (b, a.saturating_add(b));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_grows_as_documented_and_is_capped() {
        let delays = |kind| {
            let backoff = Backoff { kind, base_ms: 100, max_ms: 1000 };
            (1..=6).map(|n| backoff.delay_ms(n, None, 0.5)).collect::<Vec<_>>()
        };
        assert_eq!(delays(BackoffKind::None), [0; 6]);
        assert_eq!(delays(BackoffKind::Linear), [100, 200, 300, 400, 500, 600]);
        assert_eq!(delays(BackoffKind::Exponential), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(delays(BackoffKind::Fibonacci), [100, 100, 200, 300, 500, 800]);
    }

    #[test]
    fn jitter_stays_within_15_percent_and_a_hint_only_lengthens() {
        let backoff = Backoff { kind: BackoffKind::Linear, base_ms: 1000, max_ms: 60_000 };
        assert_eq!(backoff.delay_ms(1, None, 0.0), 850);
        assert_eq!(backoff.delay_ms(1, None, 1.0), 1150);
        assert_eq!(backoff.delay_ms(1, Some(0.1), 0.5), 1000);
        assert_eq!(backoff.delay_ms(1, Some(7.5), 0.5), 7500);
        assert_eq!(backoff.delay_ms(1, Some(1e300), 0.5), limits::BACKOFF_MS);
        assert_eq!(backoff.delay_ms(1, Some(f64::NAN), 0.5), 1000);
        assert_eq!(backoff.delay_ms(1, Some(-5.0), 0.5), 1000);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        for kind in [BackoffKind::Linear, BackoffKind::Exponential, BackoffKind::Fibonacci] {
            let backoff = Backoff { kind, base_ms: u64::MAX / 2, max_ms: u64::MAX };
            assert_eq!(backoff.delay_ms(200, None, 1.0), limits::BACKOFF_MS);
        }
    }
}
