//! The outcome of an attempt, as the worker reports it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// In JSON, an object with one key: `{"success": {…}}`, `{"failure": {…}}`, ….
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The handler returned a result.
    Success {
        /// Any JSON; children see it.
        result: Box<RawValue>,
        /// For operators; children do not see it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Box<RawValue>>,
        /// Of a decision step: `{"create": [names]}`, the steps after it that are to exist.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<Box<RawValue>>,
        /// Of a batchable step: `{"worker_template": …, "cursors": [{"batch_id": …, "start": …, "end": …, …}]}`, or `"no_batches"`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batches: Option<Box<RawValue>>,
    },
    /// The handler failed, timed out, or killed its worker.
    Failure(Failure),
    /// Progress is stored, and the step is dispatched again under the same attempt.
    Checkpoint {
        /// Where to continue; any JSON.
        cursor: Box<RawValue>,
        /// For operators.
        #[serde(default)]
        items_processed: u64,
        /// Results so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accumulated: Option<Box<RawValue>>,
    },
    /// The handler will answer later, by HTTP, with this message's token.
    PendingCallback {
        #[serde(default = "a_day")]
        timeout_seconds: u32,
    },
    /// The step was not run. It is dispatched again under the same attempt.
    Released {},
    /// The handler was started.
    Started {},
    /// The handler is still running.
    Heartbeat {},
}

impl Outcome {
    /// A success that makes no steps.
    pub fn success(result: Box<RawValue>, metadata: Option<Box<RawValue>>) -> Self {
        Self::Success { result, metadata, decision: None, batches: None }
    }

    /// The key in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Success { .. } => "success",
            Self::Failure(_) => "failure",
            Self::Checkpoint { .. } => "checkpoint",
            Self::PendingCallback { .. } => "pending_callback",
            Self::Released {} => "released",
            Self::Started {} => "started",
            Self::Heartbeat {} => "heartbeat",
        }
    }
}

fn a_day() -> u32 {
    24 * 3600
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub message: String,
    /// For programs: `timeout`, `worker_crashed`, `permanent_error`, ….
    pub error_type: String,
    /// The handler's own error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// The shortest pause before the next attempt. It can only lengthen the backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
    /// For operators; any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<serde_json::Value>,
}

impl Failure {
    /// A failure that another attempt may cure.
    pub fn retryable(error_type: &str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            error_type: error_type.into(),
            error_code: None,
            retryable: true,
            delay_seconds: None,
            context: None,
        }
    }

    /// A failure that no other attempt can cure.
    pub fn permanent(error_type: &str, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(error_type, message) }
    }
}
