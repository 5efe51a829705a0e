//! Why a task and its steps are where they are.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Word;
use crate::{Remedy, StepReason, TaskReason, TaskState};

/// A task explained, in sentences. All times are RFC 3339 in UTC, with `Z` and six digits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainResponse {
    pub task_uuid: Uuid,
    pub namespace: String,
    /// The template's name.
    pub name: String,
    #[cfg_attr(feature = "openapi", schema(value_type = TaskState))]
    pub status: Word<TaskState>,
    /// The database's time of what is said.
    pub explained_at: String,
    #[cfg_attr(feature = "openapi", schema(value_type = TaskReason))]
    pub reason: Word<TaskReason>,
    pub sentence: String,
    /// The steps that move, or that prevent it; at most [`crate::limits::LISTED_NAMES`] names.
    pub waits_for: Vec<String>,
    /// When the engine changes something by itself, a threshold of the template included; null if it does nothing before a worker or an
    /// operator does.
    pub changes_at: Option<String>,
    pub act: Option<ActHint>,
    /// The steps that are not done, then the failed ones that count as done. Those that hold up others come first. At most
    /// [`crate::limits::EXPLAINED_STEPS`].
    pub steps: Vec<StepExplanation>,
    /// The number of such steps that are not listed.
    pub steps_omitted: i64,
}

/// A step explained.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepExplanation {
    pub step_uuid: Uuid,
    pub name: String,
    #[cfg_attr(feature = "openapi", schema(value_type = StepReason))]
    pub reason: Word<StepReason>,
    pub sentence: String,
    /// The steps that it waits for; at most [`crate::limits::LISTED_NAMES`] names.
    pub waits_for: Vec<String>,
    /// When the engine does by itself what the sentence says; a time that has passed: with the next sweep. The time at which
    /// its task becomes stale, if that ends the task before. Null if a worker, another step or an operator comes first.
    pub changes_at: Option<String>,
    pub act: Option<ActHint>,
}

/// What an operator can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActHint {
    #[cfg_attr(feature = "openapi", schema(value_type = Remedy))]
    pub action: Word<Remedy>,
    /// The name of the step that the action is about.
    pub step: Option<String>,
    pub sentence: String,
}
