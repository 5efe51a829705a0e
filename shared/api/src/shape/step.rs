//! A step, with its result in the form of Tasker's execution result.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tasker_engine::Unserved;
use tasker_store::{Resolution, StepAnswer, StepDetail, is_ready};
use tasker_wire::{
    StepId, StepState,
    ids::is_worker,
    outcome::Failure,
    rest::{StepExecutionError, StepExecutionMetadata, StepExecutionResult, StepResponse},
};

use super::micros;

/// `resolution` is the operator action that resolved the step, if one did.
pub(crate) fn step(mut step: StepDetail, resolution: Option<&Resolution>, unserved: &Unserved) -> StepResponse {
    let answered_at = step.answer.as_ref().map(|a| a.answered_at);
    let moved = [step.dispatched_at, step.started_at, answered_at, step.finished_at];
    StepResponse {
        step_uuid: step.step.uuid(),
        task_uuid: step.step.task.uuid(),
        created_at: micros(step.created_at),
        updated_at: micros(moved.into_iter().flatten().fold(step.created_at, Timestamp::max)),
        completed_at: step.finished_at.map(micros),
        results: results(&mut step, resolution),
        results_omitted: step.result_omitted,
        inputs: step.inputs.take(),
        current_state: step.state.into(),
        tolerated: step.tolerated,
        dependencies_satisfied: open_parents(step.step, step.pending_parents) == 0,
        retry_eligible: retry_eligible(step.state, step.attempt, step.max_attempts),
        ready_for_execution: is_ready(step.state, step.pending_parents, step.retry_due, step.task_state),
        total_parents: step.parents,
        completed_parents: step.parents - open_parents(step.step, step.pending_parents),
        attempts: step.attempt,
        max_attempts: step.max_attempts,
        last_failure_at: step.failed_at.map(micros),
        next_retry_at: step.retry_at.map(micros),
        last_attempted_at: step.started_at.max(step.dispatched_at).map(micros),
        waiting_reason: waiting_reason(step.step, step.state, step.pending_parents, unserved),
        name: step.name,
    }
}

/// The parents that are not done. A batch worker exists only once its parent is, and counts the place that it waits for as one more.
pub(super) fn open_parents(step: StepId, pending_parents: i32) -> i32 {
    if is_worker(step.no) { 0 } else { pending_parents }
}

/// Why a dispatched step will not start by itself, or that a batch worker waits for a place.
pub(super) fn waiting_reason(step: StepId, state: StepState, pending_parents: i32, unserved: &Unserved) -> Option<String> {
    match state {
        StepState::Enqueued => unserved.of(step).map(str::to_owned),
        StepState::Pending if is_worker(step.no) && pending_parents > 0 => Some("waits for a place in its batch".to_owned()),
        _ => None,
    }
}

/// Whether another attempt is possible without an operator.
pub(super) fn retry_eligible(state: StepState, attempt: i32, max_attempts: i32) -> bool {
    !state.is_finished() && (state == StepState::WaitingForRetry || attempt < max_attempts)
}

fn results(step: &mut StepDetail, resolution: Option<&Resolution>) -> Option<StepExecutionResult> {
    if step.state == StepState::ResolvedManually {
        return Some(resolved(step, resolution));
    }
    let answer = step.answer.take()?;
    Some(answered(step, answer))
}

/// The result of a step that an operator resolved.
fn resolved(step: &mut StepDetail, resolution: Option<&Resolution>) -> StepExecutionResult {
    let result = step.result.take();
    let mut custom = custom(resolution.and_then(|r| r.metadata.clone()), "operator_metadata");
    let word = if result.is_some() { "manually_completed" } else { "manually_resolved" };
    custom.insert(word.into(), true.into());
    if let Some(by) = resolution {
        custom.insert("completed_by".into(), by.actor.clone().into());
        custom.insert("completion_reason".into(), by.reason.clone().into());
    }
    let completed_at = step.finished_at.map(micros);
    StepExecutionResult {
        step_uuid: step.step.uuid(),
        success: true,
        result,
        metadata: StepExecutionMetadata { completed_at, custom: custom.into(), context: json!({}), ..Default::default() },
        status: "completed".into(),
        error: None,
        orchestration_metadata: None,
    }
}

/// Metadata as an object. Any other value goes under `key`.
fn custom(metadata: Option<Value>, key: &str) -> Map<String, Value> {
    match metadata {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => Map::from_iter([(key.to_owned(), other)]),
    }
}

fn answered(step: &mut StepDetail, answer: StepAnswer) -> StepExecutionResult {
    let success = answer.failure.is_none();
    let ran = SignedDuration::from_millis(answer.duration_ms);
    let failure = answer.failure.as_ref();
    let metadata = StepExecutionMetadata {
        execution_time_ms: answer.duration_ms,
        retryable: failure.is_some_and(|f| f.retryable),
        completed_at: Some(micros(answer.answered_at)),
        worker_id: Some(answer.worker).filter(|w| !w.is_empty()),
        started_at: answer.answered_at.checked_sub(ran).ok().map(micros),
        error_code: failure.and_then(|f| f.error_code.clone()),
        error_type: failure.map(|f| f.error_type.clone()),
        context: failure.and_then(|f| f.context.clone()).unwrap_or_else(|| json!({})),
        custom: custom(answer.metadata, "metadata").into(),
        ..Default::default()
    };
    StepExecutionResult {
        step_uuid: step.step.uuid(),
        success,
        result: step.result.take().filter(|_| success),
        metadata,
        status: if success { "completed" } else { "failed" }.into(),
        error: answer.failure.map(error),
        orchestration_metadata: None,
    }
}

fn error(failure: Failure) -> StepExecutionError {
    let code = failure.error_code.as_deref().and_then(|code| code.parse().ok());
    StepExecutionError {
        message: failure.message,
        error_type: failure.error_type,
        backtrace: None,
        retryable: failure.retryable,
        status_code: code.filter(|code| (100..600).contains(code)),
        context: failure.context,
    }
}
