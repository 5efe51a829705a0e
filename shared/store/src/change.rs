//! The rows that the functions of the database return.

use std::sync::Arc;

use serde_json::value::RawValue;
use tasker_domain::token::TemplateRef;
use tasker_wire::{Answer, StepId, StepState, TaskId, TaskState, message::Lease};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::row::from_row;

#[derive(Debug)]
pub enum Change {
    /// The answer to the completion at this place of the batch, from 0.
    Answer(usize, Answer),
    Finished(TaskId, TaskState),
    /// Comes before the messages of its task.
    Task(TaskHeader),
    /// A message to send.
    Run(RunRow),
    /// A message to load and send.
    RunKey(Lease),
    /// A retry that is due only in this many milliseconds.
    Early(Lease, u64),
    /// A started step that was silent beyond its deadline.
    Lost(Lost),
    /// A step whose callback did not arrive in time.
    Expired(Lost),
    /// Others decided since the expansion was planned, so nothing was made.
    Again,
    /// The expansion would make more steps than a task may have; this one has so many. Nothing was made.
    TooMany(i64),
    /// The operator action is applied, or could be. What it is about was in this state before.
    Done(String),
    /// What the caller of the operator action saw is no longer so, and nothing was done. The effects are what it would do.
    Changed,
    /// What an operator action, or a failure that ends its batch, changes in one step.
    Effect(Effect),
    /// What the effects are computed from.
    Seen(String),
    /// There is no such task or step.
    NotFound,
    /// The state of the step, or of the task if no step is named, does not allow the operator action.
    Conflict(Option<StepId>, String),
}

/// What an operator's action changes in a step, or a failure that ends its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub step: StepId,
    pub name: String,
    /// Its lease before; `None` if the action makes it.
    pub lease: Option<Lease>,
    /// Its state before; `None` if the action makes it.
    pub was: Option<StepState>,
    /// Its state after; `None` if the action deletes it.
    pub state: Option<StepState>,
}

/// The part that all messages of a task share.
#[derive(Debug, Clone)]
pub struct TaskHeader {
    pub task: TaskId,
    /// Its policy applies.
    pub template: TemplateRef,
    pub correlation_id: Uuid,
    pub traceparent: Option<String>,
    pub context: Arc<RawValue>,
}

/// The part of a message that belongs to one step.
#[derive(Debug)]
pub struct RunRow {
    pub lease: Lease,
    /// Of a batch worker. The name of another step is the template's.
    pub name: Option<String>,
    /// From 1.
    pub attempt: i32,
    pub max_attempts: i32,
    /// How often this lease was sent before.
    pub resends: i32,
    /// Results by step name, as a JSON object; `None` if they are too large.
    pub results: Option<String>,
    /// Bytes of all results, present or not.
    pub result_bytes: i64,
    pub inputs: Option<Box<RawValue>>,
    pub checkpoint: Option<Box<RawValue>>,
    /// The failures of tolerated parents by name, as a JSON object.
    pub errors: Option<String>,
    /// Why the attempt before failed.
    pub failure: Option<Box<RawValue>>,
}

/// A step whose deadline passed before its worker, or its callback, answered.
#[derive(Debug, Clone)]
pub struct Lost {
    pub lease: Lease,
    pub attempt: i32,
    /// How often its worker was lost before under this attempt.
    pub losses: i32,
    pub awaits_callback: bool,
    /// Its policy applies.
    pub template: TemplateRef,
}

impl Change {
    /// Reads a row of type `tasker.change`.
    pub(crate) fn read(row: &Row) -> Self {
        let task = || task_id(row.get("task_id"));
        let lease = || Lease { step: task().step(row.get("no")), number: row.get("lease") };
        let template = || from_row!(row, TemplateRef { template_id, environment });
        let lost = |awaits_callback| from_row!(row, Lost { attempt, losses; lease: lease(), template: template(), awaits_callback: awaits_callback });
        let answer = |answer| Self::Answer(row.get::<_, i32>("idx") as usize - 1, answer);
        match row.get("kind") {
            "accepted" => answer(Answer::Accepted),
            "duplicate" => answer(Answer::Duplicate),
            "stale" => answer(Answer::Stale),
            "refused" => answer(Answer::Refused),
            "ignored" => answer(Answer::Ignored),
            "finished" => Self::Finished(task(), task_state(row.get("state"))),
            "task" => Self::Task(from_row!(row, TaskHeader {
                correlation_id, traceparent;
                task: task(), template: template(), context: raw(row.get("context")).into(),
            })),
            "run" => Self::Run(from_row!(row, RunRow {
                name, attempt, max_attempts, resends, results, result_bytes, errors;
                lease: lease(), inputs: raw_column(row, "inputs"), checkpoint: raw_column(row, "checkpoint"),
                failure: raw_column(row, "failure"),
            })),
            "run_key" => Self::RunKey(lease()),
            "early" => Self::Early(lease(), row.get::<_, i64>("ms").max(0) as u64),
            "lost" => Self::Lost(lost(false)),
            "expired" => Self::Expired(lost(true)),
            "again" => Self::Again,
            "too_many" => Self::TooMany(row.get("ms")),
            "done" => Self::Done(row.get::<_, Option<String>>("state").unwrap_or_default()),
            "changed" => Self::Changed,
            "effect" => Self::Effect(Effect {
                step: task().step(row.get("no")),
                name: row.get("name"),
                lease: row.get::<_, Option<i32>>("lease").map(|_| lease()),
                was: row.get::<_, Option<&str>>("was").map(step_state),
                state: StepState::parse(row.get("state")),
            }),
            "seen" => Self::Seen(row.get("name")),
            "not_found" => Self::NotFound,
            "conflict" => Self::Conflict(row.get::<_, Option<i32>>("no").map(|no| task().step(no)), row.get("state")),
            other => unreachable!("the database returns a kind that this version does not know: {other}"),
        }
    }
}

pub(crate) fn task_id(uuid: Uuid) -> TaskId {
    TaskId::from_uuid(uuid).expect("only ids of tasks are stored")
}

pub(crate) fn task_state(word: &str) -> TaskState {
    TaskState::parse(word).expect("a CHECK allows only known states")
}

pub(crate) fn step_state(word: &str) -> StepState {
    StepState::parse(word).expect("a CHECK allows only known states")
}

pub(crate) fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("a column of type json contains JSON")
}

pub(crate) fn raw_column(row: &Row, name: &str) -> Option<Box<RawValue>> {
    row.get::<_, Option<String>>(name).map(raw)
}
