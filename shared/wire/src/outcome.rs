//! What a worker says of one attempt.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a worker says of one try. On the wire an object with one key: `{"success": {…}}`, `{"failure": {…}}`, ….
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The handler returned a result.
    Success {
        /// Any JSON; children see it.
        result: Box<RawValue>,
        /// For operators; not seen by children.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Box<RawValue>>,
    },
    /// The handler failed, timed out, or killed its worker.
    Failure(Failure),
    /// Progress is stored and the step handed over again under the same attempt.
    Checkpoint {
        /// Where to go on; any JSON.
        cursor: Box<RawValue>,
        /// How much is done, for operators.
        #[serde(default)]
        items_processed: u64,
        /// What was gathered so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accumulated: Option<Box<RawValue>>,
    },
    /// The handler will answer later, by HTTP, with this message's token.
    PendingCallback {
        /// How long to wait for it.
        #[serde(default = "a_day")]
        timeout_seconds: u32,
    },
    /// It was not run; hand it over again under the same attempt.
    Released {},
    /// The handler was started.
    Started {},
    /// The handler still runs.
    Heartbeat {},
}

impl Outcome {
    /// Its word, as on the wire.
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

/// Why a try failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// For a person.
    pub message: String,
    /// A word for machines, such as `timeout`, `worker_crashed`, `permanent_error`.
    pub error_type: String,
    /// The handler's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Trying again may help.
    pub retryable: bool,
    /// Try again no sooner than this; it can only lengthen the back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
    /// More, for operators; any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<serde_json::Value>,
}

impl Failure {
    /// A failure that another try may cure.
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

    /// A failure that no other try can cure.
    pub fn permanent(error_type: &str, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(error_type, message) }
    }
}
