//! A task, with Tasker's words for its progress, computed from the states of its steps.

use std::collections::BTreeMap;

use tasker_engine::Unserved;
use tasker_store::{StepCounts, StepSummary, TaskDetail, TaskSummary, is_ready};
use tasker_wire::{
    StepState, TaskState,
    ids::named_step_uuid,
    rest::{StepReadiness, TaskResponse},
};

use super::{
    micros, naive,
    step::{open_parents, retry_eligible, waiting_reason},
};

pub(crate) fn task(TaskDetail { task, steps, .. }: TaskDetail, unserved: &Unserved) -> TaskResponse {
    let warnings = warnings(&steps, unserved);
    let steps = steps.into_iter().map(|step| readiness(step, &task, unserved)).collect();
    TaskResponse { steps, warnings, ..listed(task) }
}

/// A sentence for each pool without a worker, with the steps that wait for one or will.
fn warnings(steps: &[StepSummary], unserved: &Unserved) -> Vec<String> {
    let mut waiting: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let is_ahead =
        |step: &&StepSummary| matches!(step.state, StepState::Pending | StepState::Enqueued | StepState::WaitingForRetry);
    for step in steps.iter().filter(is_ahead) {
        if let Some(why) = unserved.of(step.step) {
            waiting.entry(why).or_default().push(&step.name);
        }
    }
    let sentence = |(why, names): (&str, Vec<&str>)| match &names[..] {
        [name] => format!("step {name} {why}"),
        [name, ..] => format!("step {name} and {} more: each {why}", names.len() - 1),
        [] => why.to_owned(),
    };
    waiting.into_iter().map(sentence).collect()
}

/// A task in a list, which has no steps.
pub(crate) fn listed(task: TaskSummary) -> TaskResponse {
    let counts = task.steps;
    let (execution_status, recommended_action) = execution(task.state, counts);
    TaskResponse {
        task_uuid: task.task.uuid(),
        name: task.name,
        namespace: task.namespace,
        version: task.version,
        environment: task.environment,
        status: task.state.into(),
        paused: task.paused,
        created_at: micros(task.created_at),
        updated_at: micros(task.updated_at),
        completed_at: task.finished_at.map(micros),
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
        execution_status: execution_status.into(),
        recommended_action: recommended_action.into(),
        completion_percentage: percentage(counts),
        health_status: health(task.state, counts).into(),
        steps: Vec::new(),
        warnings: Vec::new(),
    }
}

fn readiness(step: StepSummary, task: &TaskSummary, unserved: &Unserved) -> StepReadiness {
    StepReadiness {
        workflow_step_uuid: step.step.uuid(),
        task_uuid: task.task.uuid(),
        named_step_uuid: named_step_uuid(&task.namespace, &task.name, &step.name),
        current_state: step.state.into(),
        dependencies_satisfied: open_parents(step.step, step.pending_parents) == 0,
        retry_eligible: retry_eligible(step.state, step.attempt, step.max_attempts),
        ready_for_execution: is_ready(step.state, step.pending_parents, step.retry_due, task.state),
        last_failure_at: step.failed_at.map(naive),
        next_retry_at: step.retry_at.map(naive),
        total_parents: step.parents,
        completed_parents: step.parents - open_parents(step.step, step.pending_parents),
        attempts: step.attempt,
        max_attempts: step.max_attempts,
        backoff_request_seconds: step.hint_seconds.map(|seconds| seconds.ceil() as i32),
        last_attempted_at: step.last_attempted_at.map(naive),
        waiting_reason: waiting_reason(step.step, step.state, step.pending_parents, unserved),
        name: step.name,
    }
}

/// Tasker's words for the progress of a task, and for the recommended action.
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

/// Tasker's words for the health of a task.
fn health(state: TaskState, counts: StepCounts) -> &'static str {
    match state {
        TaskState::Complete | TaskState::ResolvedManually => "healthy",
        TaskState::Error | TaskState::Cancelled => "blocked",
        TaskState::Running if counts.failed + counts.waiting_for_retry > 0 => "recovering",
        TaskState::Running => "healthy",
    }
}

/// The percentage of steps that are done, with two digits.
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
