//! What the functions of the database answer.

use std::sync::Arc;

use serde_json::value::RawValue;
use tasker_domain::token::TemplateRef;
use tasker_wire::{Answer, StepId, StepState, TaskId, TaskState, message::Lease};
use tokio_postgres::Row;
use uuid::Uuid;

/// One row of an answer.
#[derive(Debug)]
pub enum Change {
    /// What became of the completion at this place of the batch, from 0.
    Answer(usize, Answer),
    /// The task is finished now.
    Finished(TaskId, TaskState),
    /// What all messages of a task share; comes before them.
    Task(TaskHeader),
    /// A message to send.
    Run(RunRow),
    /// A message to send, still to be loaded.
    RunKey(Lease),
    /// A retry that is due only in so many milliseconds.
    Early(Lease, u64),
    /// Started, and silent beyond its deadline.
    Lost(Lost),
    /// A callback did not come in time.
    Expired(Lost),
    /// The operator's action was carried out; the step was in this state before.
    Done(String),
    /// There is no such task or step.
    NotFound,
    /// The operator's action is not allowed: the task (no step named) or the step is in this state.
    Conflict(Option<StepId>, String),
}

/// What all messages of a task share.
#[derive(Debug, Clone)]
pub struct TaskHeader {
    pub task: TaskId,
    /// Whose policy applies.
    pub plan: TemplateRef,
    pub correlation_id: Uuid,
    pub traceparent: Option<String>,
    pub context: Arc<RawValue>,
}

/// What is a step's own in its message.
#[derive(Debug)]
pub struct RunRow {
    pub key: Lease,
    /// From 1.
    pub attempt: i32,
    pub max_attempts: i32,
    /// How often it was sent before under this lease.
    pub resends: i32,
    /// Results by step name as a JSON object; missing when they are too large.
    pub results: Option<String>,
    /// Bytes of all results, whether they are here or not.
    pub result_bytes: i64,
    pub inputs: Option<Box<RawValue>>,
    pub checkpoint: Option<Box<RawValue>>,
}

/// A step whose time passed while a worker, or a callback, owed an answer.
#[derive(Debug, Clone)]
pub struct Lost {
    pub key: Lease,
    pub attempt: i32,
    /// How often its worker was lost before under this attempt.
    pub losses: i32,
    /// It is a callback that did not come.
    pub awaits_callback: bool,
    /// Whose policy applies.
    pub plan: TemplateRef,
}

impl Change {
    /// Reads rows of type `tasker.change`.
    pub(crate) fn read_all(rows: &[Row]) -> Vec<Self> {
        rows.iter().map(Self::read).collect()
    }

    fn read(row: &Row) -> Self {
        let task = || task_id(row.get("task_id"));
        let key = || Lease { step: task().step(row.get("no")), number: row.get("lease") };
        let plan = || TemplateRef { template_id: row.get("template_id"), environment: row.get("environment") };
        let lost = |awaits_callback| Lost {
            key: key(),
            attempt: row.get("attempt"),
            losses: row.get("losses"),
            awaits_callback,
            plan: plan(),
        };
        let answer = |answer| Self::Answer(row.get::<_, i32>("idx") as usize - 1, answer);
        match row.get("kind") {
            "accepted" => answer(Answer::Accepted),
            "duplicate" => answer(Answer::Duplicate),
            "stale" => answer(Answer::Stale),
            "refused" => answer(Answer::Refused),
            "ignored" => answer(Answer::Ignored),
            "finished" => Self::Finished(task(), task_state(row.get("state"))),
            "task" => Self::Task(TaskHeader {
                task: task(),
                plan: plan(),
                correlation_id: row.get("correlation_id"),
                traceparent: row.get("traceparent"),
                context: raw(row.get("context")).into(),
            }),
            "run" => Self::Run(RunRow {
                key: key(),
                attempt: row.get("attempt"),
                max_attempts: row.get("max_attempts"),
                resends: row.get("resends"),
                results: row.get("results"),
                result_bytes: row.get("result_bytes"),
                inputs: row.get::<_, Option<String>>("inputs").map(raw),
                checkpoint: row.get::<_, Option<String>>("checkpoint").map(raw),
            }),
            "run_key" => Self::RunKey(key()),
            "early" => Self::Early(key(), row.get::<_, i64>("ms").max(0) as u64),
            "lost" => Self::Lost(lost(false)),
            "expired" => Self::Expired(lost(true)),
            "done" => Self::Done(row.get::<_, Option<String>>("state").unwrap_or_default()),
            "not_found" => Self::NotFound,
            "conflict" => Self::Conflict(row.get::<_, Option<i32>>("no").map(|no| task().step(no)), row.get("state")),
            other => unreachable!("the database answers with a kind that this version does not know: {other}"),
        }
    }
}

/// A task's id as the database holds it.
pub(crate) fn task_id(uuid: Uuid) -> TaskId {
    TaskId::from_uuid(uuid).expect("only ids of tasks are stored")
}

/// A task's state as the database holds it.
pub(crate) fn task_state(word: &str) -> TaskState {
    TaskState::parse(word).expect("a CHECK allows only known states")
}

/// A step's state as the database holds it.
pub(crate) fn step_state(word: &str) -> StepState {
    StepState::parse(word).expect("a CHECK allows only known states")
}

/// JSON text as the database holds it.
pub(crate) fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("a column of type json holds JSON")
}
