//! A task, a page of tasks, and the requests that submit and cancel a task.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Word;
use crate::{StepState, TaskState};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskResponse {
    pub task_uuid: Uuid,
    pub name: String,
    pub namespace: String,
    pub version: String,
    pub environment: String,
    #[cfg_attr(feature = "openapi", schema(value_type = TaskState))]
    pub status: Word<TaskState>,
    pub paused: bool,
    /// RFC 3339 in UTC, with `Z` and six digits.
    pub created_at: String,
    pub updated_at: String,
    pub completed_at: Option<String>,
    /// Null if the contexts of the list are too large together.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub context: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub context_omitted: bool,
    pub initiator: String,
    pub source_system: String,
    pub reason: String,
    pub priority: Option<i32>,
    pub tags: Vec<String>,
    pub correlation_id: Uuid,
    pub parent_correlation_id: Option<Uuid>,
    pub total_steps: i64,
    pub pending_steps: i64,
    pub in_progress_steps: i64,
    pub completed_steps: i64,
    pub failed_steps: i64,
    pub cancelled_steps: i64,
    pub ready_steps: i64,
    pub execution_status: String,
    pub recommended_action: String,
    pub completion_percentage: f64,
    pub health_status: String,
    /// Empty in a list.
    pub steps: Vec<StepReadiness>,
    /// What an operator should mend, such as a pool without a worker. Empty in a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A step inside a [`TaskResponse`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepReadiness {
    pub workflow_step_uuid: Uuid,
    pub task_uuid: Uuid,
    pub named_step_uuid: Uuid,
    pub name: String,
    #[cfg_attr(feature = "openapi", schema(value_type = StepState))]
    pub current_state: Word<StepState>,
    pub dependencies_satisfied: bool,
    pub retry_eligible: bool,
    pub ready_for_execution: bool,
    /// ISO 8601 in UTC without an offset, because Tasker's clients fail on an offset here.
    pub last_failure_at: Option<String>,
    pub next_retry_at: Option<String>,
    pub total_parents: i32,
    pub completed_parents: i32,
    pub attempts: i32,
    pub max_attempts: i32,
    pub backoff_request_seconds: Option<i32>,
    pub last_attempted_at: Option<String>,
    /// Why a dispatched step will not start by itself, or that a batch worker waits for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_reason: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskListResponse {
    pub tasks: Vec<TaskResponse>,
    pub pagination: Pagination,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pagination {
    /// From 1.
    pub page: u32,
    pub per_page: u32,
    /// At most [`crate::limits::COUNTED_ROWS`].
    pub total_count: i64,
    pub total_pages: i64,
    pub has_next: bool,
    pub has_previous: bool,
}

/// The body of `POST /v1/tasks`. The server chooses defaults for absent keys.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubmitTask {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub context: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_correlation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// The body of `DELETE /v1/tasks/{task}`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelTask {
    pub reason: Option<String>,
    pub actor: Option<String>,
}
