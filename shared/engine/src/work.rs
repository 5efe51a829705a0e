//! The remaining work of a verb. Pure code: [`crate::Engine::dispatch`] sends, loads and records.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tasker_domain::{FailureEffect, Verdict};
use tasker_queue::{Outgoing, SendError, SendResult};
use tasker_store::{Change, Completion, StoreError};
use tasker_wire::{Answer, Evaluate, Failure, Lease, StepId, limits, message::VERSION};

use crate::{BODIES, templates::LoadedTemplate};

/// The time after which a dispatch without an answer is sent again. It doubles each time.
const RESEND_MS: i64 = 15 * 60 * 1000;
/// The maximum of that time.
const RESEND_MAX_MS: i64 = 6 * 3600 * 1000;

/// Verdicts that may wait alone for a lock in one call. Then the rest is left to a later call.
const WAITS_ALONE: u32 = 3;
/// The `error_type` of a failure of which nothing could be stored.
const UNSTORABLE: &str = "unstorable";

#[derive(Default)]
pub(crate) struct Work<'a> {
    /// The rows of the last statement.
    pub changes: Vec<Change>,
    pub messages: Vec<Outgoing>,
    /// Dispatched steps whose messages are not loaded yet.
    pub unloaded: Vec<Lease>,
    /// Verdicts to record, each with its place among the answers.
    verdicts: Vec<(usize, Completion<'a>)>,
    /// The templates of verdicts that make steps, by place.
    growing: HashMap<usize, Arc<LoadedTemplate>>,
    /// What failures of steps mean to whose messages are sent, where that is not the default.
    effects: HashMap<Lease, FailureEffect>,
    /// The answers to the verdicts, in the order of [`Work::record`].
    pub answers: Vec<Answer>,
    /// A verdict of a round could not be stored, so the rest is recorded one by one.
    one_by_one: bool,
    /// A message could not be sent to any queue, so its step is in none.
    pub unsendable: bool,
    /// Verdicts that waited alone for a lock that the database does not name.
    waited_alone: u32,
}

/// A step's message that is being sent.
pub(crate) struct Sent {
    lease: Lease,
    attempt: i32,
    resend_ms: i64,
}

impl<'a> Work<'a> {
    pub fn of(changes: Vec<Change>) -> Self {
        Self { changes, ..Self::default() }
    }

    pub fn to_send(messages: Vec<Outgoing>) -> Self {
        Self { messages, ..Self::default() }
    }

    pub fn to_load(unloaded: Vec<Lease>) -> Self {
        Self { unloaded, ..Self::default() }
    }

    pub fn record(&mut self, verdict: Completion<'a>) {
        self.verdicts.push((self.answers.len(), verdict));
        self.answers.push(Answer::Locked);
    }

    /// As [`Work::record`], of a step of this template that may make steps.
    pub fn record_of(&mut self, template: &Arc<LoadedTemplate>, verdict: Completion<'a>) {
        if matches!(verdict.verdict, Verdict::Expand(..)) {
            self.growing.insert(self.answers.len(), template.clone());
        }
        self.record(verdict);
    }

    /// The template of a verdict that makes steps.
    pub fn template_of(&self, place: usize) -> Arc<LoadedTemplate> {
        self.growing[&place].clone()
    }

    /// Notes what it means if this step, whose message is sent, fails.
    pub fn note_effect(&mut self, lease: Lease, effect: FailureEffect) {
        if effect != FailureEffect::default() {
            self.effects.insert(lease, effect);
        }
    }

    /// Fails a step permanently, because no queue can carry its message. A sweep may call this twice for a step.
    pub fn cannot_run(&mut self, lease: Lease, attempt: i32, why: String) {
        self.unsendable = true;
        if self.verdicts.iter().all(|(_, known)| known.lease != lease) {
            let (failure, effect) = (Failure::permanent("input_too_large", why), self.effects.get(&lease).copied());
            self.record(Completion::by_orchestrator(
                lease,
                attempt,
                Verdict::Error { failure, effect: effect.unwrap_or_default() },
            ));
        }
    }

    /// Reads the queue's answers. Returns the accepted leases, each with the milliseconds until it is sent again.
    pub fn sent(&mut self, messages: Vec<Option<Sent>>, results: &[SendResult]) -> Vec<(Lease, i64)> {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for (message, result) in messages.into_iter().zip(results) {
            match (message, result) {
                (Some(run), Ok(())) => accepted.push((run.lease, run.resend_ms)),
                (Some(run), Err(error @ SendError::TooLarge { .. })) => {
                    let why = format!(
                        "with its context, settings and the results of its parents, {error}. Return references to large data"
                    );
                    self.cannot_run(run.lease, run.attempt, why);
                }
                (_, Err(error @ SendError::Refused(_))) => refused.push(error),
                (None, _) => {}
            }
        }
        if let Some(error) = refused.first() {
            let (refused, of) = (refused.len(), results.len());
            tracing::warn!(refused, of, %error, "the queue rejected messages; a sweep sends them again");
        }
        accepted
    }

    /// The next page of messages to load.
    pub fn next_page(&mut self) -> Option<Vec<Lease>> {
        let rest = self.unloaded.split_off(self.unloaded.len().min(BODIES));
        let page = std::mem::replace(&mut self.unloaded, rest);
        (!page.is_empty()).then_some(page)
    }

    /// The verdicts of the next statement and their places: ascending by step, one per step, at most a batch, or one that goes alone.
    /// Several verdicts on a step are recorded in their order.
    pub fn next_round(&mut self) -> Option<(Vec<usize>, Vec<Completion<'a>>)> {
        let most = if self.one_by_one { 1 } else { limits::COMPLETION_BATCH };
        let mut waiting = std::mem::take(&mut self.verdicts);
        waiting.sort_by_key(|(place, verdict)| (verdict.lease.step, *place));
        let mut round: Vec<(usize, Completion)> = Vec::new();
        let (mut last, mut is_full) = (None, false);
        for (place, verdict) in waiting {
            let is_next_of_step = last.replace(verdict.lease.step) == Some(verdict.lease.step);
            let alone = verdict.verdict.goes_alone();
            let waits = is_full || is_next_of_step || alone && !round.is_empty();
            if waits { &mut self.verdicts } else { &mut round }.push((place, verdict));
            is_full |= round.len() >= most || alone && !waits;
        }
        (!round.is_empty()).then(|| round.into_iter().unzip())
    }

    /// Reads the database's answers to a round.
    pub fn recorded(&mut self, places: &[usize], round: &[Completion], changes: Vec<Change>) {
        for change in &changes {
            let Change::Answer(n, answer) = change else { continue };
            self.answers[places[*n]] = *answer;
            if let (Answer::Accepted, Verdict::Retry(ms, _)) = (answer, &round[*n].verdict) {
                self.messages.push(wake_up(round[*n].lease, *ms));
            }
        }
        self.changes = changes;
    }

    /// A round waited for a lock. The verdicts on `locked` steps are answered so, and the others are recorded without them. If the
    /// database knows of no lock any more, each is recorded alone; one that waits alone is answered so too, and at last all of them.
    pub fn set_aside(&mut self, places: Vec<usize>, round: Vec<Completion<'a>>, locked: &[StepId]) {
        let free = |(_, verdict): &(usize, Completion)| !locked.contains(&verdict.lease.step);
        if !locked.is_empty() {
            self.verdicts.extend(places.into_iter().zip(round).filter(free));
        } else if round.len() > 1 {
            self.one_by_one = true;
            self.verdicts.extend(places.into_iter().zip(round));
        } else {
            self.waited_alone += 1;
            if self.waited_alone == WAITS_ALONE {
                self.verdicts.clear();
            }
        }
    }

    /// The database ends a verdict again and again. A failure of its step is recorded instead, which makes no children ready.
    pub fn too_slow(&mut self, places: Vec<usize>, mut round: Vec<Completion<'a>>, reason: &str) {
        // Nothing is smaller than a failure.
        round.retain(|verdict| !matches!(verdict.verdict, Verdict::Error { .. }));
        for slow in &mut round {
            let step_id = slow.lease.step;
            tracing::error!(%step_id, reason, "a step fails: the database cannot record its outcome in time while it records others");
            let why = format!(
                "the database cannot record the outcome of this step in time, although it records others: {reason}. Split its fan-out"
            );
            slow.verdict = Verdict::Error { failure: Failure::permanent("too_slow", why), effect: slow.failure_effect };
        }
        self.verdicts.extend(places.into_iter().zip(round));
    }

    /// The success of a place makes more steps than its task may have. A failure of its step is recorded instead.
    pub fn too_many(&mut self, place: usize, mut success: Completion<'a>, steps: i64) {
        let most = limits::MADE_STEPS;
        let why = format!("it makes more than {most} steps beside those that the template declares: the task has {steps}");
        success.verdict = Verdict::Error { failure: Failure::permanent("too_many_steps", why), effect: success.failure_effect };
        self.verdicts.push((place, success));
    }

    /// A round failed because a verdict cannot be stored. Records each verdict alone; one that fails alone is replaced by what can be
    /// stored.
    pub fn refused(&mut self, places: Vec<usize>, mut round: Vec<Completion<'a>>, reason: &str) -> Result<(), StoreError> {
        self.one_by_one = true;
        if let [only] = &mut round[..] {
            substitute(only, reason)?;
        }
        self.verdicts.extend(places.into_iter().zip(round));
        Ok(())
    }
}

impl Sent {
    /// Logs a step's message before it is sent. `None` for a wake-up.
    pub fn note(message: &Outgoing) -> Option<Self> {
        let Outgoing::RunStep { step: run, .. } = message else { return None };
        tracing::debug!(
            task_id = %run.task_id,
            step_id = %run.step_id,
            step = run.step_name,
            lease = run.lease,
            attempt = run.attempt,
            correlation_id = %run.correlation_id,
            traceparent = run.traceparent,
            "step dispatched"
        );
        let resend_ms = RESEND_MS.saturating_mul(1 << run.resend.clamp(0, 16)).min(RESEND_MAX_MS);
        Some(Self { lease: run.lease(), attempt: run.attempt, resend_ms })
    }
}

/// Replaces a verdict that the database refuses to store by the next simpler one: without metadata, then with plain ASCII texts, then with
/// a constant text. A failure stays retryable or permanent.
fn substitute(refused: &mut Completion, reason: &str) -> Result<(), StoreError> {
    let had_metadata = refused.metadata.take().is_some();
    match &mut refused.verdict {
        Verdict::Complete(_) | Verdict::Expand(..) if had_metadata => {}
        Verdict::Retry(_, failure) | Verdict::Error { failure, .. } => {
            if failure.error_type == UNSTORABLE {
                return Err(StoreError::Bug(format!("a failure cannot be stored: {reason}")));
            }
            let plain = plain(failure);
            let was_plain = *failure == plain && !had_metadata;
            let constant = || Failure {
                message: "the database refuses its error text".into(),
                error_type: UNSTORABLE.into(),
                ..plain.clone()
            };
            *failure = if was_plain { Failure { error_code: None, ..constant() } } else { plain };
        }
        other => {
            let why = format!("the handler's outcome cannot be stored: {reason}");
            *other = Verdict::Error { failure: Failure::permanent("invalid_result", why), effect: refused.failure_effect };
        }
    }
    refused.worker.retain(|c| c.is_ascii());
    Ok(())
}

/// The failure in ASCII, without its context.
fn plain(failure: &Failure) -> Failure {
    let ascii = |text: &str| {
        let escaped = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
        text.chars().map(escaped).collect::<String>()
    };
    Failure {
        message: ascii(&failure.message),
        error_type: ascii(&failure.error_type),
        error_code: failure.error_code.as_deref().map(ascii),
        context: None,
        ..failure.clone()
    }
}

/// A wake-up for a retry that is due in `ms` milliseconds.
pub(crate) fn wake_up(lease: Lease, ms: u64) -> Outgoing {
    let wake_up = Evaluate { v: VERSION, step_id: lease.step, lease: lease.number };
    Outgoing::Evaluate { wake_up, delay: Duration::from_millis(ms) }
}

#[cfg(test)]
mod tests {
    use tasker_domain::decide::Again;
    use tasker_wire::TaskId;
    use uuid::Uuid;

    use super::*;

    fn lease(no: i32) -> Lease {
        Lease { step: TaskId::from_fresh(Uuid::from_u128(1 << 90)).step(no), number: 1 }
    }

    fn released(no: i32) -> Completion<'static> {
        Completion::by_orchestrator(lease(no), 1, Verdict::DispatchAgain(Again::Released))
    }

    fn work(steps: &[i32]) -> Work<'static> {
        let mut work = Work::default();
        steps.iter().for_each(|&no| work.record(released(no)));
        work
    }

    fn places(work: &mut Work) -> Vec<Vec<usize>> {
        std::iter::from_fn(|| work.next_round().map(|(places, _)| places)).collect()
    }

    #[test]
    fn a_round_names_each_step_once_ascending_and_the_first_of_several_comes_first() {
        assert_eq!(places(&mut work(&[7, 3, 7, 3, 7, 5])), [vec![1, 5, 0], vec![3, 2], vec![4]]);
        let many: Vec<i32> = (0..limits::COMPLETION_BATCH as i32 + 1).collect();
        assert_eq!(places(&mut work(&many)).iter().map(Vec::len).collect::<Vec<_>>(), [limits::COMPLETION_BATCH, 1]);
    }

    #[test]
    fn a_verdict_that_cannot_be_stored_is_recorded_alone_and_then_fails_its_own_step() {
        let mut work = work(&[1, 2]);
        let (places, round) = work.next_round().unwrap();
        work.refused(places, round, "odd").unwrap();
        let (places, round) = work.next_round().unwrap();
        assert_eq!(places, [0]);
        work.refused(places, round, "odd").unwrap();
        let (places, round) = work.next_round().unwrap();
        assert!(matches!(&round[0].verdict, Verdict::Error { failure, .. } if failure.error_type == "invalid_result"));
        work.refused(places, round, "odd").unwrap();
        let (places, round) = work.next_round().unwrap();
        assert!(work.refused(places, round, "odd").is_err(), "a constant text that cannot be stored is a defect of ours");
        assert_eq!(work.next_round().unwrap().0, [1]);
    }

    #[test]
    fn a_failure_that_cannot_be_stored_stays_one_of_its_kind_and_loses_only_what_is_refused() {
        let failure = Failure {
            error_code: Some("café".into()),
            context: Some(1.into()),
            ..Failure::retryable("weather", "sunny \u{1f600}")
        };
        let mut refused = Completion::by_orchestrator(lease(1), 1, Verdict::Retry(7, failure));
        substitute(&mut refused, "odd").unwrap();
        let Verdict::Retry(7, plain) = &refused.verdict else { panic!("{refused:?}") };
        assert_eq!((&*plain.message, &*plain.error_type), ("sunny \\u{1f600}", "weather"));
        assert!(plain.error_code.as_deref() == Some("caf\\u{e9}") && plain.context.is_none());
        substitute(&mut refused, "odd").unwrap();
        let Verdict::Retry(7, constant) = &refused.verdict else { panic!("{refused:?}") };
        assert!(constant.error_type == UNSTORABLE && constant.retryable, "{constant:?}");
        assert!(substitute(&mut refused, "odd").is_err());
    }

    #[test]
    fn a_success_whose_metadata_cannot_be_stored_stays_a_success() {
        let raw = |text: &str| serde_json::value::RawValue::from_string(text.into()).unwrap();
        let (result, metadata) = (raw("1"), raw("2"));
        let done = Completion::by_orchestrator(lease(1), 1, Verdict::Complete(&result));
        let mut refused = Completion { metadata: Some(&metadata), ..done };
        substitute(&mut refused, "odd").unwrap();
        assert!(matches!(refused.verdict, Verdict::Complete(_)) && refused.metadata.is_none());
        substitute(&mut refused, "odd").unwrap();
        assert!(matches!(&refused.verdict, Verdict::Error { failure, .. } if failure.error_type == "invalid_result"));
    }

    #[test]
    fn a_verdict_on_a_locked_step_is_set_aside_and_the_others_are_recorded() {
        let mut work = work(&[1, 2, 3]);
        let (places, round) = work.next_round().unwrap();
        work.set_aside(places, round, &[lease(2).step]);
        assert_eq!(work.next_round().unwrap().0, [0, 2]);
        assert_eq!(work.answers, [Answer::Locked; 3], "until they are recorded");
    }

    #[test]
    fn verdicts_that_wait_for_an_unknown_lock_are_tried_alone_a_few_times_and_then_left() {
        let mut work = work(&[1, 2, 3, 4, 5]);
        let mut waits = 0;
        while let Some((places, round)) = work.next_round() {
            work.set_aside(places, round, &[]);
            waits += 1;
        }
        assert_eq!(waits, 1 + WAITS_ALONE);
    }

    #[test]
    fn a_message_that_is_too_large_fails_its_step_once_and_a_refused_one_is_left_to_the_sweep() {
        let mut work = Work::default();
        let sent = |no| Some(Sent { lease: lease(no), attempt: 2, resend_ms: RESEND_MS });
        let too_large = || Err(SendError::TooLarge { bytes: 9, most: 8 });
        let results = [Ok(()), too_large(), Err(SendError::Refused("busy".into())), too_large(), Ok(())];
        assert_eq!(work.sent(vec![sent(1), sent(2), sent(3), sent(2), None], &results), [(lease(1), RESEND_MS)]);
        let (_, round) = work.next_round().unwrap();
        assert_eq!((round.len(), round[0].lease, round[0].attempt), (1, lease(2), 2));
        assert!(work.next_round().is_none());
    }
}
