//! Operator actions, what they change, and pauses.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Word;
use crate::StepState;

/// The body of `POST /v1/tasks/{task}/actions` and of `POST /v1/tasks/{task}/workflow_steps/{step}/actions`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionBody {
    /// Of a task `cancel`, `reopen`, `resolve`, `pause`, `resume` or `note`; of a step `retry`, `redo`, `resolve`, `skip` or `note`.
    pub action: String,
    pub actor: String,
    pub reason: String,
    /// Of `retry` and `redo`: the step's own inputs from now on, a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub inputs: Option<Box<RawValue>>,
    /// Of `resolve`: the result that the step's children receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub result: Option<Box<RawValue>>,
    /// Of `resolve`, instead of a result: the lease of a success that came too late; its result is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_of_lease: Option<i32>,
    /// More data for the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub metadata: Option<Box<RawValue>>,
    /// The `seen` of a dry run. If the action would no longer do the same, it is rejected with `CHANGED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Changes nothing, and says what the action would change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What an action changed, or would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionResponse {
    pub action: String,
    /// False after a dry run.
    pub applied: bool,
    /// Stands for what the action would do now; a later request may carry it as its condition.
    pub seen: String,
    /// The steps that change, in topological order.
    pub steps: Vec<StepEffect>,
    /// Facts that speak against the action, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What an action changes in a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepEffect {
    pub step_uuid: Uuid,
    pub name: String,
    /// Null if the action makes the step.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<StepState>))]
    pub from_state: Option<Word<StepState>>,
    /// A state, or `deleted`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub to_state: Word<StepState>,
}

/// The body of `PUT` and `DELETE` on `/v1/pauses/{namespace}` and `/v1/pauses/{namespace}/{template}`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PauseBody {
    pub actor: String,
    pub reason: String,
    /// The `seen` of a dry run. If the pause or its end would no longer do the same, it is rejected with `CHANGED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A paused namespace or template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PauseEntry {
    pub namespace: String,
    /// Null if the whole namespace is paused.
    pub template: Option<String>,
    /// Who paused it.
    pub actor: String,
    pub reason: String,
    /// RFC 3339 in UTC, with `Z` and six digits.
    pub created_at: String,
}

/// The pauses in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PauseListResponse {
    pub pauses: Vec<PauseEntry>,
}

/// What a pause or its end did, or would do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PauseResponse {
    /// `pause` or `resume`.
    pub action: String,
    /// False after a dry run.
    pub applied: bool,
    /// The pause that is in force or was ended; null if there was none.
    pub pause: Option<PauseEntry>,
    /// The steps that only this pause holds; of `resume`: those that are due now.
    pub held_steps: i64,
    /// Stands for what this does; of a dry run a later request may carry it as its condition.
    #[serde(default)]
    pub seen: String,
    /// Facts that speak against the action, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
}
