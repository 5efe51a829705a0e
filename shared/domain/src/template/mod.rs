//! Templates: the YAML definition of a workflow, its faults, and the workflow that tasks follow.
//!
//! [`parse`] turns a file into a [`Template`] with every default filled in, which is stored as JSON. A template and
//! an environment become a [`Workflow`] ([`Template::workflow`]). This module does not know which templates are registered.

mod batches;
mod check;
mod kinds;
mod read;
mod schema;
mod workflow;
mod yaml;

use std::{cell::RefCell, collections::BTreeMap};

use semver::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use batches::Batch;
pub use workflow::{Workflow, WorkflowStep};

use crate::{backoff::BackoffKind, reader::Findings};
use tasker_wire::{Fault, Faults, Json, message::Handler};

/// In an environment's overlay, the name that means every step.
pub const ALL: &str = "ALL";
/// The default for the first pause between attempts.
pub const BACKOFF_BASE_MS: u64 = 1_000;
/// The default for the longest pause.
pub const MAX_BACKOFF_MS: u64 = 30_000;

/// Reads a template from YAML, or from JSON with escaped control characters. Returns the template with notes on keys without effect,
/// or every fault. Places are JSON pointers into the file, or `line:column` if it is not YAML.
pub fn parse(yaml: &str) -> Result<(Template, Vec<Fault>), Faults> {
    let json = yaml::json(yaml)?;
    let findings = RefCell::new(Findings::default());
    let template = read::template(json, &findings);
    let mut findings = findings.into_inner();
    if let Some(template) = &template {
        check::template(template, &mut findings);
    }
    let notes = findings.finish()?;
    Ok((template.expect("without a fault there is a template"), notes))
}

/// A workflow definition with every default filled in. It is stored as its own JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub name: String,
    #[serde(rename = "namespace_name")]
    pub namespace: String,
    /// A template never changes under one version.
    pub version: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What makes a task a duplicate of another one.
    #[serde(default)]
    pub identity_strategy: IdentityStrategy,
    /// A JSON Schema for a task's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Author, tags and the like, stored unchanged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Json>,
    /// Events of the whole task, stored unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domain_events: Vec<Json>,
    /// In the order of the file.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Overlays by the name of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Environment>,
}

impl Template {
    /// The SHA-256 of the definition. Two files with the same definition are the same template; ignored keys do not count.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(serde_json::to_vec(self).expect("a template has string keys")).into()
    }
}

/// What makes a task a duplicate of another one of its template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityStrategy {
    /// The same context.
    #[default]
    Strict,
    /// The same idempotency key. Every request must have one.
    CallerProvided,
    AlwaysUnique,
}

/// When a task is stale, and what happens then. What is absent has no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Since the task was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_minutes: Option<u32>,
    /// Since a step last ended, while steps wait for parents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_dependencies_minutes: Option<u32>,
    /// Since a step's last attempt, while it waits for the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_retry_minutes: Option<u32>,
    /// Since a step was dispatched, or its checkpoint last changed, until it is answered. A step that awaits a callback has its own time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps_in_process_minutes: Option<u32>,
    #[serde(default)]
    pub staleness_action: StalenessAction,
}

impl Lifecycle {
    /// Whether a task can be stale.
    pub fn has_thresholds(&self) -> bool {
        let Self {
            max_duration_minutes: duration,
            max_waiting_for_dependencies_minutes: dependencies,
            max_waiting_for_retry_minutes: retry,
            max_steps_in_process_minutes: process,
            staleness_action: _,
        } = self;
        [duration, dependencies, retry, process].into_iter().any(Option::is_some)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StalenessAction {
    /// Writes a DLQ entry; the task continues.
    #[default]
    Dlq,
    /// Writes a DLQ entry; unfinished steps are cancelled, and the task ends as an error.
    Error,
    /// Does nothing; the list of stale tasks shows it.
    None,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the template.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, rename = "type")]
    pub kind: StepKind,
    /// The names of the parents: the steps that must be done first.
    #[serde(default)]
    pub dependencies: Vec<String>,
    pub handler: Handler,
    /// The pool that runs it; absent for the default pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    #[serde(default)]
    pub retry: Retry,
    /// How long the handler may run.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
    /// A JSON Schema for the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_config: Option<BatchConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishes_events: Vec<EventDeclaration>,
}

fn timeout_seconds() -> u32 {
    30
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Runs when its parents are done.
    #[default]
    Standard,
    /// Its result decides which of the next steps are created.
    Decision,
    /// Waits for those of its parents that were created.
    DeferredConvergence,
    /// Its result divides work into batches.
    Batchable,
    /// The pattern for the steps that work on the batches.
    BatchWorker,
}

impl StepKind {
    /// Whether its outcome means more for other steps than that they are ready.
    pub fn is_dynamic(self) -> bool {
        matches!(self, Self::Decision | Self::Batchable | Self::BatchWorker)
    }

    /// As in a template.
    pub fn word(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Decision => "decision",
            Self::DeferredConvergence => "deferred_convergence",
            Self::Batchable => "batchable",
            Self::BatchWorker => "batch_worker",
        }
    }
}

/// How often a failed step is attempted again, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Whether another attempt may follow a failed one.
    pub retryable: bool,
    /// All attempts together; at least 1.
    pub max_attempts: u32,
    pub backoff: BackoffKind,
    pub backoff_base_ms: u64,
    pub max_backoff_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retryable: true,
            max_attempts: 3,
            backoff: BackoffKind::Exponential,
            backoff_base_ms: BACKOFF_BASE_MS,
            max_backoff_ms: MAX_BACKOFF_MS,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchConfig {
    pub batch_size: u32,
    /// Workers that run at once; absent for no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    pub cursor_field: String,
    /// The `batch_worker` step that the workers are created from.
    pub worker_template: String,
    pub failure_strategy: FailureStrategy,
}

fn cursor_field() -> String {
    "id".into()
}

/// What a failed batch worker means for the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureStrategy {
    /// Nothing: the failed worker counts as a done parent.
    #[default]
    ContinueOnFailure,
    FailFast,
    /// The others continue; the steps after them are held for an operator.
    Isolate,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventDeclaration {
    /// Such as `order.validated`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A JSON Schema for the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Json>,
    #[serde(default)]
    pub delivery_mode: DeliveryMode,
    #[serde(default)]
    pub condition: Condition,
    /// The code that makes the payload; absent if the payload is the step's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// Stored until it is published.
    #[default]
    Durable,
    /// In the worker's process only.
    Fast,
    Broadcast,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    #[default]
    Success,
    /// On every failed attempt.
    Failure,
    /// On a failed attempt that may be retried.
    RetryableFailure,
    /// On a final failure.
    PermanentFailure,
    Always,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// In the order in which they apply.
    #[serde(default)]
    pub steps: Vec<Overlay>,
}

/// The settings of one step, or of [`ALL`], that an environment changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overlay {
    /// The name of a step, or [`ALL`].
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerOverlay>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Replaces the whole block of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HandlerOverlay {
    /// Replaces single keys.
    #[serde(default)]
    pub initialization: BTreeMap<String, Json>,
}
