//! `StepResponse`, and the result of a step in the shape of Tasker's execution result.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use tasker_store::read::{Resolution, Step, StepAnswer};
use tasker_wire::{StepState, TaskId, TaskState, outcome::Failure};
use uuid::Uuid;

use super::{micros, micros_or_null};

/// A step.
#[derive(Debug, Serialize)]
pub(crate) struct StepResponse {
    step_uuid: Uuid,
    task_uuid: TaskId,
    name: String,
    #[serde(serialize_with = "micros")]
    created_at: Timestamp,
    #[serde(serialize_with = "micros")]
    updated_at: Timestamp,
    #[serde(serialize_with = "micros_or_null")]
    completed_at: Option<Timestamp>,
    results: Option<Results>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    results_omitted: bool,
    current_state: &'static str,
    dependencies_satisfied: bool,
    retry_eligible: bool,
    ready_for_execution: bool,
    total_parents: i32,
    completed_parents: i32,
    attempts: i32,
    max_attempts: i32,
    #[serde(serialize_with = "micros_or_null")]
    last_failure_at: Option<Timestamp>,
    #[serde(serialize_with = "micros_or_null")]
    next_retry_at: Option<Timestamp>,
    #[serde(serialize_with = "micros_or_null")]
    last_attempted_at: Option<Timestamp>,
}

/// Tasker's `StepExecutionResult`.
#[derive(Debug, Serialize)]
struct Results {
    step_uuid: Uuid,
    success: bool,
    result: Option<Box<RawValue>>,
    metadata: Metadata,
    status: &'static str,
    error: Option<ErrorShape>,
    orchestration_metadata: Option<()>,
}

/// Tasker's `StepExecutionMetadata`.
#[derive(Debug, Serialize)]
struct Metadata {
    execution_time_ms: i64,
    handler_version: Option<()>,
    retryable: bool,
    #[serde(serialize_with = "micros_or_null")]
    completed_at: Option<Timestamp>,
    worker_id: Option<String>,
    worker_hostname: Option<()>,
    #[serde(serialize_with = "micros_or_null")]
    started_at: Option<Timestamp>,
    custom: Value,
    error_code: Option<String>,
    error_type: Option<String>,
    context: Value,
}

/// Tasker's `StepExecutionError`.
#[derive(Debug, Serialize)]
struct ErrorShape {
    message: String,
    error_type: String,
    backtrace: Option<()>,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Value>,
}

impl StepResponse {
    /// A step, and who settled it when an operator did.
    pub fn new(mut step: Step, resolution: Option<&Resolution>) -> Self {
        let answered_at = step.answer.as_ref().map(|a| a.answered_at);
        let moved = [step.handed_over_at, step.started_at, answered_at, step.finished_at];
        Self {
            step_uuid: step.step.uuid(),
            task_uuid: step.step.task,
            created_at: step.created_at,
            updated_at: moved.into_iter().flatten().fold(step.created_at, Timestamp::max),
            completed_at: step.finished_at,
            results: results(&mut step, resolution),
            results_omitted: step.result_omitted,
            current_state: step.state.as_str(),
            dependencies_satisfied: step.pending_parents == 0,
            retry_eligible: retry_eligible(step.state, step.attempt, step.max_attempts),
            ready_for_execution: ready(step.state, step.pending_parents, step.retry_due, step.task_state),
            total_parents: step.parents,
            completed_parents: step.parents - step.pending_parents,
            attempts: step.attempt,
            max_attempts: step.max_attempts,
            last_failure_at: step.failed_at,
            next_retry_at: step.retry_at,
            last_attempted_at: step.started_at.max(step.handed_over_at),
            name: step.name,
        }
    }
}

/// It may be tried again by itself.
pub(super) fn retry_eligible(state: StepState, attempt: i32, max_attempts: i32) -> bool {
    !state.is_finished() && (state == StepState::WaitingForRetry || attempt < max_attempts)
}

/// Nothing but a hand-over is missing.
pub(super) fn ready(state: StepState, pending_parents: i32, retry_due: bool, task: TaskState) -> bool {
    (state == StepState::Pending && pending_parents == 0 || retry_due) && task == TaskState::Running
}

fn results(step: &mut Step, resolution: Option<&Resolution>) -> Option<Results> {
    if step.state == StepState::ResolvedManually {
        return Some(settled(step, resolution));
    }
    let answer = step.answer.take()?;
    Some(answered(step, answer))
}

/// What an operator said in the place of a worker.
fn settled(step: &mut Step, resolution: Option<&Resolution>) -> Results {
    let result = step.result.take();
    let mut custom = custom(resolution.and_then(|r| r.metadata.clone()), "operator_metadata");
    let word = if result.is_some() { "manually_completed" } else { "manually_resolved" };
    custom.insert(word.into(), true.into());
    if let Some(by) = resolution {
        custom.insert("completed_by".into(), by.actor.clone().into());
        custom.insert("completion_reason".into(), by.reason.clone().into());
    }
    let metadata = Metadata { completed_at: step.finished_at, custom: custom.into(), ..Metadata::new() };
    Results {
        step_uuid: step.step.uuid(),
        success: true,
        result,
        metadata,
        status: "completed",
        error: None,
        orchestration_metadata: None,
    }
}

/// What was said beside a result, as a map; what is none stands under `key`.
fn custom(metadata: Option<Value>, key: &str) -> Map<String, Value> {
    match metadata {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => Map::from_iter([(key.to_owned(), other)]),
    }
}

fn answered(step: &mut Step, answer: StepAnswer) -> Results {
    let success = answer.failure.is_none();
    let ran = SignedDuration::from_millis(answer.duration_ms);
    let failure = answer.failure.as_ref();
    let metadata = Metadata {
        execution_time_ms: answer.duration_ms,
        retryable: failure.is_some_and(|f| f.retryable),
        completed_at: Some(answer.answered_at),
        worker_id: Some(answer.worker).filter(|w| !w.is_empty()),
        started_at: answer.answered_at.checked_sub(ran).ok(),
        error_code: failure.and_then(|f| f.error_code.clone()),
        error_type: failure.map(|f| f.error_type.clone()),
        context: failure.and_then(|f| f.context.clone()).unwrap_or_else(|| json!({})),
        custom: custom(answer.metadata, "metadata").into(),
        ..Metadata::new()
    };
    Results {
        step_uuid: step.step.uuid(),
        success,
        result: if success { step.result.take() } else { None },
        metadata,
        status: if success { "completed" } else { "failed" },
        error: answer.failure.map(ErrorShape::new),
        orchestration_metadata: None,
    }
}

impl Metadata {
    fn new() -> Self {
        Self {
            execution_time_ms: 0,
            handler_version: None,
            retryable: false,
            completed_at: None,
            worker_id: None,
            worker_hostname: None,
            started_at: None,
            custom: json!({}),
            error_code: None,
            error_type: None,
            context: json!({}),
        }
    }
}

impl ErrorShape {
    fn new(failure: Failure) -> Self {
        let status_code =
            failure.error_code.as_deref().and_then(|code| code.parse().ok()).filter(|code| (100..600).contains(code));
        Self {
            message: failure.message,
            error_type: failure.error_type,
            backtrace: None,
            retryable: failure.retryable,
            status_code,
            context: failure.context,
        }
    }
}
