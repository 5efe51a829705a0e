//! Completion: one statement applies a batch of verdicts.

use serde_json::value::RawValue;
use tasker_domain::{FailureEffect, Verdict, decide::Again};
use tasker_wire::{StepNo, message::Lease, outcome::Failure};
use uuid::Uuid;

use crate::{
    Change, DispatchSettings, Store, StoreError,
    pool::{Lane, Param, Prepared},
    store::sql,
};

/// A verdict on the step that was dispatched under a lease. It borrows the result from the message.
#[derive(Debug)]
pub struct Completion<'a> {
    pub lease: Lease,
    pub attempt: i32,
    pub verdict: Verdict<'a>,
    /// The handler's metadata, as JSON text.
    pub metadata: Option<&'a RawValue>,
    /// The hash of the outcome, which detects duplicates.
    pub digest: i64,
    pub worker: String,
    pub duration_ms: i64,
    /// Apply it only if the step's deadline is still in the past.
    pub if_due: bool,
    /// What its failure means, if no outcome of it can be recorded.
    pub failure_effect: FailureEffect,
    /// The step may have a place of a batch, which its end passes on.
    pub has_place: bool,
}

impl<'a> Completion<'a> {
    /// The orchestrator's own verdict on a step that no worker answers for.
    pub fn by_orchestrator(lease: Lease, attempt: i32, verdict: Verdict<'a>) -> Self {
        Self {
            lease,
            attempt,
            verdict,
            metadata: None,
            digest: 0,
            worker: "tasker".into(),
            duration_ms: 0,
            if_due: false,
            failure_effect: FailureEffect::default(),
            has_place: false,
        }
    }
}

impl Store {
    /// Applies verdicts, which are ascending by step, at most one per step. Successes, the ordinary case, have functions of their own.
    /// One that goes alone must be alone; one that makes steps is applied by [`Store::expand`].
    pub async fn complete(&self, batch: &[Completion<'_>], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        debug_assert!(batch.is_sorted_by(|a, b| a.lease.step < b.lease.step));
        let results: Option<Vec<&str>> = batch.iter().map(result_of).collect();
        match (batch, results.as_deref()) {
            ([Completion { verdict: Verdict::Error { failure, effect: FailureEffect::EndsBatch }, .. }], _) => {
                self.fail_batch(&batch[0], failure, settings).await
            }
            ([success], Some([result])) => self.complete_one(success, result, settings).await,
            (_, Some(results)) => self.complete_many(batch, results, settings).await,
            (_, None) => self.complete_any(batch, settings).await,
        }
    }

    async fn complete_one(
        &self,
        of: &Completion<'_>,
        result: &str,
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let params: [Param<'_>; 12] = [
            &of.lease.step.task.uuid(),
            &of.lease.step.no,
            &of.lease.number,
            &of.attempt,
            &result,
            &of.metadata.map(RawValue::get),
            &of.digest,
            &of.worker.as_str(),
            &of.duration_ms,
            &settings.send_ms,
            &settings.bodies,
            &settings.input_bytes,
        ];
        self.changes(Lane::Steps, Prepared::Once, sql!("complete_one"), &params).await
    }

    async fn complete_many(
        &self,
        batch: &[Completion<'_>],
        results: &[&str],
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let of = Columns::of(batch);
        let params: [Param<'_>; 12] = [
            &of.task,
            &of.no,
            &of.lease,
            &of.attempt,
            &results,
            &of.metadata,
            &of.digest,
            &of.worker,
            &of.duration_ms,
            &settings.send_ms,
            &settings.bodies,
            &settings.input_bytes,
        ];
        self.changes(Lane::Steps, Prepared::Once, sql!("complete_many"), &params).await
    }

    async fn fail_batch(
        &self,
        of: &Completion<'_>,
        failure: &Failure,
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let error = json(failure);
        let params: [Param<'_>; 13] = [
            &of.lease.step.task.uuid(),
            &of.lease.step.no,
            &of.lease.number,
            &of.attempt,
            &error.as_str(),
            &of.metadata.map(RawValue::get),
            &of.digest,
            &of.worker.as_str(),
            &of.duration_ms,
            &of.if_due,
            &settings.send_ms,
            &settings.bodies,
            &settings.input_bytes,
        ];
        self.changes(Lane::Steps, Prepared::Never, sql!("fail_batch"), &params).await
    }

    async fn complete_any(&self, batch: &[Completion<'_>], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let of = Columns::of(batch);
        let applied: Vec<Applied> = batch.iter().map(|c| applied(&c.verdict)).collect();
        let params: [Param<'_>; 16] = [
            &of.task,
            &of.no,
            &of.lease,
            &of.attempt,
            &applied.iter().map(|c| c.word).collect::<Vec<_>>(),
            &applied.iter().map(|c| c.delay_ms).collect::<Vec<_>>(),
            &applied.iter().map(|c| c.body).collect::<Vec<_>>(),
            &applied.iter().map(|c| c.error.as_deref()).collect::<Vec<_>>(),
            &of.metadata,
            &of.digest,
            &of.worker,
            &of.duration_ms,
            &batch.iter().map(|c| c.if_due).collect::<Vec<_>>(),
            &settings.send_ms,
            &settings.bodies,
            &settings.input_bytes,
        ];
        self.changes(Lane::Steps, Prepared::Once, sql!("complete"), &params).await
    }
}

/// The result, if the completion is a success that is applied unconditionally and passes no place on.
fn result_of<'a>(completion: &Completion<'a>) -> Option<&'a str> {
    match completion.verdict {
        Verdict::Complete(result) if !completion.if_due && !completion.has_place => Some(result.get()),
        _ => None,
    }
}

/// What all completions have, as columns.
struct Columns<'a> {
    task: Vec<Uuid>,
    no: Vec<StepNo>,
    lease: Vec<i32>,
    attempt: Vec<i32>,
    metadata: Vec<Option<&'a str>>,
    digest: Vec<i64>,
    worker: Vec<&'a str>,
    duration_ms: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a [Completion<'_>]) -> Self {
        Self {
            task: batch.iter().map(|c| c.lease.step.task.uuid()).collect(),
            no: batch.iter().map(|c| c.lease.step.no).collect(),
            lease: batch.iter().map(|c| c.lease.number).collect(),
            attempt: batch.iter().map(|c| c.attempt).collect(),
            metadata: batch.iter().map(|c| c.metadata.map(RawValue::get)).collect(),
            digest: batch.iter().map(|c| c.digest).collect(),
            worker: batch.iter().map(|c| c.worker.as_str()).collect(),
            duration_ms: batch.iter().map(|c| c.duration_ms).collect(),
        }
    }
}

/// The arguments of `complete_v1` for one verdict.
struct Applied<'a> {
    word: &'static str,
    delay_ms: i64,
    body: Option<&'a str>,
    error: Option<String>,
}

fn applied<'a>(verdict: &'a Verdict<'_>) -> Applied<'a> {
    let none = Applied { word: "", delay_ms: 0, body: None, error: None };
    match verdict {
        Verdict::Complete(result) => Applied { word: "complete", body: Some(result.get()), ..none },
        Verdict::Expand(..) => unreachable!("a success that makes steps is applied by `expand`"),
        Verdict::Retry(delay, failure) => Applied { word: "retry", delay_ms: *delay as i64, error: Some(json(failure)), ..none },
        Verdict::Error { failure, effect: FailureEffect::Blocks | FailureEffect::EndsBatch } => {
            Applied { word: "error", error: Some(json(failure)), ..none }
        }
        Verdict::Error { failure, effect: FailureEffect::Tolerated } => {
            Applied { word: "tolerated", error: Some(json(failure)), ..none }
        }
        Verdict::DispatchAgain(Again::Checkpoint(text)) => Applied { word: "checkpoint", body: Some(text.get()), ..none },
        Verdict::DispatchAgain(Again::Released) => Applied { word: "released", ..none },
        Verdict::DispatchAgain(Again::WorkerLost) => Applied { word: "lost", ..none },
        Verdict::Started(delay) => Applied { word: "started", delay_ms: *delay as i64, ..none },
        Verdict::AwaitCallback(delay) => Applied { word: "callback", delay_ms: *delay as i64, ..none },
    }
}

fn json(failure: &Failure) -> String {
    serde_json::to_string(failure).expect("a failure serializes")
}
