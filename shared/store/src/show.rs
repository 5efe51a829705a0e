//! A task as callers look at it: with how each of its steps stands. Looks that come at once are one statement.

use jiff::Timestamp;
use tasker_wire::{StepId, StepState, TaskId, TaskState};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    change::{raw, task_id, task_state},
    read::{StepCounts, Task},
};

/// A task with its steps, in topological order.
#[derive(Debug)]
pub struct TaskDetail {
    /// It.
    pub task: Task,
    /// How they stand.
    pub steps: Vec<StepSummary>,
}

/// How a step stands, without what was said of it.
#[derive(Debug)]
pub struct StepSummary {
    /// Its id.
    pub step: StepId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Tries begun.
    pub attempt: i32,
    /// Tries in all.
    pub max_attempts: i32,
    /// Steps that it waits for.
    pub parents: i32,
    /// Of those, the ones that are not done.
    pub pending_parents: i32,
    /// When its retry is due, while it waits for one.
    pub retry_at: Option<Timestamp>,
    /// Its retry is due.
    pub retry_due: bool,
    /// Seconds that its handler asked to wait, while it waits.
    pub hint_seconds: Option<f64>,
    /// When it was last handed over, or reported as started.
    pub last_attempted_at: Option<Timestamp>,
    /// When it last failed.
    pub failed_at: Option<Timestamp>,
}

impl Store {
    /// A task as it stands, or none.
    pub async fn show(&self, task: TaskId) -> Result<Option<TaskDetail>, StoreError> {
        let store = self.clone();
        let shown = self.shows().call(task, move |tasks| {
            let store = store.clone();
            async move { store.show_together(&tasks).await }
        });
        shown.await.unwrap_or_else(|| Err(StoreError::Bug("showing a task panicked".into())))
    }

    async fn show_together(&self, tasks: &[TaskId]) -> Vec<Result<Option<TaskDetail>, StoreError>> {
        let ids: Vec<Uuid> = tasks.iter().map(|t| t.uuid()).collect();
        let rows = match self.call(include_str!("../sql/show_tasks.sql"), &[(&ids, Type::UUID_ARRAY)]).await {
            Ok(rows) => rows,
            Err(e) => return tasks.iter().map(|_| Err(e.clone())).collect(),
        };
        // Several may look at the same task.
        let row_of = |task: &TaskId| rows.iter().find(|row| row.get::<_, Uuid>("task_id") == task.uuid());
        tasks.iter().map(|task| Ok(row_of(task).map(read))).collect()
    }
}

fn read(row: &Row) -> TaskDetail {
    let task = task_id(row.get("task_id"));
    let state = task_state(row.get("state"));
    let steps = Steps::of(row);
    let counts = steps.counts(state);
    let created_at = row.get("created_at");
    let finished_at: Option<Timestamp> = row.get("finished_at");
    let moved = [row.get("paused_at"), finished_at, steps.moved_at()];
    let task = Task {
        task,
        namespace: row.get("namespace"),
        name: row.get("name"),
        version: row.get("version"),
        environment: row.get("environment"),
        state,
        paused: row.get("paused"),
        context: row.get::<_, Option<String>>("context").map(raw),
        priority: row.get("priority"),
        tags: row.get("tags"),
        initiator: row.get("initiator"),
        source_system: row.get("source_system"),
        reason: row.get("reason"),
        correlation_id: row.get("correlation_id"),
        parent_correlation_id: row.get("parent_correlation_id"),
        created_at,
        updated_at: moved.into_iter().flatten().fold(created_at, Timestamp::max),
        finished_at,
        steps: counts,
    };
    TaskDetail { steps: steps.standing(task.task), task }
}

/// The columns of a task's steps.
struct Steps<'a> {
    no: Vec<i32>,
    name: Vec<&'a str>,
    state: Vec<StepState>,
    attempt: Vec<i32>,
    max_attempts: Vec<i32>,
    parents: Vec<i32>,
    pending_parents: Vec<i32>,
    tolerated: Vec<bool>,
    retry_at: Vec<Option<Timestamp>>,
    retry_due: Vec<bool>,
    hint: Vec<Option<f64>>,
    handed_over_at: Vec<Option<Timestamp>>,
    started_at: Vec<Option<Timestamp>>,
    finished_at: Vec<Option<Timestamp>>,
    failed_at: Vec<Option<Timestamp>>,
}

impl<'a> Steps<'a> {
    fn of(row: &'a Row) -> Self {
        let words: Vec<&str> = column(row, "s_state");
        let state = |word: &str| StepState::parse(word).expect("a CHECK allows only known states");
        Self {
            no: column(row, "s_no"),
            name: column(row, "s_name"),
            state: words.into_iter().map(state).collect(),
            attempt: column(row, "s_attempt"),
            max_attempts: column(row, "s_max_attempts"),
            parents: column(row, "s_parents"),
            pending_parents: column(row, "s_pending_parents"),
            tolerated: column(row, "s_tolerated"),
            retry_at: column(row, "s_retry_at"),
            retry_due: column(row, "s_retry_due"),
            hint: column(row, "s_hint"),
            handed_over_at: column(row, "s_handed_over_at"),
            started_at: column(row, "s_started_at"),
            finished_at: column(row, "s_finished_at"),
            failed_at: column(row, "s_failed_at"),
        }
    }

    fn counts(&self, task: TaskState) -> StepCounts {
        let mut counts = StepCounts { total: self.no.len() as i64, ..StepCounts::default() };
        for (at, state) in self.state.iter().enumerate() {
            let count = match state {
                StepState::Pending => &mut counts.pending,
                StepState::WaitingForRetry => &mut counts.waiting_for_retry,
                StepState::Enqueued | StepState::InProgress => &mut counts.in_progress,
                StepState::Complete | StepState::ResolvedManually => &mut counts.done,
                StepState::Error if self.tolerated[at] => &mut counts.done,
                StepState::Error => &mut counts.failed,
                StepState::Cancelled => &mut counts.cancelled,
            };
            *count += 1;
            let ready = *state == StepState::Pending && self.pending_parents[at] == 0 || self.retry_due[at];
            counts.ready += i64::from(ready && task == TaskState::Running);
        }
        counts
    }

    fn moved_at(&self) -> Option<Timestamp> {
        [&self.handed_over_at, &self.started_at, &self.finished_at].into_iter().flatten().copied().max().flatten()
    }

    fn standing(self, task: TaskId) -> Vec<StepSummary> {
        let standing = |at: usize| StepSummary {
            step: task.step(self.no[at]),
            name: self.name[at].to_owned(),
            state: self.state[at],
            attempt: self.attempt[at],
            max_attempts: self.max_attempts[at],
            parents: self.parents[at],
            pending_parents: self.pending_parents[at],
            retry_at: self.retry_at[at],
            retry_due: self.retry_due[at],
            hint_seconds: self.hint[at],
            last_attempted_at: self.started_at[at].max(self.handed_over_at[at]),
            failed_at: self.failed_at[at],
        };
        (0..self.no.len()).map(standing).collect()
    }
}

/// A column of the steps; a task without steps has none.
fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, name: &str) -> Vec<T> {
    row.get::<_, Option<Vec<T>>>(name).unwrap_or_default()
}
