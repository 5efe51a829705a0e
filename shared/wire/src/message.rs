//! What travels between the orchestrator and its workers. Every message carries `v`.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{StepId, TaskId, outcome::Outcome};

/// The version of the messages that this code writes and reads.
pub const VERSION: u32 = 1;

/// Whether a text is a W3C trace context of the version that is known here. One that is not is ignored wherever it comes from.
pub fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let some = |part: &str| part.bytes().any(|b| b != b'0');
    version == "00" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && some(trace) && some(parent)
}

/// One dispatch of one step. A re-send has the same lease; every other dispatch of the step has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The step.
    pub step: StepId,
    /// Its lease: rises with every dispatch, and is never reset.
    pub number: i32,
}

/// Which code runs a step, and with what settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handler {
    /// The name a handler was registered under.
    pub callable: String,
    /// The entry point of a class-based handler.
    #[serde(default = "call")]
    pub method: String,
    /// How the callable is looked up, where the default is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// The template's settings for this handler.
    #[serde(default)]
    pub initialization: serde_json::Map<String, serde_json::Value>,
}

fn call() -> String {
    "call".into()
}

/// Orchestrator to worker: run this step. Holds everything a handler needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunStep {
    /// [`VERSION`].
    pub v: u32,
    /// The task.
    pub task_id: TaskId,
    /// The step; stable over all tries, so handlers use it as an idempotency key.
    pub step_id: StepId,
    /// The step's name in its template.
    pub step_name: String,
    /// The fence: an answer counts only under the step's current lease.
    pub lease: i32,
    /// This try, from 1.
    pub attempt: i32,
    /// Tries in all.
    pub max_attempts: i32,
    /// Signed by the engine; comes back with the answer.
    pub token: String,
    /// Seconds that the handler may run.
    pub timeout_seconds: u32,
    /// The worker should report its start, so that its loss is noticed by the step's deadline.
    #[serde(default)]
    pub report_start: bool,
    /// The same in every step, log line and message of the task.
    pub correlation_id: Uuid,
    /// W3C trace context of the request, when it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The task's namespace.
    pub namespace: String,
    /// What to run.
    pub handler: Handler,
    /// The task's context.
    pub context: Arc<RawValue>,
    /// Results by step name: of all parents, and of the nearest further ancestors. Null for a step that was not created.
    pub dependency_results: BTreeMap<String, Box<RawValue>>,
    /// Inputs of this step alone, such as a batch cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_inputs: Option<Box<RawValue>>,
    /// What the same try stored with its last checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Box<RawValue>>,
    /// How often this lease was sent before.
    #[serde(default)]
    pub resend: i32,
}

impl RunStep {
    /// The lease that it was dispatched under.
    pub fn lease(&self) -> Lease {
        Lease { step: self.step_id, number: self.lease }
    }

    /// The answer to this message.
    pub fn complete(&self, outcome: Outcome, worker: &str, execution_time_ms: u64) -> CompleteStep {
        CompleteStep {
            v: VERSION,
            task_id: self.task_id,
            step_id: self.step_id,
            lease: self.lease,
            attempt: self.attempt,
            token: self.token.clone(),
            worker: worker.to_owned(),
            execution_time_ms,
            correlation_id: Some(self.correlation_id),
            traceparent: self.traceparent.clone(),
            outcome,
        }
    }
}

/// Worker to orchestrator: what came of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CompleteStep {
    /// [`VERSION`].
    pub v: u32,
    pub task_id: TaskId,
    pub step_id: StepId,
    pub lease: i32,
    pub attempt: i32,
    pub token: String,
    /// Who ran it; shown to operators.
    #[serde(default)]
    pub worker: String,
    /// Milliseconds that the handler ran, by the worker's own clock.
    #[serde(default)]
    pub execution_time_ms: u64,
    /// As received; for logs and traces only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// As received; for logs and traces only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

impl CompleteStep {
    /// The lease that this answers. Of the step's own task: that is the one the token covers.
    pub fn lease(&self) -> Lease {
        Lease { step: self.step_id, number: self.lease }
    }
}

/// To the orchestrator itself: this step's retry is due. A wake-up: it may come early, twice or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluate {
    /// [`VERSION`].
    pub v: u32,
    /// The step.
    pub step_id: StepId,
    /// It applies only while the step waits under this lease.
    pub lease: i32,
}
