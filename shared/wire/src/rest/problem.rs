//! The response to a failed request: `{"error": {"code", "message", "details"?}}`, with Tasker's codes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{ActionResponse, PauseResponse, RecoverResponse};
use crate::Fault;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    pub error: ErrorWords,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorWords {
    /// For programs: `NOT_FOUND`, ….
    #[serde(default)]
    pub code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<ErrorDetails>,
    pub message: String,
    /// The value of the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ErrorDetails {
    /// All faults of the request.
    Faults { faults: Vec<Fault> },
    /// The versions of the requested template; there may be none.
    Versions { registered_versions: Vec<String> },
    /// The differences from the registered version of the template.
    Differs {
        diff: Vec<String>,
        #[serde(default)]
        version: String,
    },
    /// The task with the same identity.
    Task { status: String, task_uuid: Uuid },
    /// The step whose state does not allow the action; null if the state of its task does not.
    Step { status: String, step_uuid: Option<Uuid> },
    /// What the action would do now.
    Changed(Box<ActionResponse>),
    /// What the recovery would do now.
    ChangedRecovery(Box<RecoverResponse>),
    /// What the pause or its end would do now.
    ChangedPause(Box<PauseResponse>),
    /// Why the server is not ready.
    Problems { problems: Vec<String> },
    /// From a newer server.
    Other(Value),
}
