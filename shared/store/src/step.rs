//! A step as it is shown: with its last answer, and who settled it.

use jiff::Timestamp;
use serde_json::{Value, value::RawValue};
use tasker_wire::{StepId, StepState, TaskId, TaskState, outcome::Failure};
use tokio_postgres::Row;

use crate::change::{raw, step_state, task_state};

/// A step with its last answer.
#[derive(Debug)]
pub struct StepDetail {
    pub step: StepId,
    /// Its template's namespace and name.
    pub template: [String; 2],
    pub task_state: TaskState,
    /// When its task was submitted.
    pub created_at: Timestamp,
    pub name: String,
    pub state: StepState,
    /// Attempts begun.
    pub attempt: i32,
    pub max_attempts: i32,
    /// Steps that it waits for.
    pub parents: i32,
    /// Of those, the ones that are not done.
    pub pending_parents: i32,
    /// It failed, and counts as done.
    pub tolerated: bool,
    /// When its retry is due, while it waits for one.
    pub retry_at: Option<Timestamp>,
    pub retry_due: bool,
    pub dispatched_at: Option<Timestamp>,
    /// When a worker reported its start.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Missing when it has none, and when the results of a list are too large together.
    pub result: Option<Box<RawValue>>,
    /// It has a result, which is not here.
    pub result_omitted: bool,
    /// The last answer that counted: a result or a failure.
    pub answer: Option<StepAnswer>,
    pub failed_at: Option<Timestamp>,
}

/// What a worker said of an attempt.
#[derive(Debug)]
pub struct StepAnswer {
    /// Missing when it succeeded.
    pub failure: Option<Failure>,
    /// What the handler said beside its result.
    pub metadata: Option<Value>,
    pub worker: String,
    /// Milliseconds that the handler ran.
    pub duration_ms: i64,
    /// When it was recorded.
    pub answered_at: Timestamp,
}

/// An operator settled a step.
#[derive(Debug, Clone)]
pub struct Resolution {
    pub step: StepId,
    pub actor: String,
    pub reason: String,
    pub at: Timestamp,
    /// More, as the operator gave it.
    pub metadata: Option<Value>,
}

impl StepDetail {
    /// None for a row without a step: it stands for a task that has none.
    pub(crate) fn read(task: TaskId, row: &Row) -> Option<Self> {
        let no: Option<i32> = row.get("no");
        let result = row.get::<_, Option<String>>("result").map(raw);
        Some(Self {
            step: task.step(no?),
            template: [row.get("namespace"), row.get("template")],
            task_state: task_state(row.get("task_state")),
            created_at: row.get("created_at"),
            name: row.get("name"),
            state: step_state(row.get("state")),
            attempt: row.get("attempt"),
            max_attempts: row.get("max_attempts"),
            parents: row.get("parents"),
            pending_parents: row.get("pending_parents"),
            tolerated: row.get("tolerated"),
            retry_at: row.get("retry_at"),
            retry_due: row.get("retry_due"),
            dispatched_at: row.get("dispatched_at"),
            started_at: row.get("started_at"),
            finished_at: row.get("finished_at"),
            result_omitted: result.is_none() && row.get::<_, i32>("result_bytes") > 0,
            result,
            answer: row.get::<_, Option<&str>>("outcome").map(|outcome| StepAnswer::read(outcome, row)),
            failed_at: row.get("failed_at"),
        })
    }
}

impl StepAnswer {
    fn read(outcome: &str, row: &Row) -> Self {
        Self {
            failure: (outcome == "failure").then(|| failure(row.get("error"))),
            metadata: row.get("metadata"),
            worker: row.get("worker"),
            duration_ms: row.get("duration_ms"),
            answered_at: row.get("answered_at"),
        }
    }
}

/// A failure as it was recorded. One that an older version recorded otherwise is shown as it is.
fn failure(text: Option<&str>) -> Failure {
    let text = text.unwrap_or("null");
    serde_json::from_str(text).unwrap_or_else(|_| Failure::permanent("unknown", text))
}

impl Resolution {
    pub(crate) fn read(task: TaskId, row: &Row) -> Self {
        Self { step: task.step(row.get(0)), actor: row.get(1), reason: row.get(2), at: row.get(3), metadata: row.get(4) }
    }
}
