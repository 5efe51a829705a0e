//! Steps that come while a task runs. Which steps a task has is a function of its workflow and of what its deciders made so far: the
//! decisions, which name steps, and the batchable steps, which make workers.
//!
//! Nothing here knows the state of a step. A step that was not chosen does not exist.

mod expansion;
mod graph;
mod outcome;
pub(crate) mod possible;

use std::collections::BTreeMap;

pub use expansion::{Expansion, NewWorker};

use crate::template::{StepKind, Workflow};
use tasker_wire::{
    StepNo,
    ids::{NUMBERS_PER_POSITION, step_no},
};

/// What the deciders of a task have made so far, by position. A decider that is not done is absent.
pub type Decided = BTreeMap<usize, Created>;

/// What a decider made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The positions that a decision named, ascending and unique.
    Steps(Vec<usize>),
    /// The number of workers that a batchable step made.
    Workers(u32),
}

impl Created {
    /// As it is stored with the decider: the numbers of the named steps; of a batchable step its pattern's number and the number of workers.
    pub fn numbers(&self, workflow: &Workflow, decider: usize) -> Vec<StepNo> {
        match (self, &workflow.steps[decider].batch) {
            (Self::Steps(steps), _) => steps.iter().copied().map(step_no).collect(),
            (&Self::Workers(workers), Some(batch)) => vec![step_no(batch.pattern), workers as StepNo],
            (Self::Workers(_), None) => Vec::new(),
        }
    }

    /// Reads what [`Created::numbers`] returned. `None` if the decider cannot have made it.
    pub fn from_numbers(workflow: &Workflow, decider: usize, numbers: &[StepNo]) -> Option<Self> {
        match workflow.steps.get(decider)?.kind {
            StepKind::Decision => {
                let named =
                    |&no: &StepNo| position_of(no).filter(|&(step, worker)| worker == 0 && workflow.may_name(decider, step));
                let steps: Vec<usize> = numbers.iter().map(|no| named(no).map(|(step, _)| step)).collect::<Option<_>>()?;
                steps.is_sorted_by(|a, b| a < b).then_some(Self::Steps(steps))
            }
            StepKind::Batchable => {
                let &[pattern, workers] = numbers else { return None };
                let batch = workflow.steps[decider].batch.as_ref()?;
                let is_possible = pattern == step_no(batch.pattern) && (0..NUMBERS_PER_POSITION).contains(&workers);
                is_possible.then_some(Self::Workers(workers as u32))
            }
            _ => None,
        }
    }
}

/// A row of a task. All lists are ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphStep {
    pub no: StepNo,
    pub parents: Vec<StepNo>,
    /// Those that have the step as a parent wherever they exist. Not all of them need to, and workers are nobody's children.
    pub children: Vec<StepNo>,
    /// The nearest ancestors beyond the parents. It does not change as long as the row exists, so it may name steps that do not exist.
    pub further_ancestors: Vec<StepNo>,
}

/// The workers that a batchable step made. Their numbers follow their pattern's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeWorkers {
    /// The position of their pattern.
    pub pattern: usize,
    /// At least 1.
    pub count: u32,
    /// Of each of them, like [`GraphStep::parents`].
    pub parents: Vec<StepNo>,
    /// Of each of them, like [`GraphStep::children`].
    pub children: Vec<StepNo>,
    /// Of each of them, like [`GraphStep::further_ancestors`].
    pub further_ancestors: Vec<StepNo>,
}

/// What changes in a task when a decider ends: the graph after it without the graph before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    /// The new rows but for workers, ascending.
    pub made: Vec<GraphStep>,
    /// Only after a batchable step that made some.
    pub workers: Option<MadeWorkers>,
    /// Rows that existed, and the further parents that they get: both ascending. They are convergences that wait for the decider.
    pub edges: Vec<(StepNo, Vec<StepNo>)>,
}

/// What changes in a task when a step is run again with all after it. It is empty for a row that does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redo {
    /// The step and the rows after it that stay, ascending. The deciders among them have made nothing any more.
    pub reset: Vec<StepNo>,
    /// The rows that these deciders had made, and those that only such rows lead to, ascending.
    pub deleted: Vec<StepNo>,
    /// Of the rows that are reset, those that lose parents, and the parents that they keep: both ascending.
    pub parents: Vec<(StepNo, Vec<StepNo>)>,
}

/// The position of a step of the template or of a worker's pattern, and which of its workers the number means: 0 for the step itself.
fn position_of(no: StepNo) -> Option<(usize, u32)> {
    let position = usize::try_from(no / NUMBERS_PER_POSITION - 1).ok()?;
    Some((position, (no % NUMBERS_PER_POSITION) as u32))
}

/// The numbers of a pattern's workers.
fn worker_numbers(pattern: usize, workers: u32) -> impl Iterator<Item = StepNo> {
    let first = step_no(pattern);
    (1..=workers as StepNo).map(move |worker| first + worker)
}
