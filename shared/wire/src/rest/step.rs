//! A step with its last result, and the operator actions on a step.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::Word;
use crate::StepState;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepResponse {
    pub step_uuid: Uuid,
    pub task_uuid: Uuid,
    pub name: String,
    /// RFC 3339 in UTC, with `Z` and six digits.
    pub created_at: String,
    pub updated_at: String,
    pub completed_at: Option<String>,
    pub results: Option<StepExecutionResult>,
    /// The results of the list are too large together. A request for the step alone returns this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub results_omitted: bool,
    #[cfg_attr(feature = "openapi", schema(value_type = StepState))]
    pub current_state: Word<StepState>,
    /// It failed and counts as done: its batch goes on without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tolerated: bool,
    pub dependencies_satisfied: bool,
    pub retry_eligible: bool,
    pub ready_for_execution: bool,
    pub total_parents: i32,
    pub completed_parents: i32,
    pub attempts: i32,
    pub max_attempts: i32,
    pub last_failure_at: Option<String>,
    pub next_retry_at: Option<String>,
    pub last_attempted_at: Option<String>,
    /// Its own inputs, such as the cursor of a batch worker; only where the step alone is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub inputs: Option<Box<RawValue>>,
    /// Why a dispatched step will not start by itself, or that a batch worker waits for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_reason: Option<String>,
}

/// The result of the last attempt, or of the operator action that replaced it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepExecutionResult {
    pub step_uuid: Uuid,
    pub success: bool,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub result: Option<Box<RawValue>>,
    pub metadata: StepExecutionMetadata,
    /// `completed` or `failed`.
    pub status: String,
    pub error: Option<StepExecutionError>,
    pub orchestration_metadata: Option<Value>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepExecutionMetadata {
    pub execution_time_ms: i64,
    pub handler_version: Option<String>,
    pub retryable: bool,
    pub completed_at: Option<String>,
    pub worker_id: Option<String>,
    pub worker_hostname: Option<String>,
    pub started_at: Option<String>,
    pub custom: Value,
    pub error_code: Option<String>,
    pub error_type: Option<String>,
    pub context: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepExecutionError {
    pub message: String,
    pub error_type: String,
    pub backtrace: Option<Vec<String>>,
    pub retryable: bool,
    /// The handler's error code, if it is an HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
}

/// The body of `PATCH /v1/tasks/{task}/workflow_steps/{step}`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "action_type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StepManualAction {
    /// Resets the step's attempts.
    ResetForRetry { reason: String, reset_by: String },
    /// Ends the step without a result.
    ResolveManually { reason: String, resolved_by: String },
    /// Ends the step with a result that its children see.
    CompleteManually { completion_data: CompletionData, reason: String, completed_by: String },
}

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompletionData {
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    pub result: Box<RawValue>,
    /// For operators; children do not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub metadata: Option<Box<RawValue>>,
}
