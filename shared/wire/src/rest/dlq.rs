//! DLQ entries: tasks and steps that wait for an operator.
//!
//! In these documents the words of an enum are in PascalCase, and times have no offset: Tasker's clients read nothing else here.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{StepEffect, Word};
use crate::Json;

macro_rules! tasker_words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$vdoc])* #[serde(alias = $word)] $variant),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in the database and in queries.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word, in the spelling of queries or in that of documents.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word | stringify!($variant) => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.as_str()) }
        }
    };
}

tasker_words! {
    /// Why there is an entry. Tasker's words; `reason_detail` has the exact one.
    DlqReason {
        /// The task takes longer than its template allows.
        StalenessTimeout = "staleness_timeout",
        /// The task failed.
        MaxRetriesExceeded = "max_retries_exceeded",
        /// Never arises, because a template with a cycle is not registered.
        DependencyCycleDetected = "dependency_cycle_detected",
        /// A step was sent several times, and no worker answered.
        WorkerUnavailable = "worker_unavailable",
        /// A message about a step was given up.
        ManualDlq = "manual_dlq",
    }
}

tasker_words! {
    /// What became of an entry.
    DlqStatus {
        /// It waits for an operator.
        Pending = "pending",
        /// What it is about was settled, by an operator or by itself.
        ManuallyResolved = "manually_resolved",
        /// An operator gave it up.
        PermanentlyFailed = "permanently_failed",
        /// Its task was cancelled.
        Cancelled = "cancelled",
    }
}

/// `GET /v1/dlq/task/{task}`, and each element of `GET /v1/dlq`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DlqEntry {
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
    /// The state of the task before.
    pub original_state: String,
    #[cfg_attr(feature = "openapi", schema(value_type = DlqReason))]
    pub dlq_reason: Word<DlqReason>,
    /// ISO 8601 in UTC without an offset, as all times here.
    pub dlq_timestamp: String,
    #[cfg_attr(feature = "openapi", schema(value_type = DlqStatus))]
    pub resolution_status: Word<DlqStatus>,
    pub resolution_timestamp: Option<String>,
    pub resolution_notes: Option<String>,
    pub resolved_by: Option<String>,
    /// The task at that time: its steps by state, those that failed with their errors, those that could still move. Null if the snapshots of
    /// the list are too large together.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub task_snapshot: Option<Json>,
    /// What the investigation added.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub metadata: Option<Json>,
    pub created_at: String,
    pub updated_at: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub template: String,
    /// The step that it is about; null: the whole task.
    #[serde(default)]
    pub step: Option<String>,
    /// The type of the failure, the threshold that was exceeded, or what happened to the message.
    #[serde(default)]
    pub reason_detail: String,
    /// Equal for entries that probably have one cause.
    #[serde(default)]
    pub fingerprint: String,
}

/// The body of `PATCH /v1/dlq/entry/{entry}`. What is null stays as it is.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DlqInvestigation {
    pub resolution_status: Option<DlqStatus>,
    pub resolution_notes: Option<String>,
    pub resolved_by: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub metadata: Option<Json>,
}

/// The answer to an investigation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DlqInvestigated {
    pub success: bool,
    pub message: String,
    pub dlq_entry_uuid: Uuid,
}

/// An element of `GET /v1/dlq/stats`: the newest 100,000 entries of one reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DlqStats {
    #[cfg_attr(feature = "openapi", schema(value_type = DlqReason))]
    pub dlq_reason: Word<DlqReason>,
    pub total_entries: i64,
    pub pending: i64,
    pub manually_resolved: i64,
    pub permanent_failures: i64,
    pub cancelled: i64,
    pub oldest_entry: Option<String>,
    pub newest_entry: Option<String>,
    pub avg_resolution_time_minutes: Option<f64>,
}

/// An element of `GET /v1/dlq/causes`: pending entries that probably have one cause.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DlqCause {
    pub fingerprint: String,
    pub entries: i64,
    pub namespace: String,
    pub template: String,
    pub step: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = DlqReason))]
    pub dlq_reason: Word<DlqReason>,
    pub reason_detail: String,
    pub first_entry: String,
    pub last_entry: String,
    /// One of them, the newest.
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
}

/// An element of `GET /v1/dlq/investigation-queue`: what should be looked at first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DlqInvestigationQueueEntry {
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
    pub original_state: String,
    #[cfg_attr(feature = "openapi", schema(value_type = DlqReason))]
    pub dlq_reason: Word<DlqReason>,
    pub dlq_timestamp: String,
    pub minutes_in_dlq: f64,
    pub namespace_name: Option<String>,
    pub task_name: Option<String>,
    pub current_state: Option<String>,
    /// Since the task ended, or was created.
    pub time_in_state_minutes: Option<i32>,
    /// That of its reason and one a minute.
    pub priority_score: f64,
}

/// An element of `GET /v1/dlq/staleness`: a running task of a template with thresholds, by the one that is nearest or most exceeded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StalenessMonitoring {
    pub task_uuid: Uuid,
    pub namespace_name: Option<String>,
    pub task_name: Option<String>,
    /// What it waits for: `steps_in_process`, `waiting_for_retry`, `waiting_for_dependencies`, or `running`.
    pub current_state: String,
    /// Without the time of pauses.
    pub time_in_state_minutes: i32,
    pub task_age_minutes: i32,
    pub staleness_threshold_minutes: i32,
    /// `stale`; `warning` from four fifths of the threshold on; `healthy`.
    pub health_status: String,
    pub priority: i32,
}

/// Which pending entries are recovered. An entry must match all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DlqFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dlq_reason: Option<DlqReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// These entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<Uuid>>,
    /// Opened at least so long ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u32>,
}

/// The body of `POST /v1/dlq/recover`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecoverBody {
    pub filter: DlqFilter,
    pub actor: String,
    pub reason: String,
    /// Entries at most, up to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// The `next` of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The `seen` of a dry run of the same page. If it would no longer do the same, it is rejected with `CHANGED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Changes nothing, and says what would change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a recovery did, or would do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecoverResponse {
    /// False after a dry run.
    pub applied: bool,
    /// Every entry that was looked at and matches, oldest first.
    pub items: Vec<RecoveredEntry>,
    /// Stands for what this page does; after a dry run a later request may carry it as its condition.
    #[serde(default)]
    pub seen: String,
    /// Where the next request is to continue; null: no matching entry is left. Entries that were opened after the first request do not count.
    pub next: Option<String>,
}

/// What became of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecoveredEntry {
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
    pub namespace: String,
    pub template: String,
    pub step: Option<String>,
    pub dlq_reason: String,
    pub reason_detail: String,
    pub fingerprint: String,
    /// `recovered`; `skipped`: its task is in a state in which nothing is to be done; `failed`: nothing was done because of an error.
    pub outcome: String,
    /// Why it was not recovered.
    pub why: Option<String>,
    /// Facts that speak against it, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The number of steps that were set back or dispatched.
    pub steps: usize,
    /// The first of them, in topological order.
    #[serde(default)]
    pub changed: Vec<StepEffect>,
}
