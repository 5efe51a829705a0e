//! Completion: what workers say of steps is decided, recorded and carried on, a batch in one statement.

use std::{borrow::Borrow, sync::Arc};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tasker_domain::{Verdict, decide, token};
use tasker_queue::Queue;
use tasker_store::{Applied, Change, Completion, StoreError};
use tasker_wire::{
    CompleteStep, limits,
    outcome::{Failure, Outcome},
};

use crate::{Engine, dispatch::wake_up, to_its_end};

/// What became of one completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It moved the step; or it was a report, and the handler may go on.
    Accepted,
    /// The same one was applied before; nothing changed.
    Duplicate,
    /// Another hand-over is current, or another outcome was applied; recorded, nothing changed. A handler that still runs may stop.
    Stale,
    /// The step was never handed over under this lease.
    Refused,
    /// A report while a callback is awaited.
    Ignored,
    /// Its token is not ours, or not for this hand-over.
    Forged,
    /// Its token names a key or a template that this process does not know; another one may, or this one later.
    Unknown,
}

impl<Q: Queue> Engine<Q> {
    /// Applies completions; one answer each, in their order. On an error nothing is known: call again with the same batch.
    pub async fn complete<C>(self: &Arc<Self>, batch: impl Into<Arc<[C]>>) -> Result<Vec<Answer>, StoreError>
    where
        C: Borrow<CompleteStep> + Send + Sync + 'static,
    {
        let (engine, batch) = (self.clone(), batch.into());
        to_its_end(async move { engine.complete_here(&batch).await }).await
    }

    async fn complete_here<C: Borrow<CompleteStep>>(self: &Arc<Self>, batch: &[C]) -> Result<Vec<Answer>, StoreError> {
        let mut answers = vec![Answer::Forged; batch.len()];
        let mut waiting = Vec::with_capacity(batch.len());
        for (place, completion) in batch.iter().enumerate() {
            match self.decide(completion.borrow()).await? {
                Ok(decided) => waiting.push((place, decided)),
                Err(answer) => answers[place] = answer,
            }
        }
        while !waiting.is_empty() {
            let (round, rest) = next_round(waiting);
            waiting = rest;
            let (places, completions): (Vec<usize>, Vec<Completion>) = round.into_iter().unzip();
            for (place, applied) in places.into_iter().zip(self.apply(completions).await?) {
                answers[place] = applied.into();
                note(batch[place].borrow(), answers[place]);
            }
        }
        Ok(answers)
    }

    /// The verdict on a completion, or why its token allows none.
    async fn decide(&self, completion: &CompleteStep) -> Result<Result<Completion, Answer>, StoreError> {
        let Ok(plan) = token::verify(&completion.token, completion.lease(), completion.attempt, &self.settings.signing_keys)
        else {
            let keys = &self.settings.signing_keys;
            if token::is_token(&completion.token) && !token::names_a_key_of(&completion.token, keys) {
                tracing::warn!(step_id = %completion.step_id, "a completion whose token names a key that is not known here");
                return Ok(Err(Answer::Unknown));
            }
            tracing::warn!(step_id = %completion.step_id, worker = completion.worker, "a completion with a token that was not issued for it");
            return Ok(Err(Answer::Forged));
        };
        let Some(plan) = self.track(self.plans.get(&self.store, &plan).await)? else {
            return Ok(Err(Answer::Unknown));
        };
        let Some(step) = plan.step(completion.step_id) else {
            return Ok(Err(Answer::Forged));
        };
        let key = completion.lease();
        Ok(Ok(Completion {
            key,
            attempt: completion.attempt,
            verdict: decide(&completion.outcome, &step.policy, completion.attempt, self.jitter(key)),
            metadata: metadata(&completion.outcome),
            digest: digest(completion),
            worker: completion.worker.chars().filter(|&c| c != '\0').take(limits::NAME_CHARS).collect(),
            duration_ms: completion.execution_time_ms.min(i64::MAX as u64) as i64,
            if_due: false,
        }))
    }

    /// Records a round and carries on what follows. A value that cannot be stored fails its own step only.
    pub(crate) async fn apply(self: &Arc<Self>, round: Vec<Completion>) -> Result<Vec<Applied>, StoreError> {
        let changes = match self.track(self.store.complete(&round, self.hand_over_settings()).await) {
            Ok(changes) => changes,
            Err(StoreError::Data(reason)) => return self.apply_one_by_one(round, &reason).await,
            Err(e) => return Err(e),
        };
        let mut applied = vec![Applied::Refused; round.len()];
        for change in &changes {
            if let Change::Answer(place, answer) = change {
                applied[*place] = *answer;
            }
        }
        let retries = round.iter().zip(&applied).filter_map(|(c, a)| match c.verdict {
            Verdict::Retry(ms, _) if *a == Applied::Accepted => Some(wake_up(c.key, ms)),
            _ => None,
        });
        let retries: Vec<_> = retries.collect();
        if !retries.is_empty() {
            self.queue.send(retries).await;
        }
        self.dispatch(changes).await?;
        Ok(applied)
    }

    async fn apply_one_by_one(self: &Arc<Self>, round: Vec<Completion>, reason: &str) -> Result<Vec<Applied>, StoreError> {
        if let [only] = &round[..] {
            let message = format!("what the handler answered cannot be stored: {reason}");
            let failure = Failure::permanent("invalid_result", message);
            let verdict = Verdict::Error { failure, tolerated: false };
            let failed = Completion {
                key: only.key,
                attempt: only.attempt,
                verdict,
                metadata: None,
                digest: only.digest,
                worker: String::new(),
                duration_ms: only.duration_ms,
                if_due: only.if_due,
            };
            if matches!(only.verdict, Verdict::Error { .. }) {
                return Err(StoreError::Bug(format!("a failure cannot be stored: {reason}")));
            }
            return Box::pin(self.apply(vec![failed])).await;
        }
        let mut applied = Vec::with_capacity(round.len());
        for completion in round {
            applied.extend(Box::pin(self.apply(vec![completion])).await?);
        }
        Ok(applied)
    }
}

/// Says what came of a completion, with what ties it to its request.
fn note(completion: &CompleteStep, answer: Answer) {
    tracing::debug!(
        task_id = %completion.task_id,
        step_id = %completion.step_id,
        lease = completion.lease,
        attempt = completion.attempt,
        outcome = completion.outcome.kind(),
        ?answer,
        correlation_id = completion.correlation_id.map(tracing::field::display),
        traceparent = completion.traceparent,
        "completion"
    );
}

impl From<Applied> for Answer {
    fn from(applied: Applied) -> Self {
        match applied {
            Applied::Accepted => Self::Accepted,
            Applied::Duplicate => Self::Duplicate,
            Applied::Stale => Self::Stale,
            Applied::Refused => Self::Refused,
            Applied::Ignored => Self::Ignored,
        }
    }
}

type Placed = (usize, Completion);

/// One completion a step, ascending by step, at most a batch; and what is left for the next round. Of several for one step the first comes first.
fn next_round(mut waiting: Vec<Placed>) -> (Vec<Placed>, Vec<Placed>) {
    waiting.sort_by_key(|(place, c)| (c.key.step, *place));
    let (mut round, mut rest): (Vec<Placed>, Vec<Placed>) = (Vec::new(), Vec::new());
    for (place, completion) in waiting {
        let taken = round.last().is_some_and(|(_, c)| c.key.step == completion.key.step);
        if taken || round.len() >= limits::COMPLETION_BATCH { &mut rest } else { &mut round }.push((place, completion));
    }
    (round, rest)
}

/// What a handler said beside its result; [`decide`] has refused what cannot be kept.
fn metadata(outcome: &Outcome) -> Option<Box<RawValue>> {
    let Outcome::Success { metadata, .. } = outcome else { return None };
    metadata.clone().filter(|m| tasker_domain::decide::refuse_metadata(m).is_none())
}

/// Tells the same outcome sent twice from another one under the same lease.
fn digest(completion: &CompleteStep) -> i64 {
    let text = serde_json::to_vec(&completion.outcome).expect("an outcome serializes");
    let hash = Sha256::digest(text);
    i64::from_be_bytes(hash[..8].try_into().expect("a SHA-256 has 32 bytes"))
}
