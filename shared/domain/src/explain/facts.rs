//! The facts that explain a task: what its rows said at one time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tasker_wire::{StepNo, StepState, TaskState};

use crate::{
    staleness::{Entered, LifecycleFacts},
    template::Lifecycle,
};

/// A task, and those of its steps that are not done.
#[derive(Debug, Clone)]
pub struct TaskFacts {
    /// The database's time of all that follows.
    pub now: Timestamp,
    pub state: TaskState,
    pub namespace: String,
    /// The template's name.
    pub name: String,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub total_steps: i32,
    /// Steps that can move without an operator, or are held by a pause.
    pub active_steps: i32,
    /// Steps that failed, without tolerated ones, or were cancelled.
    pub failed_steps: i32,
    /// Who ended it, if its steps did not.
    pub ended: Option<Ending>,
    /// The pauses in force.
    pub pauses: Vec<PauseFacts>,
    /// The open DLQ entries.
    pub entries: Vec<EntryFacts>,
    /// What bounds its time; `None` unless it runs, and its template has thresholds.
    pub bounds: Option<ThresholdFacts>,
    /// The batches with fewer places than workers.
    pub batches: Vec<BatchFacts>,
    /// The number of steps that are not done, by position in the template.
    pub open: BTreeMap<usize, i32>,
    /// Failed steps that count as done.
    pub tolerated: i64,
    /// The steps that are not done, and after them the tolerated ones; of many, those that hold up others before those that wait for them.
    pub steps: Vec<StepFacts>,
}

/// What ended a task: an operator's action, or that it was stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub actor: String,
    pub reason: String,
}

/// A pause that holds the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseFacts {
    pub of: Paused,
    pub since: Timestamp,
    pub actor: String,
    pub reason: String,
}

/// What is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    Task,
    Template,
    Namespace,
}

/// An open DLQ entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFacts {
    /// The step that it is about.
    pub no: Option<StepNo>,
    /// `worker_unavailable`, `manual_dlq`, …
    pub reason: String,
    pub detail: String,
    pub since: Timestamp,
}

/// The thresholds of a template, and what decides whether its task is stale.
#[derive(Debug, Clone)]
pub struct ThresholdFacts {
    pub lifecycle: Lifecycle,
    pub facts: LifecycleFacts,
    /// The entries that were opened because it was stale.
    pub entered: Vec<Entered>,
}

/// The places of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFacts {
    /// The position of the pattern.
    pub pattern: usize,
    /// The workers that may run at once.
    pub parallelism: i32,
    /// Whether places are passed on.
    pub open: bool,
}

#[derive(Debug, Clone)]
pub struct StepFacts {
    pub no: StepNo,
    pub name: String,
    pub state: StepState,
    /// The number of started attempts.
    pub attempt: i32,
    pub max_attempts: i32,
    pub parents: i32,
    /// Parents that are not done, and the place in a batch.
    pub pending_parents: i32,
    pub tolerated: bool,
    pub awaits_callback: bool,
    /// When the sweep looks at it.
    pub wake_at: Option<Timestamp>,
    /// Since when a pause holds it.
    pub held_at: Option<Timestamp>,
    pub dispatched_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    /// How often its message was sent again under the current lease.
    pub resends: i32,
    /// Workers lost under the current attempt.
    pub losses: i32,
    /// The items that its last checkpoint reports, as text.
    pub checkpoint: Option<String>,
    /// The type and the message of its last failure, cut to a line.
    pub failure: Option<[String; 2]>,
    /// The pause in seconds that the last failure asked for.
    pub hint_seconds: Option<f64>,
}
