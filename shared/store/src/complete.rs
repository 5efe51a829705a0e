//! Completion: one statement applies a batch of verdicts.

use serde_json::value::RawValue;
use tasker_domain::{Verdict, decide::Again};
use tasker_wire::{message::Lease, outcome::Failure};

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
}

impl<'a> Completion<'a> {
    /// The orchestrator's own verdict on a step that no worker answers for.
    pub fn by_orchestrator(lease: Lease, attempt: i32, verdict: Verdict<'a>) -> Self {
        Self { lease, attempt, verdict, metadata: None, digest: 0, worker: "tasker".into(), duration_ms: 0, if_due: false }
    }
}

impl Store {
    /// Applies verdicts, which are ascending by step, at most one per step.
    pub async fn complete(&self, batch: &[Completion<'_>], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        debug_assert!(batch.is_sorted_by(|a, b| a.lease.step < b.lease.step));
        let applied: Vec<Columns> = batch.iter().map(|c| columns(&c.verdict)).collect();
        let params: [Param<'_>; 16] = [
            &batch.iter().map(|c| c.lease.step.task.uuid()).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.lease.step.no).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.lease.number).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.attempt).collect::<Vec<_>>(),
            &applied.iter().map(|c| c.word).collect::<Vec<_>>(),
            &applied.iter().map(|c| c.delay_ms).collect::<Vec<_>>(),
            &applied.iter().map(|c| c.body).collect::<Vec<_>>(),
            &applied.iter().map(|c| c.error.as_deref()).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.metadata.map(RawValue::get)).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.digest).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.worker.as_str()).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.duration_ms).collect::<Vec<_>>(),
            &batch.iter().map(|c| c.if_due).collect::<Vec<_>>(),
            &settings.send_ms,
            &settings.bodies,
            &settings.input_bytes,
        ];
        let rows = self.pool.run(Lane::Steps, Prepared::Once, sql!("complete"), &params).await?;
        Ok(rows.iter().map(Change::read).collect())
    }
}

/// The arguments of `complete_v1` for one verdict.
struct Columns<'a> {
    word: &'static str,
    delay_ms: i64,
    body: Option<&'a str>,
    error: Option<String>,
}

fn columns<'a>(verdict: &'a Verdict<'_>) -> Columns<'a> {
    let none = Columns { word: "", delay_ms: 0, body: None, error: None };
    let json = |f: &Failure| Some(serde_json::to_string(f).expect("a failure serializes"));
    match verdict {
        Verdict::Complete(result) => Columns { word: "complete", body: Some(result.get()), ..none },
        Verdict::Retry(delay, failure) => Columns { word: "retry", delay_ms: *delay as i64, error: json(failure), ..none },
        Verdict::Error { failure, tolerated: false } => Columns { word: "error", error: json(failure), ..none },
        Verdict::Error { failure, tolerated: true } => Columns { word: "tolerated", error: json(failure), ..none },
        Verdict::DispatchAgain(Again::Checkpoint(text)) => Columns { word: "checkpoint", body: Some(text.get()), ..none },
        Verdict::DispatchAgain(Again::Released) => Columns { word: "released", ..none },
        Verdict::DispatchAgain(Again::WorkerLost) => Columns { word: "lost", ..none },
        Verdict::Started(delay) => Columns { word: "started", delay_ms: *delay as i64, ..none },
        Verdict::AwaitCallback(delay) => Columns { word: "callback", delay_ms: *delay as i64, ..none },
    }
}
