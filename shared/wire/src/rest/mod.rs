//! The documents of the REST interface, in the form of Tasker's clients: responses, and requests as a client writes them.
//!
//! The server writes every key. A client accepts missing keys, unknown keys and unknown states, because the server may be older or
//! newer. Contexts, results and definitions stay JSON text, so numbers keep their digits. `tasker-domain` reads requests for the server
//! and reports all their faults at once.

mod action;
mod dlq;
mod doctor;
mod explain;
mod health;
mod problem;
mod step;
mod task;
mod template;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use action::{ActionBody, ActionResponse, PauseBody, PauseEntry, PauseListResponse, PauseResponse, StepEffect};
pub use dlq::{
    DlqCause, DlqEntry, DlqFilter, DlqInvestigated, DlqInvestigation, DlqInvestigationQueueEntry, DlqReason, DlqStats, DlqStatus,
    RecoverBody, RecoverResponse, RecoveredEntry, StalenessMonitoring,
};
pub use doctor::{CounterDifference, DoctorReport, Examined, UnservedPool};
pub use explain::{ActHint, ExplainResponse, StepExplanation};
pub use health::{Health, HealthCheck, Readiness, ReadinessChecks, ReadinessInfo};
pub use problem::{ErrorBody, ErrorDetails, ErrorWords};
pub use step::{CompletionData, StepExecutionError, StepExecutionMetadata, StepExecutionResult, StepManualAction, StepResponse};
pub use task::{CancelTask, Pagination, StepReadiness, SubmitTask, TaskListResponse, TaskResponse};
pub use template::{NamespaceSummary, RegisteredTemplate, StepDefinition, TemplateDetail, TemplateListResponse, TemplateSummary};

/// A state in a response. A client keeps an unknown word unchanged.
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
