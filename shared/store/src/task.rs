//! Tasks for display, with counts of their steps or with each step.

use std::iter::zip;

use jiff::Timestamp;
use serde_json::value::RawValue;
use tasker_domain::token::TemplateRef;
use tasker_wire::{StepId, StepState, TaskId, TaskState};
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use crate::{
    change::{raw_column, step_state, task_id, task_state},
    row::from_row,
};

/// A task with counts of its steps.
#[derive(Debug)]
pub struct TaskSummary {
    pub task: TaskId,
    pub namespace: String,
    /// The template's name.
    pub name: String,
    pub version: String,
    pub environment: String,
    pub state: TaskState,
    /// The task, its template or its namespace is paused.
    pub paused: bool,
    /// `None` if the contexts of the page are too large together.
    pub context: Option<Box<RawValue>>,
    pub priority: Option<i32>,
    pub tags: Vec<String>,
    pub initiator: String,
    pub source_system: String,
    pub reason: String,
    pub correlation_id: Uuid,
    pub parent_correlation_id: Option<Uuid>,
    pub created_at: Timestamp,
    /// The last change of the task or of one of its steps.
    pub updated_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub steps: StepCounts,
}

/// Counts of a task's steps by state. All but `ready` add up to `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepCounts {
    pub total: i64,
    pub pending: i64,
    pub waiting_for_retry: i64,
    /// Enqueued, or reported as started.
    pub in_progress: i64,
    /// Complete, resolved by an operator, or failed and tolerated.
    pub done: i64,
    /// Failed, and no attempt follows.
    pub failed: i64,
    pub cancelled: i64,
    /// Those of the pending and waiting ones that can be dispatched now.
    pub ready: i64,
}

/// A task with its steps, in topological order.
#[derive(Debug)]
pub struct TaskDetail {
    pub task: TaskSummary,
    pub template: TemplateRef,
    pub steps: Vec<StepSummary>,
}

/// The state of a step, without its answer.
#[derive(Debug)]
pub struct StepSummary {
    pub step: StepId,
    pub name: String,
    pub state: StepState,
    /// The number of started attempts.
    pub attempt: i32,
    pub max_attempts: i32,
    /// The number of its parents.
    pub parents: i32,
    /// The number of its parents that are not done, and the place in a batch.
    pub pending_parents: i32,
    /// When its retry is due, while the step waits for it.
    pub retry_at: Option<Timestamp>,
    pub retry_due: bool,
    /// The pause that its handler asked for, while the step waits for its retry.
    pub hint_seconds: Option<f64>,
    /// When it was last dispatched, or its start was reported.
    pub last_attempted_at: Option<Timestamp>,
    pub failed_at: Option<Timestamp>,
}

impl TaskSummary {
    /// Reads a row whose step columns have one element for each group of `s_count` similar steps.
    pub(crate) fn read(row: &Row) -> Self {
        Self::with_counts(row, &column(row, "s_count"))
    }

    /// `alike`: the number of steps in each group.
    fn with_counts(row: &Row, alike: &[i64]) -> Self {
        let state = task_state(row.get("state"));
        let created_at = row.get("created_at");
        let finished_at: Option<Timestamp> = row.get("finished_at");
        let moved: [Option<Timestamp>; 3] = [row.get("paused_at"), finished_at, row.get("moved_at")];
        from_row!(row, Self {
            namespace, name, version, environment, paused, priority, tags, initiator, source_system, reason, correlation_id,
            parent_correlation_id;
            task: task_id(row.get("task_id")),
            state: state,
            context: raw_column(row, "context"),
            created_at: created_at,
            updated_at: moved.into_iter().flatten().fold(created_at, Timestamp::max),
            finished_at: finished_at,
            steps: StepCounts::read(row, state, alike),
        })
    }
}

impl StepCounts {
    fn read(row: &Row, task: TaskState, alike: &[i64]) -> Self {
        let states: Vec<&str> = column(row, "s_state");
        let (tolerated, retry_due): (Vec<bool>, Vec<bool>) = (column(row, "s_tolerated"), column(row, "s_retry_due"));
        let pending_parents: Vec<i32> = column(row, "s_pending_parents");
        let mut counts = Self::default();
        for (at, (state, alike)) in zip(states, alike).enumerate() {
            let state = step_state(state);
            let count = match state {
                StepState::Pending => &mut counts.pending,
                StepState::WaitingForRetry => &mut counts.waiting_for_retry,
                StepState::Enqueued | StepState::InProgress => &mut counts.in_progress,
                StepState::Complete | StepState::ResolvedManually => &mut counts.done,
                StepState::Error if tolerated[at] => &mut counts.done,
                StepState::Error => &mut counts.failed,
                StepState::Cancelled => &mut counts.cancelled,
            };
            *count += alike;
            counts.total += alike;
            if is_ready(state, pending_parents[at], retry_due[at], task) {
                counts.ready += alike;
            }
        }
        counts
    }
}

/// Whether the step can be dispatched now.
pub fn is_ready(state: StepState, pending_parents: i32, retry_due: bool, task: TaskState) -> bool {
    task == TaskState::Running && (state == StepState::Pending && pending_parents == 0 || retry_due)
}

impl TaskDetail {
    /// Reads a row whose step columns have one element per step.
    pub(crate) fn read(row: &Row) -> Self {
        let numbers: Vec<i32> = column(row, "s_no");
        let task = TaskSummary::with_counts(row, &vec![1; numbers.len()]);
        let (names, states): (Vec<String>, Vec<&str>) = (column(row, "s_name"), column(row, "s_state"));
        let (attempt, max_attempts): (Vec<i32>, Vec<i32>) = (column(row, "s_attempt"), column(row, "s_max_attempts"));
        let (parents, pending_parents): (Vec<i32>, Vec<i32>) = (column(row, "s_parents"), column(row, "s_pending_parents"));
        let (retry_at, retry_due): (Vec<Option<Timestamp>>, Vec<bool>) = (column(row, "s_retry_at"), column(row, "s_retry_due"));
        let hint_seconds: Vec<Option<f64>> = column(row, "s_hint");
        let last_attempted_at: Vec<Option<Timestamp>> = column(row, "s_last_attempted_at");
        let failed_at: Vec<Option<Timestamp>> = column(row, "s_failed_at");
        let summary = |(at, name)| StepSummary {
            step: task.task.step(numbers[at]),
            name,
            state: step_state(states[at]),
            attempt: attempt[at],
            max_attempts: max_attempts[at],
            parents: parents[at],
            pending_parents: pending_parents[at],
            retry_at: retry_at[at],
            retry_due: retry_due[at],
            hint_seconds: hint_seconds[at],
            last_attempted_at: last_attempted_at[at],
            failed_at: failed_at[at],
        };
        let template = TemplateRef { template_id: row.get("template_id"), environment: task.environment.clone() };
        Self { steps: names.into_iter().enumerate().map(summary).collect(), task, template }
    }
}

/// A step column, which is null for a task without steps.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Vec<T> {
    row.get::<_, Option<Vec<T>>>(name).unwrap_or_default()
}
