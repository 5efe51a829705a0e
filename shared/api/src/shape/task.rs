//! `TaskResponse` and its words, computed from how the steps stand.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tasker_store::{
    read::{StepCounts, Task},
    show::StepSummary,
};
use tasker_wire::{TaskId, TaskState, ids::named_step_uuid};
use uuid::Uuid;

use super::{
    micros, micros_or_null, naive_or_null,
    step::{ready, retry_eligible},
};

/// A task.
#[derive(Debug, Serialize)]
pub(crate) struct TaskResponse {
    task_uuid: TaskId,
    name: String,
    namespace: String,
    version: String,
    environment: String,
    status: TaskState,
    paused: bool,
    #[serde(serialize_with = "micros")]
    created_at: Timestamp,
    #[serde(serialize_with = "micros")]
    updated_at: Timestamp,
    #[serde(serialize_with = "micros_or_null")]
    completed_at: Option<Timestamp>,
    context: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    context_omitted: bool,
    initiator: String,
    source_system: String,
    reason: String,
    priority: Option<i32>,
    tags: Vec<String>,
    correlation_id: Uuid,
    parent_correlation_id: Option<Uuid>,
    total_steps: i64,
    pending_steps: i64,
    in_progress_steps: i64,
    completed_steps: i64,
    failed_steps: i64,
    cancelled_steps: i64,
    ready_steps: i64,
    execution_status: &'static str,
    recommended_action: &'static str,
    completion_percentage: f64,
    health_status: &'static str,
    steps: Vec<StepReadiness>,
}

/// A step of a task.
#[derive(Debug, Serialize)]
pub(crate) struct StepReadiness {
    workflow_step_uuid: Uuid,
    task_uuid: TaskId,
    named_step_uuid: Uuid,
    name: String,
    current_state: &'static str,
    dependencies_satisfied: bool,
    retry_eligible: bool,
    ready_for_execution: bool,
    #[serde(serialize_with = "naive_or_null")]
    last_failure_at: Option<Timestamp>,
    #[serde(serialize_with = "naive_or_null")]
    next_retry_at: Option<Timestamp>,
    total_parents: i32,
    completed_parents: i32,
    attempts: i32,
    max_attempts: i32,
    backoff_request_seconds: Option<i32>,
    #[serde(serialize_with = "naive_or_null")]
    last_attempted_at: Option<Timestamp>,
}

impl TaskResponse {
    /// A task with its steps; lists have none.
    pub fn new(task: Task, steps: Vec<StepSummary>) -> Self {
        let counts = task.steps;
        let (execution_status, recommended_action) = execution(task.state, counts);
        let readiness = |step| StepReadiness::new(step, &task);
        let steps = steps.into_iter().map(readiness).collect();
        Self {
            task_uuid: task.task,
            name: task.name,
            namespace: task.namespace,
            version: task.version,
            environment: task.environment,
            status: task.state,
            paused: task.paused,
            created_at: task.created_at,
            updated_at: task.updated_at,
            completed_at: task.finished_at,
            context_omitted: task.context.is_none(),
            context: task.context,
            initiator: task.initiator,
            source_system: task.source_system,
            reason: task.reason,
            priority: task.priority,
            tags: task.tags,
            correlation_id: task.correlation_id,
            parent_correlation_id: task.parent_correlation_id,
            total_steps: counts.total,
            pending_steps: counts.pending + counts.waiting_for_retry,
            in_progress_steps: counts.in_progress,
            completed_steps: counts.done,
            failed_steps: counts.failed,
            cancelled_steps: counts.cancelled,
            ready_steps: counts.ready,
            execution_status,
            recommended_action,
            completion_percentage: percentage(counts),
            health_status: health(task.state, counts),
            steps,
        }
    }
}

impl StepReadiness {
    fn new(step: StepSummary, task: &Task) -> Self {
        Self {
            workflow_step_uuid: step.step.uuid(),
            task_uuid: step.step.task,
            named_step_uuid: named_step_uuid(&task.namespace, &task.name, &step.name),
            current_state: step.state.as_str(),
            dependencies_satisfied: step.pending_parents == 0,
            retry_eligible: retry_eligible(step.state, step.attempt, step.max_attempts),
            ready_for_execution: ready(step.state, step.pending_parents, step.retry_due, task.state),
            last_failure_at: step.failed_at,
            next_retry_at: step.retry_at,
            total_parents: step.parents,
            completed_parents: step.parents - step.pending_parents,
            attempts: step.attempt,
            max_attempts: step.max_attempts,
            backoff_request_seconds: step.hint_seconds.map(|seconds| seconds.ceil() as i32),
            last_attempted_at: step.last_attempted_at,
            name: step.name,
        }
    }
}

/// Tasker's words for what goes on in a task, and for what is to be done about it.
fn execution(state: TaskState, counts: StepCounts) -> (&'static str, &'static str) {
    match state {
        TaskState::Complete | TaskState::ResolvedManually => ("all_complete", "none"),
        TaskState::Error => ("blocked_by_failures", "handle_failures"),
        TaskState::Cancelled => ("blocked_by_failures", "none"),
        TaskState::Running if counts.ready > 0 => ("has_ready_steps", "execute_ready_steps"),
        TaskState::Running if counts.in_progress > 0 => ("processing", "wait_for_completion"),
        TaskState::Running => ("waiting_for_dependencies", "wait_for_dependencies"),
    }
}

/// Tasker's words for how well a task does.
fn health(state: TaskState, counts: StepCounts) -> &'static str {
    match state {
        TaskState::Complete | TaskState::ResolvedManually => "healthy",
        TaskState::Error | TaskState::Cancelled => "blocked",
        TaskState::Running if counts.failed + counts.waiting_for_retry > 0 => "recovering",
        TaskState::Running => "healthy",
    }
}

/// Done steps of all, in percent with two digits.
fn percentage(counts: StepCounts) -> f64 {
    if counts.total == 0 {
        return 100.0;
    }
    (counts.done as f64 * 10_000.0 / counts.total as f64).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(set: impl FnOnce(&mut StepCounts)) -> [&'static str; 3] {
        let mut counts = StepCounts { total: 9, ..Default::default() };
        set(&mut counts);
        let (status, action) = execution(TaskState::Running, counts);
        [status, action, health(TaskState::Running, counts)]
    }

    #[test]
    fn a_running_task_is_described_by_its_most_lively_step() {
        assert_eq!(running(|c| (c.ready, c.in_progress) = (1, 1)), ["has_ready_steps", "execute_ready_steps", "healthy"]);
        assert_eq!(running(|c| (c.in_progress, c.failed) = (1, 1)), ["processing", "wait_for_completion", "recovering"]);
        assert_eq!(running(|c| c.waiting_for_retry = 1), ["waiting_for_dependencies", "wait_for_dependencies", "recovering"]);
    }

    #[test]
    fn percentages_are_rounded_and_an_empty_task_is_all_done() {
        assert_eq!(percentage(StepCounts { total: 3, done: 1, ..Default::default() }), 33.33);
        assert_eq!(percentage(StepCounts::default()), 100.0);
    }
}
