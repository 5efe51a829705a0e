//! `POST /v1/tasks/{task}/actions` and `POST /v1/tasks/{task}/workflow_steps/{step}/actions`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// An operator's action.
#[derive(Debug, Serialize)]
pub struct ActionRequest {
    /// Of a task `cancel`, `reopen`, `resolve`, `pause`, `resume` or `note`; of a step `retry`, `redo`, `resolve`, `skip` or `note`.
    pub action: String,
    pub actor: String,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<RawValue>>,
    /// [`ActionResponse::seen`] of a dry run: if what the action would do has changed since then, it is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Only says what the action would do.
    pub dry_run: bool,
}

/// What an action did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionResponse {
    pub action: String,
    /// False after a dry run.
    pub applied: bool,
    /// A digest of what this was computed from.
    pub seen: String,
    /// The steps that change, in the order of the task.
    pub steps: Vec<EffectResponse>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectResponse {
    pub step_uuid: Uuid,
    pub name: String,
    /// Null if the action makes the step.
    pub from_state: Option<String>,
    /// `deleted` if the action deletes it. The same as before if the step is only dispatched anew.
    pub to_state: String,
}
