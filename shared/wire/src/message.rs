//! The messages between the orchestrator and its workers. Every message has a version, `v`.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{Json, StepId, TaskId, outcome::Outcome};

/// The version of a message.
pub const VERSION: u32 = 1;
/// The version of messages about decisions, batchable steps and batch workers. Code that knows only the first version would complete such
/// a step and make nothing, so it leaves these messages in their queue.
pub const DYNAMIC_VERSION: u32 = 2;
/// The versions that this code reads.
pub const VERSIONS: RangeInclusive<u32> = VERSION..=DYNAMIC_VERSION;

/// Whether a text is a W3C `traceparent` of version 00. Any other is ignored.
pub fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let some = |part: &str| part.bytes().any(|b| b != b'0');
    version == "00" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && some(trace) && some(parent)
}

/// The id of the trace in a `traceparent`, for logs.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (_version, trace) = (parts.next()?, parts.next()?);
    (trace.len() == 32).then_some(trace)
}

/// One dispatch of one step. A re-send has the same lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub step: StepId,
    /// Increased by every dispatch, cancel and manual resolution; never reset.
    pub number: i32,
}

/// The code that runs a step, and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handler {
    /// The name that the handler is registered under.
    pub callable: String,
    /// The entry point of a class-based handler.
    #[serde(default = "call")]
    pub method: String,
    /// How the callable is looked up; absent for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// The template's settings for the handler.
    #[serde(default)]
    pub initialization: BTreeMap<String, Json>,
}

fn call() -> String {
    "call".into()
}

/// Orchestrator to worker: run this step. It contains everything that a handler needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunStep {
    pub v: u32,
    pub task_id: TaskId,
    /// The same in all attempts, so handlers use it as an idempotency key.
    pub step_id: StepId,
    pub step_name: String,
    /// The fence: an outcome counts only under the step's current lease.
    pub lease: i32,
    /// From 1.
    pub attempt: i32,
    pub max_attempts: i32,
    /// Signed by the engine; the worker returns it with the outcome.
    pub token: String,
    /// How long the handler may run.
    pub timeout_seconds: u32,
    /// The worker reports the start, so that the step's deadline detects the loss of the worker.
    #[serde(default)]
    pub report_start: bool,
    /// The same in every step, log line and message of the task.
    pub correlation_id: Uuid,
    /// The W3C trace context of the request that submitted the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    pub namespace: String,
    pub handler: Handler,
    pub context: Arc<RawValue>,
    /// Results by step name: of all parents, and of the nearest ancestors beyond them. Null for a step that was not created.
    pub dependency_results: BTreeMap<String, Box<RawValue>>,
    /// Brief failures by step name, of parents whose failure the template tolerates. Their result is null.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dependency_errors: BTreeMap<String, Box<RawValue>>,
    /// Inputs of this step only, such as a batch cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_inputs: Option<Box<RawValue>>,
    /// The last checkpoint of the same attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Box<RawValue>>,
    /// Why the attempt before failed: a [`Failure`](crate::Failure), without a context that is large. Absent in the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Box<RawValue>>,
    /// How often this lease was sent before.
    #[serde(default)]
    pub resend: i32,
}

impl RunStep {
    /// The lease of this dispatch.
    pub fn lease(&self) -> Lease {
        Lease { step: self.step_id, number: self.lease }
    }

    /// The completion that answers this message.
    pub fn complete(&self, outcome: Outcome, worker: &str, execution_time_ms: u64) -> CompleteStep {
        CompleteStep {
            v: self.v,
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

/// Worker to orchestrator: the outcome of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CompleteStep {
    pub v: u32,
    pub task_id: TaskId,
    pub step_id: StepId,
    pub lease: i32,
    pub attempt: i32,
    pub token: String,
    /// The worker that ran the step; shown to operators.
    #[serde(default)]
    pub worker: String,
    /// How long the handler ran, by the worker's clock.
    #[serde(default)]
    pub execution_time_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    pub outcome: Outcome,
}

impl CompleteStep {
    /// The lease of the dispatch that this answers. Its task is the one in `step_id`, because the token covers that one.
    pub fn lease(&self) -> Lease {
        Lease { step: self.step_id, number: self.lease }
    }
}

/// Orchestrator to itself: this step's retry is due. It may arrive early, twice or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluate {
    pub v: u32,
    pub step_id: StepId,
    /// The message applies only while the step waits under this lease.
    pub lease: i32,
}
