//! The documents of the REST interface, as Tasker's clients know them: what the server answers and what a client sends.
//!
//! The server writes every key. A client tolerates missing keys, unknown keys and unknown words of a state, because the server may be
//! older or newer. Contexts, results and definitions stay text, so that numbers keep their digits. How the server reads a request, with
//! all its faults at once, is in `tasker-domain`.

mod doctor;
mod health;
mod problem;
mod step;
mod task;
mod template;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use doctor::{CounterDifference, DoctorReport, Examined};
pub use health::{Health, HealthCheck, Readiness, ReadinessChecks, ReadinessInfo};
pub use problem::{ErrorBody, ErrorDetails, ErrorWords};
pub use step::{CompletionData, StepExecutionError, StepExecutionMetadata, StepExecutionResult, StepManualAction, StepResponse};
pub use task::{CancelTask, Pagination, StepReadiness, SubmitTask, TaskListResponse, TaskResponse};
pub use template::{NamespaceSummary, RegisteredTemplate, StepDefinition, TemplateDetail, TemplateListResponse, TemplateSummary};

/// A state in an answer. A client keeps a word that it does not know as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word<T> {
    Known(T),
    Unknown(String),
}

impl<T: Copy> Word<T> {
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(state) => Some(*state),
            Self::Unknown(_) => None,
        }
    }
}

impl<T> Default for Word<T> {
    fn default() -> Self {
        Self::Unknown(String::new())
    }
}

impl<T> From<T> for Word<T> {
    fn from(state: T) -> Self {
        Self::Known(state)
    }
}

impl<T: fmt::Display> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(state) => state.fmt(f),
            Self::Unknown(word) => word.fmt(f),
        }
    }
}
