//! What the API says of tasks and steps, as far as this program shows it. Missing fields are empty: an older or newer server can be read too.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// A task, as the API answers it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Task {
    pub task_uuid: Uuid,
    pub name: String,
    pub namespace: String,
    pub version: String,
    pub status: String,
    pub created_at: String,
    pub completed_at: Option<String>,
    pub initiator: String,
    pub source_system: String,
    pub reason: String,
    pub priority: Option<i32>,
    pub tags: Option<Vec<String>>,
    pub correlation_id: String,
    pub total_steps: u64,
    pub completed_steps: u64,
    pub failed_steps: u64,
    pub execution_status: String,
    pub steps: Vec<StepState>,
}

/// A step inside a task.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct StepState {
    pub name: String,
    pub current_state: String,
}

/// A step, as the API answers it by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Step {
    pub step_uuid: String,
    pub name: String,
    pub current_state: String,
    pub attempts: i32,
    pub max_attempts: i32,
    pub total_parents: i32,
    pub completed_parents: i32,
    pub created_at: String,
    pub completed_at: Option<String>,
    pub last_attempted_at: Option<String>,
    pub next_retry_at: Option<String>,
    /// Tasker's execution result. Results may be large: it is read only where its error is shown.
    pub results: Option<Box<RawValue>>,
}

/// Why the last try of a step failed.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
#[allow(missing_docs)]
pub struct StepError {
    pub message: String,
    pub error_type: Option<String>,
    pub retryable: bool,
}

impl Step {
    /// The error of its last try, where it has one.
    pub fn error(&self) -> Option<StepError> {
        #[derive(Deserialize)]
        struct Results {
            error: Option<StepError>,
        }
        serde_json::from_str::<Results>(self.results.as_ref()?.get()).ok()?.error
    }
}
