//! Templates: what a YAML file says of a workflow, what is wrong with it, and the plan that a task follows.
//!
//! A file becomes a [`Template`] with every default filled in ([`parse`]), which is stored as its own JSON; a template and
//! an environment become a [`Workflow`] ([`Template::workflow`]). Nothing here knows which templates are registered.

mod check;
mod read;
mod schema;
mod workflow;
mod yaml;

use std::{cell::RefCell, collections::BTreeMap};

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use workflow::{Planned, Workflow};

use crate::{backoff::BackoffKind, reader::Findings};
use tasker_wire::{Fault, Faults, message::Handler};

/// The name in an environment's overlay that means every step.
pub const ALL: &str = "ALL";
/// Milliseconds of the first pause between tries, where a template says nothing.
pub const BACKOFF_BASE_MS: u64 = 1_000;
/// Milliseconds that no pause exceeds, where a template says nothing.
pub const MAX_BACKOFF_MS: u64 = 30_000;

/// Reads a template from YAML (or JSON, where control characters are escaped): the template with notes on what has no effect, or every fault.
///
/// Places are JSON pointers into the file, or `line:column` where it is not YAML.
pub fn parse(yaml: &str) -> Result<(Template, Vec<Fault>), Faults> {
    let value = yaml::value(yaml)?;
    let findings = RefCell::new(Findings::default());
    let template = read::template(value, &findings);
    let mut findings = findings.into_inner();
    if let Some(template) = &template {
        check::template(template, &mut findings);
    }
    let notes = findings.finish()?;
    Ok((template.expect("without a fault there is a template"), notes))
}

/// Why a template cannot be registered yet although it is valid: its step types whose engine does not exist.
pub fn refuse_unsupported(template: &Template) -> Vec<Fault> {
    let refuse = |(i, step): (usize, &Step)| {
        let reason = match step.kind {
            StepKind::Standard => return None,
            StepKind::Decision => "decision steps cannot be run yet: the engine does not create steps while a task runs",
            StepKind::DeferredConvergence => "deferred_convergence steps cannot be run yet: they wait for what decisions create",
            StepKind::Batchable => "batchable steps cannot be run yet: the engine does not create batch workers",
            StepKind::BatchWorker => "batch_worker steps cannot be run yet: the engine does not create them from batches",
        };
        Some(Fault::new(format!("/steps/{i}/type"), reason))
    };
    template.steps.iter().enumerate().filter_map(refuse).collect()
}

/// A workflow as its file describes it, with every default filled in. Serialized, it is the definition that is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its name in its namespace.
    pub name: String,
    /// Its namespace.
    #[serde(rename = "namespace_name")]
    pub namespace: String,
    /// Its version; a template does not change under one.
    pub version: Version,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What makes two tasks the same one.
    #[serde(default)]
    pub identity_strategy: IdentityStrategy,
    /// What a task's context must look like: a JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// When a task is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Author, tags and the like; kept as written.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Events of the whole task; kept as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domain_events: Vec<Value>,
    /// Its steps, in the order of the file.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What differs in an environment, by the environment's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Environment>,
}

impl Template {
    /// SHA-256 of the definition: the same content again is the same template. What a template ignores is no content.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(serde_json::to_vec(self).expect("a template has string keys")).into()
    }
}

/// What makes two tasks of a template the same one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityStrategy {
    /// The same context.
    #[default]
    Strict,
    /// The same idempotency key, which every request must have.
    CallerProvided,
    /// Nothing.
    AlwaysUnique,
}

/// Minutes after which a task is stale, and what happens then. What is absent is decided by the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// From the task's creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_minutes: Option<u32>,
    /// Since anything was done while steps wait for parents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_dependencies_minutes: Option<u32>,
    /// While a step waits for its next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_retry_minutes: Option<u32>,
    /// While steps are with workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps_in_process_minutes: Option<u32>,
    /// What happens to a stale task.
    #[serde(default)]
    pub staleness_action: StalenessAction,
}

/// What happens to a stale task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StalenessAction {
    /// A dead-letter entry is written and the task goes on.
    #[default]
    Dlq,
    /// A dead-letter entry is written and the task ends as an error.
    Error,
    /// Nothing.
    None,
}

/// One step of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name, unique in the template.
    pub name: String,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What kind of step it is.
    #[serde(default, rename = "type")]
    pub kind: StepKind,
    /// The names of the steps that must be done before it.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// The code that runs it.
    pub handler: Handler,
    /// The worker pool that runs it, where the default is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Its tries.
    #[serde(default)]
    pub retry: Retry,
    /// Seconds that its handler may run.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
    /// What its result must look like: a JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Value>,
    /// How a batch is worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_config: Option<BatchConfig>,
    /// The events that its end publishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishes_events: Vec<Event>,
}

fn timeout_seconds() -> u32 {
    30
}

/// What kind of step it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// It runs when its parents are done.
    #[default]
    Standard,
    /// Its result says which of the steps behind it are created.
    Decision,
    /// It waits for those of its parents that were created.
    DeferredConvergence,
    /// Its result divides work into batches.
    Batchable,
    /// The pattern of the steps that work on batches.
    BatchWorker,
}

/// How often and when a step is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Whether a failed try may be followed by another at all.
    pub retryable: bool,
    /// Tries in all; at least 1.
    pub max_attempts: u32,
    /// How the pause grows.
    pub backoff: BackoffKind,
    /// Milliseconds of the first pause.
    pub backoff_base_ms: u64,
    /// Milliseconds that no pause exceeds, before jitter.
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

/// How a batch is worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchConfig {
    /// Items of one worker.
    pub batch_size: u32,
    /// Workers at once.
    pub parallelism: u32,
    /// The field that a cursor counts by.
    pub cursor_field: String,
    /// The step that the workers are made from.
    pub worker_template: String,
    /// What a failed worker means for the others.
    pub failure_strategy: FailureStrategy,
}

/// What a failed batch worker means for the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureStrategy {
    /// Nothing: it counts as a done parent.
    #[default]
    ContinueOnFailure,
    /// They are cancelled.
    FailFast,
    /// They go on; what follows is held for an operator.
    Isolate,
}

/// An event that the end of a step publishes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its name, such as `order.validated`.
    pub name: String,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it carries: a JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// How it travels.
    #[serde(default)]
    pub delivery_mode: DeliveryMode,
    /// On which end it is published.
    #[serde(default)]
    pub condition: Condition,
    /// The code that makes its payload, where the step's result is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
}

/// How an event travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// It is stored until it is published.
    #[default]
    Durable,
    /// Within the worker's process.
    Fast,
    /// Both.
    Broadcast,
}

/// On which end of a step an event is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// On success.
    #[default]
    Success,
    /// On any failed try.
    Failure,
    /// On a failed try that may be followed by another.
    RetryableFailure,
    /// On a failure for good.
    PermanentFailure,
    /// On all of them.
    Always,
}

/// What differs in one environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Applied in this order.
    #[serde(default)]
    pub steps: Vec<Overlay>,
}

/// What differs in one environment for one step, or for [`ALL`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overlay {
    /// The step's name, or [`ALL`].
    pub name: String,
    /// Settings of the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<HandlerOverlay>,
    /// Replaces the step's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Replaces the step's as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// What differs in one environment for one handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HandlerOverlay {
    /// Replaces single keys of the handler's.
    #[serde(default)]
    pub initialization: Map<String, Value>,
}
