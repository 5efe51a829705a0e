//! Completion: decides and records the outcomes of steps, a batch in one statement, and dispatches what became ready.

use std::{borrow::Borrow, sync::Arc};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tasker_domain::{
    Verdict, decide,
    decide::decide_failure,
    template::{StepKind, Workflow, WorkflowStep},
    token,
};
use tasker_queue::{Disposition, Queue};
use tasker_store::{Completion, StoreError};
use tasker_wire::{Answer, CompleteStep, Outcome, limits};

use crate::{Engine, templates::LoadedTemplate, work::Work};

/// Whether the engine may decide a completion.
enum Admitted {
    /// Yes, by the policy of the step at this position.
    By(Arc<LoadedTemplate>, usize),
    /// No, because of its token.
    Not(Answer),
}

impl<Q: Queue> Engine<Q> {
    /// Applies completions. Returns one answer per completion, in their order. After an error the result is unknown: call again with the
    /// same batch.
    ///
    /// Verdicts borrow from the batch, so no result is copied. A caller that may call again keeps the `Arc`.
    pub async fn complete<C>(self: &Arc<Self>, batch: impl Into<Arc<[C]>>) -> Result<Vec<Answer>, StoreError>
    where
        C: Borrow<CompleteStep> + Send + Sync + 'static,
    {
        let batch = batch.into();
        self.to_its_end(|engine| async move {
            let mut answers = vec![Answer::Forged; batch.len()];
            let (mut places, mut work) = (Vec::with_capacity(batch.len()), Work::default());
            for (place, completion) in batch.iter().map(Borrow::borrow).enumerate() {
                match engine.admit(completion).await? {
                    Admitted::By(template, position) => {
                        let verdict = judge(completion, &template.workflow, position, engine.jitter(completion.lease()));
                        work.record_of(&template, verdict);
                        places.push(place);
                    }
                    Admitted::Not(answer) => answers[place] = answer,
                }
            }
            for (place, answer) in places.into_iter().zip(engine.dispatch(work).await?) {
                answers[place] = answer;
                note(batch[place].borrow(), answer);
            }
            Ok(answers)
        })
        .await
    }

    /// Checks the token, and finds the template whose policy applies.
    async fn admit(&self, completion: &CompleteStep) -> Result<Admitted, StoreError> {
        let keys = &self.settings.signing_keys;
        let reference = match token::verify(&completion.token, completion.lease(), completion.attempt, keys) {
            Ok(reference) => reference,
            Err(answer) => {
                let (step_id, worker) = (completion.step_id, &completion.worker);
                tracing::warn!(%step_id, worker, ?answer, "a completion is rejected: its token was not issued for it, or is signed by an unknown key");
                return Ok(Admitted::Not(answer));
            }
        };
        let Some(template) = self.templates.get(&self.store, &reference).await? else {
            return Ok(Admitted::Not(Answer::Unknown));
        };
        let position = completion.step_id.position().filter(|&position| position < template.workflow.steps.len());
        Ok(position.map_or(Admitted::Not(Answer::Forged), |position| Admitted::By(template, position)))
    }
}

/// What becomes of the message of a completion.
pub fn disposition(answer: Answer) -> Disposition {
    match answer {
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Ignored => Disposition::Done,
        Answer::Refused => Disposition::Dead("the step was never dispatched under this lease".into()),
        Answer::Forged => Disposition::Dead("the token was not issued for this step, lease and attempt".into()),
        // The signing key is new, or the template belongs to a version that is still being deployed.
        Answer::Unknown => Disposition::RetryLater,
        Answer::Locked => Disposition::Postponed,
    }
}

/// The verdict on an outcome, with everything that is recorded about it.
fn judge<'a>(completion: &'a CompleteStep, workflow: &Workflow, position: usize, jitter: f64) -> Completion<'a> {
    let WorkflowStep { kind, policy, batch, .. } = &workflow.steps[position];
    let verdict = match decide(&completion.outcome, policy, completion.attempt, jitter) {
        Verdict::Complete(result) if matches!(kind, StepKind::Decision | StepKind::Batchable) => {
            match workflow.expansion(position, &completion.outcome) {
                Ok(expansion) => Verdict::Expand(result, Box::new(expansion)),
                Err(failure) => decide_failure(*failure, policy, completion.attempt, jitter),
            }
        }
        Verdict::Complete(result) => match workflow.refuse_expansion(position, &completion.outcome) {
            Some(failure) => decide_failure(*failure, policy, completion.attempt, jitter),
            None => Verdict::Complete(result),
        },
        verdict => verdict,
    };
    Completion {
        lease: completion.lease(),
        attempt: completion.attempt,
        metadata: metadata(completion),
        verdict,
        digest: digest(&completion.outcome),
        worker: completion.worker.chars().filter(|&c| c != '\0').take(limits::NAME_CHARS).collect(),
        duration_ms: completion.execution_time_ms.min(i64::MAX as u64) as i64,
        if_due: false,
        failure_effect: policy.failure_effect,
        has_place: *kind == StepKind::BatchWorker && batch.as_ref().is_some_and(|batch| batch.parallelism.is_some()),
    }
}

/// The metadata of a success, also for a rejected result. If it cannot be stored it is left out.
fn metadata(completion: &CompleteStep) -> Option<&RawValue> {
    let Outcome::Success { metadata: Some(metadata), .. } = &completion.outcome else { return None };
    let Some(reason) = tasker_domain::decide::refuse_metadata(metadata) else { return Some(metadata) };
    let (task_id, step_id, attempt) = (completion.task_id, completion.step_id, completion.attempt);
    tracing::warn!(%task_id, %step_id, attempt, reason, "the metadata of a success cannot be stored and is left out");
    None
}

/// Distinguishes an outcome that was sent twice from another outcome under the same lease. Each part follows its length, so parts cannot
/// run into each other.
fn digest(outcome: &Outcome) -> i64 {
    let mut hash = Sha256::new();
    let mut part = |text: Option<&str>| {
        hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        hash.update(text.unwrap_or_default());
    };
    part(Some(outcome.kind()));
    match outcome {
        Outcome::Success { result, metadata, decision, batches } => {
            part(Some(result.get()));
            for further in [metadata, decision, batches] {
                part(further.as_deref().map(RawValue::get));
            }
        }
        Outcome::Failure(failure) => {
            part(Some(&failure.message));
            part(Some(&failure.error_type));
            part(failure.error_code.as_deref());
            part(failure.context.as_ref().map(ToString::to_string).as_deref());
            hash.update([failure.retryable.into()]);
            hash.update(failure.delay_seconds.map_or(u64::MAX, f64::to_bits).to_be_bytes());
        }
        Outcome::Checkpoint { cursor, items_processed, accumulated } => {
            part(Some(cursor.get()));
            part(accumulated.as_deref().map(RawValue::get));
            hash.update(items_processed.to_be_bytes());
        }
        Outcome::PendingCallback { timeout_seconds } => hash.update(timeout_seconds.to_be_bytes()),
        Outcome::Released {} | Outcome::Started {} | Outcome::Heartbeat {} => {}
    }
    i64::from_be_bytes(hash.finalize()[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

/// Logs the answer to a completion, with the ids that connect it to its request.
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

#[cfg(test)]
mod tests {
    use tasker_wire::Failure;

    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn the_same_outcome_has_one_digest_and_every_other_one_another() {
        let success = |result: &str, metadata: Option<&str>| Outcome::success(raw(result), metadata.map(raw));
        let checkpoint = |cursor: &str, accumulated: Option<&str>, items_processed| Outcome::Checkpoint {
            cursor: raw(cursor),
            items_processed,
            accumulated: accumulated.map(raw),
        };
        let failure = Failure::retryable("timeout", "late");
        let outcomes = [
            success("12", None),
            success("1", Some("2")),
            success("1", None),
            success("1", Some("{}")),
            success("\"success\"", None),
            Outcome::Success { result: raw("1"), metadata: None, decision: Some(raw("2")), batches: None },
            Outcome::Success { result: raw("1"), metadata: None, decision: None, batches: Some(raw("2")) },
            checkpoint("1", None, 2),
            checkpoint("1", Some("2"), 2),
            checkpoint("1", None, 3),
            Outcome::Failure(failure.clone()),
            Outcome::Failure(Failure { retryable: false, ..failure.clone() }),
            Outcome::Failure(Failure { delay_seconds: Some(0.0), ..failure.clone() }),
            Outcome::Failure(Failure { error_code: Some(String::new()), ..failure.clone() }),
            Outcome::Failure(Failure { context: Some(1.into()), ..failure.clone() }),
            Outcome::Failure(Failure { context: Some("1".into()), ..failure.clone() }),
            Outcome::Failure(Failure { message: "timeout".into(), error_type: "late".into(), ..failure }),
            Outcome::PendingCallback { timeout_seconds: 1 },
            Outcome::PendingCallback { timeout_seconds: 2 },
            Outcome::Released {},
            Outcome::Started {},
            Outcome::Heartbeat {},
        ];
        let digests: std::collections::BTreeSet<i64> = outcomes.iter().map(digest).collect();
        assert_eq!(digests.len(), outcomes.len());
        for outcome in &outcomes {
            let again = serde_json::from_str(&serde_json::to_string(outcome).unwrap()).unwrap();
            assert_eq!(digest(outcome), digest(&again), "{outcome:?}");
        }
    }
}
