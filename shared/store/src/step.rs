//! A step for display, with its last answer and the operator who resolved it.

use jiff::Timestamp;
use serde_json::{Value, value::RawValue};
use tasker_domain::token::TemplateRef;
use tasker_wire::{StepId, StepState, TaskId, TaskState, outcome::Failure};
use tokio_postgres::Row;

use crate::{
    change::{raw_column, step_state, task_state},
    row::from_row,
};

#[derive(Debug)]
pub struct StepDetail {
    pub step: StepId,
    pub template: TemplateRef,
    pub task_state: TaskState,
    /// The creation time of its task.
    pub created_at: Timestamp,
    pub name: String,
    pub state: StepState,
    /// The number of started attempts.
    pub attempt: i32,
    pub max_attempts: i32,
    /// It failed, and its batch goes on.
    pub tolerated: bool,
    /// The number of its parents.
    pub parents: i32,
    /// The number of its parents that are not done, and the place in a batch.
    pub pending_parents: i32,
    /// When its retry is due, while the step waits for it.
    pub retry_at: Option<Timestamp>,
    pub retry_due: bool,
    pub dispatched_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// `None` without a result, or if the results of the list are too large together.
    pub result: Option<Box<RawValue>>,
    /// Its own inputs, such as the cursor of a batch worker. In a list of all steps `None`.
    pub inputs: Option<Box<RawValue>>,
    /// There is a result, but `result` is `None`.
    pub result_omitted: bool,
    /// The last answer that was applied: a result or a failure.
    pub answer: Option<StepAnswer>,
    pub failed_at: Option<Timestamp>,
}

/// A worker's answer to an attempt.
#[derive(Debug)]
pub struct StepAnswer {
    /// `None` after a success.
    pub failure: Option<Failure>,
    pub metadata: Option<Value>,
    pub worker: String,
    pub duration_ms: i64,
    pub answered_at: Timestamp,
}

/// How an operator resolved a step.
#[derive(Debug, Clone)]
pub struct Resolution {
    pub step: StepId,
    pub actor: String,
    pub reason: String,
    pub at: Timestamp,
    pub metadata: Option<Value>,
}

impl StepDetail {
    /// `None` for a row without a step, which represents a task without steps.
    pub(crate) fn read(task: TaskId, row: &Row) -> Option<Self> {
        let step = task.step(row.get::<_, Option<i32>>("no")?);
        let result = raw_column(row, "result");
        Some(from_row!(row, Self {
            created_at, name, attempt, max_attempts, tolerated, parents, pending_parents, retry_at, retry_due, dispatched_at, started_at,
            finished_at, failed_at;
            step: step,
            template: TemplateRef { template_id: row.get("template_id"), environment: row.get("environment") },
            task_state: task_state(row.get("task_state")),
            state: step_state(row.get("state")),
            result_omitted: result.is_none() && row.get::<_, i32>("result_bytes") > 0,
            result: result,
            inputs: raw_column(row, "inputs"),
            answer: row.get::<_, Option<&str>>("outcome").map(|outcome| StepAnswer::read(outcome, row)),
        }))
    }
}

impl StepAnswer {
    fn read(outcome: &str, row: &Row) -> Self {
        let failure = (outcome == "failure").then(|| failure(row.get("error")));
        from_row!(row, Self { metadata, worker, duration_ms, answered_at; failure: failure })
    }
}

/// A recorded failure. One in the form of an older version becomes the message of a new failure.
fn failure(text: Option<&str>) -> Failure {
    let text = text.unwrap_or("null");
    serde_json::from_str(text).unwrap_or_else(|_| Failure::permanent("unknown", text))
}

impl Resolution {
    pub(crate) fn read(task: TaskId, row: &Row) -> Self {
        Self { step: task.step(row.get(0)), actor: row.get(1), reason: row.get(2), at: row.get(3), metadata: row.get(4) }
    }
}
