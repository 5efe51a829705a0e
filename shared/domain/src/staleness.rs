//! Whether a task takes longer than its template allows, from facts that the database gives. A pause stops all of its clocks.

use tasker_wire::StepNo;

use crate::template::Lifecycle;

const MINUTE_MS: i64 = 60_000;

/// A threshold of a template's `lifecycle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    StepsInProcess,
    WaitingForRetry,
    WaitingForDependencies,
    Duration,
}

/// A step that waits, since then, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingStep {
    pub no: StepNo,
    pub lease: i32,
    pub since_ms: i64,
}

/// What decides whether a running task is stale. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LifecycleFacts {
    pub now_ms: i64,
    /// When it was created, or an operator or a repair last set it going.
    pub begun_ms: i64,
    /// The first step that waits for parents, since a step of the task last ended.
    pub waiting: Option<WaitingStep>,
    /// The step that has been dispatched for longest. None that awaits a callback.
    pub in_process: Option<WaitingStep>,
    /// The step that has waited for its retry for longest.
    pub retry: Option<WaitingStep>,
    pub is_paused: bool,
    /// The beginnings and ends of pauses that ended. They may overlap.
    pub pauses: Vec<(i64, i64)>,
}

/// How long a task has waited for something that its template bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub threshold: Threshold,
    /// The step that waits; `None`: the whole task.
    pub step: Option<WaitingStep>,
    pub since_ms: i64,
    /// Without the time of pauses.
    pub waited_ms: i64,
    pub allowed_ms: i64,
}

/// An entry that was opened because a task waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The key of the threshold.
    pub threshold: String,
    pub no: Option<StepNo>,
    pub lease: Option<i32>,
    pub at_ms: i64,
}

impl Threshold {
    /// Its key in a template.
    pub fn key(self) -> &'static str {
        match self {
            Self::StepsInProcess => "max_steps_in_process_minutes",
            Self::WaitingForRetry => "max_waiting_for_retry_minutes",
            Self::WaitingForDependencies => "max_waiting_for_dependencies_minutes",
            Self::Duration => "max_duration_minutes",
        }
    }

    /// Tasker's word for what the task does meanwhile.
    pub fn state(self) -> &'static str {
        match self {
            Self::StepsInProcess => "steps_in_process",
            Self::WaitingForRetry => "waiting_for_retry",
            Self::WaitingForDependencies => "waiting_for_dependencies",
            Self::Duration => "running",
        }
    }
}

impl Wait {
    pub fn is_stale(&self) -> bool {
        self.left_ms() <= 0
    }

    /// The milliseconds until it is too long.
    fn left_ms(&self) -> i64 {
        self.allowed_ms + 1 - self.waited_ms
    }

    /// Whether this entry is about it. Then no other one is opened for it.
    pub fn is_entered(&self, entered: &Entered) -> bool {
        let of_step = (self.step.map(|step| step.no), self.step.map(|step| step.lease));
        entered.threshold == self.threshold.key() && (entered.no, entered.lease) == of_step && entered.at_ms >= self.since_ms
    }
}

/// What a task waits for now, and its template bounds: first what is about a step.
pub fn waits(lifecycle: &Lifecycle, facts: &LifecycleFacts) -> Vec<Wait> {
    let wait = |threshold, minutes: Option<u32>, step: Option<WaitingStep>, since_ms: i64| {
        let since_ms = since_ms.max(facts.begun_ms);
        let allowed_ms = i64::from(minutes?) * MINUTE_MS;
        let waited_ms = facts.now_ms - since_ms - paused_ms(&facts.pauses, since_ms, facts.now_ms);
        Some(Wait { threshold, step, since_ms, waited_ms, allowed_ms })
    };
    let of_step = |threshold, minutes, step: Option<WaitingStep>| wait(threshold, minutes, step, step?.since_ms);
    [
        of_step(Threshold::StepsInProcess, lifecycle.max_steps_in_process_minutes, facts.in_process),
        of_step(Threshold::WaitingForRetry, lifecycle.max_waiting_for_retry_minutes, facts.retry),
        of_step(Threshold::WaitingForDependencies, lifecycle.max_waiting_for_dependencies_minutes, facts.waiting),
        wait(Threshold::Duration, lifecycle.max_duration_minutes, None, facts.begun_ms),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Why a task is stale; `None` if it is not. A paused one is not.
pub fn stale(lifecycle: &Lifecycle, facts: &LifecycleFacts) -> Option<Wait> {
    waits(lifecycle, facts).into_iter().find(|wait| !facts.is_paused && wait.is_stale())
}

/// What makes a task stale if nothing in it moves, and when, in milliseconds since 1970: a time that has passed, if it is stale. `None` of
/// a paused one.
pub fn next_stale(lifecycle: &Lifecycle, facts: &LifecycleFacts) -> Option<(Wait, i64)> {
    let next = || waits(lifecycle, facts).into_iter().min_by_key(Wait::left_ms).filter(|_| !facts.is_paused);
    let wait = stale(lifecycle, facts).or_else(next)?;
    Some((wait, facts.now_ms + wait.left_ms()))
}

/// The time of pauses between two moments. What overlaps counts once.
fn paused_ms(pauses: &[(i64, i64)], from: i64, to: i64) -> i64 {
    let mut pauses = pauses.to_vec();
    pauses.sort_unstable();
    let (mut covered, mut end) = (0, from);
    for (begin, until) in pauses {
        let (begin, until) = (begin.max(end), until.min(to));
        if until > begin {
            covered += until - begin;
            end = until;
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: i64) -> i64 {
        minutes * MINUTE_MS
    }

    fn step(since: i64) -> Option<WaitingStep> {
        Some(WaitingStep { no: 16_384, lease: 3, since_ms: minutes(since) })
    }

    const ALL: Lifecycle = Lifecycle {
        max_duration_minutes: Some(100),
        max_waiting_for_dependencies_minutes: Some(40),
        max_waiting_for_retry_minutes: Some(20),
        max_steps_in_process_minutes: Some(30),
        staleness_action: crate::template::StalenessAction::Dlq,
    };

    #[test]
    fn each_threshold_is_exceeded_only_after_its_last_minute() {
        for (threshold, allowed) in [
            (Threshold::StepsInProcess, 30),
            (Threshold::WaitingForRetry, 20),
            (Threshold::WaitingForDependencies, 40),
            (Threshold::Duration, 100),
        ] {
            let mut facts = LifecycleFacts { now_ms: minutes(1000), begun_ms: minutes(950), ..LifecycleFacts::default() };
            match threshold {
                Threshold::StepsInProcess => facts.in_process = step(1000 - allowed),
                Threshold::WaitingForRetry => facts.retry = step(1000 - allowed),
                Threshold::WaitingForDependencies => facts.waiting = step(1000 - allowed),
                Threshold::Duration => facts.begun_ms = minutes(1000 - allowed),
            }
            assert_eq!(stale(&ALL, &facts), None, "{threshold:?}");
            facts.now_ms += 1;
            let wait = stale(&ALL, &facts).unwrap_or_else(|| panic!("{threshold:?}"));
            assert_eq!((wait.threshold, wait.waited_ms, wait.allowed_ms), (threshold, minutes(allowed) + 1, minutes(allowed)));
            assert_eq!(stale(&Lifecycle::default(), &facts), None, "without a threshold nothing is stale");
        }
    }

    #[test]
    fn a_paused_task_is_not_stale_and_what_was_paused_does_not_count() {
        let facts = LifecycleFacts { now_ms: minutes(200), in_process: step(160), ..LifecycleFacts::default() };
        assert!(stale(&ALL, &facts).is_some());
        assert_eq!(stale(&ALL, &LifecycleFacts { is_paused: true, ..facts.clone() }), None);
        // Overlapping pauses, and one of before: 12 minutes in all.
        let pauses = vec![(minutes(170), minutes(178)), (minutes(0), minutes(162)), (minutes(175), minutes(180))];
        let waited = waits(&ALL, &LifecycleFacts { pauses, ..facts })[0].waited_ms;
        assert_eq!(waited, minutes(28));
    }

    #[test]
    fn what_is_foretold_makes_the_task_stale_at_that_time_and_not_before() {
        let mut facts = LifecycleFacts {
            now_ms: minutes(200),
            begun_ms: minutes(150),
            waiting: step(195),
            in_process: step(190),
            retry: step(185),
            pauses: vec![(minutes(186), minutes(188))],
            ..LifecycleFacts::default()
        };
        let (wait, at) = next_stale(&ALL, &facts).unwrap();
        assert_eq!((wait.threshold, at), (Threshold::WaitingForRetry, minutes(207) + 1));
        facts.now_ms = at - 1;
        assert_eq!(stale(&ALL, &facts), None);
        facts.now_ms = at;
        assert_eq!(stale(&ALL, &facts).unwrap().threshold, wait.threshold);
        facts.now_ms = minutes(221);
        // Of several that are too long the first counts.
        assert_eq!(
            next_stale(&ALL, &facts).map(|(wait, at)| (wait.threshold, at)),
            Some((Threshold::StepsInProcess, minutes(220) + 1))
        );
        assert_eq!(next_stale(&ALL, &LifecycleFacts { is_paused: true, ..facts.clone() }), None);
        assert_eq!(next_stale(&Lifecycle::default(), &facts), None);
    }

    #[test]
    fn an_operators_action_starts_every_clock_anew() {
        let facts = LifecycleFacts {
            now_ms: minutes(200),
            begun_ms: minutes(190),
            waiting: step(20),
            in_process: step(20),
            retry: step(20),
            ..LifecycleFacts::default()
        };
        assert!(waits(&ALL, &facts).iter().all(|wait| wait.waited_ms == minutes(10)));
    }
}
