//! Why a request failed: `{"error": {"code", "message", "details"?}}`, in Tasker's codes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Fault;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    pub error: ErrorWords,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorWords {
    /// For programs, such as `NOT_FOUND`.
    #[serde(default)]
    pub code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<ErrorDetails>,
    pub message: String,
    /// The same as in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// What an error is about, by its kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ErrorDetails {
    /// Everything that is wrong with the request.
    Faults { faults: Vec<Fault> },
    /// The versions of the template that was named; there may be none.
    Versions { registered_versions: Vec<String> },
    /// What differs from the registered version of a template, a line each.
    Differs {
        diff: Vec<String>,
        #[serde(default)]
        version: String,
    },
    /// The task of the same identity.
    Task { status: String, task_uuid: Uuid },
    /// The step whose state does not allow the action; null: its task's does not.
    Step { status: String, step_uuid: Option<Uuid> },
    /// Of a newer server.
    Other(Value),
}
