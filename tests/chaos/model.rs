//! The model of a seed: random workflows, the outcome of every attempt, and the end of every task.
//!
//! The outcome of an attempt is a function of the seed, the task, the step, the operator's retries before it and its number. No
//! message, order, loss or crash affects it, so the end of every task is known before it starts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tasker_test_support::Chance;
use tasker_wire::{StepState, TaskState};

use crate::hash::hash;

/// Workflows from which seeds draw. Each is registered once per database, when a seed first needs it.
const WORKFLOWS: usize = 2_000;
/// A timeout of so many seconds makes a worker report its start.
const LONG_SECONDS: u32 = 90;

/// Of the steps that may be decisions one of so many is.
const DECISIONS: u64 = 3;

/// A random workflow, determined by its number. From [`WORKFLOWS`] on they have decisions.
#[derive(Debug, Clone)]
pub struct Workflow {
    pub number: usize,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub parents: Vec<usize>,
    /// A decision: it names some of its children, and the others never exist.
    pub decides: bool,
    pub max_attempts: i32,
    backoff: &'static str,
    base_ms: u64,
    timeout_seconds: u32,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Success,
    /// The next attempt may succeed.
    Failure,
    Permanent,
}

/// The actions of operators on a task that were carried out.
#[derive(Debug, Default, Clone)]
pub struct Actions {
    pub cancelled: bool,
    /// By step: the leases at which an operator's retry began a new budget, ascending.
    pub retried: BTreeMap<usize, Vec<i32>>,
    /// By step that an operator resolved: the result.
    pub resolved: BTreeMap<usize, Option<String>>,
}

/// The end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEnd {
    pub state: StepState,
    /// None: any.
    pub attempt: Option<i32>,
}

impl Workflow {
    pub fn draw(chance: &mut Chance, decides: bool) -> Self {
        Self::number(chance.below(WORKFLOWS) + if decides { WORKFLOWS } else { 0 })
    }

    fn number(number: usize) -> Self {
        let mut chance = Chance::new(hash(&[0x776f_726b, (number % WORKFLOWS) as u64]));
        let count = 1 + chance.below(8).min(chance.below(8));
        let density = 150 + 100 * chance.below(6) as u64;
        let steps = (0..count).map(|no| {
            let mut parents: Vec<usize> = (0..no).filter(|_| chance.permille(density)).collect();
            parents.truncate(6);
            Step {
                parents,
                decides: false,
                max_attempts: 1 + chance.below(3) as i32,
                backoff: ["none", "linear", "exponential", "fibonacci"][chance.below(4)],
                base_ms: [0, 5, 20, 50][chance.below(4)],
                timeout_seconds: if chance.permille(350) { LONG_SECONDS } else { 30 },
            }
        });
        let mut workflow = Self { number, steps: steps.collect() };
        if number >= WORKFLOWS {
            for no in 0..workflow.steps.len() {
                let may_decide = !workflow.steps[no].parents.is_empty() && workflow.children(no).next().is_some();
                workflow.steps[no].decides =
                    may_decide && hash(&[0x6465_6369, number as u64, no as u64]).is_multiple_of(DECISIONS);
            }
        }
        workflow
    }

    pub fn children(&self, no: usize) -> impl Iterator<Item = usize> {
        self.steps.iter().enumerate().filter(move |(_, step)| step.parents.contains(&no)).map(|(child, _)| child)
    }

    /// Whether a step exists: all its parents do, and those that are decisions are complete and named it.
    pub fn exists(&self, (seed, task): (u64, usize), no: usize, state: impl Fn(usize) -> Option<StepState>) -> bool {
        self.steps[no].parents.iter().all(|&parent| match state(parent) {
            Some(state) if self.steps[parent].decides => state == StepState::Complete && names(seed, task, parent, no),
            state => state.is_some(),
        })
    }

    /// All ancestors of a step. A message carries the results of all of them: no workflow here has more than fit.
    pub fn ancestors(&self, no: usize) -> BTreeSet<usize> {
        let mut ancestors: BTreeSet<usize> = self.steps[no].parents.iter().copied().collect();
        // Parents come before their children, so a backward pass finds every ancestor.
        for step in (0..no).rev() {
            if ancestors.contains(&step) {
                ancestors.extend(&self.steps[step].parents);
            }
        }
        ancestors
    }

    pub fn name(&self) -> String {
        format!("chaos{}", self.number)
    }

    pub fn yaml(&self) -> String {
        let step = |(no, step): (usize, &Step)| {
            json!({
                "name": step_name(no),
                "type": if step.decides { "decision" } else { "standard" },
                "dependencies": step.parents.iter().map(|&p| step_name(p)).collect::<Vec<_>>(),
                "handler": {"callable": "scripted"},
                "timeout_seconds": step.timeout_seconds,
                "retry": {"max_attempts": step.max_attempts, "backoff": step.backoff, "backoff_base_ms": step.base_ms},
            })
        };
        let steps: Vec<_> = self.steps.iter().enumerate().map(step).collect();
        json!({"name": self.name(), "version": "1.0.0", "steps": steps}).to_string()
    }
}

pub fn step_name(no: usize) -> String {
    format!("s{no}")
}

impl Actions {
    /// How many of an operator's retries came before this lease.
    pub fn budget(&self, step: usize, lease: i32) -> usize {
        self.retried.get(&step).map_or(0, |leases| leases.iter().filter(|&&l| l <= lease).count())
    }

    fn last_budget(&self, step: usize) -> usize {
        self.retried.get(&step).map_or(0, Vec::len)
    }
}

/// How this attempt ends.
pub fn end(seed: u64, task: usize, step: usize, budget: usize, attempt: i32) -> End {
    match hash(&[seed, 1, task as u64, step as u64, budget as u64, attempt as u64]) % 100 {
        0..25 => End::Failure,
        25..30 => End::Permanent,
        _ => End::Success,
    }
}

/// Whether this attempt stores a checkpoint before it ends.
pub fn checkpoints(seed: u64, task: usize, step: usize, attempt: i32) -> bool {
    hash(&[seed, 2, task as u64, step as u64, attempt as u64]).is_multiple_of(12)
}

/// Whether a decision names a child.
pub fn names(seed: u64, task: usize, decision: usize, child: usize) -> bool {
    !hash(&[seed, 6, task as u64, decision as u64, child as u64]).is_multiple_of(4)
}

/// The ends of the steps of a task that nobody cancels. `None`: the step does not exist.
pub fn step_ends(seed: u64, task: usize, workflow: &Workflow, actions: &Actions) -> Vec<Option<StepEnd>> {
    let mut ends: Vec<Option<StepEnd>> = Vec::new();
    for (no, step) in workflow.steps.iter().enumerate() {
        let done = |e: &StepEnd| matches!(e.state, StepState::Complete | StepState::ResolvedManually);
        if !workflow.exists((seed, task), no, |parent| Some(ends[parent]?.state)) {
            ends.push(None);
            continue;
        }
        let end = if actions.resolved.contains_key(&no) {
            StepEnd { state: StepState::ResolvedManually, attempt: None }
        } else if !step.parents.iter().all(|&p| ends[p].as_ref().is_some_and(done)) {
            StepEnd { state: StepState::Pending, attempt: Some(0) }
        } else {
            run(seed, task, no, actions.last_budget(no), step.max_attempts)
        };
        ends.push(Some(end));
    }
    ends
}

/// The end of the task, given its steps.
pub fn task_end(ends: &[Option<StepEnd>], actions: &Actions) -> TaskState {
    if actions.cancelled {
        TaskState::Cancelled
    } else if ends.iter().flatten().any(|e| e.state == StepState::Error) {
        TaskState::Error
    } else {
        TaskState::Complete
    }
}

fn run(seed: u64, task: usize, step: usize, budget: usize, max_attempts: i32) -> StepEnd {
    let last = (1..=max_attempts).find(|&attempt| end(seed, task, step, budget, attempt) != End::Failure);
    let attempt = last.unwrap_or(max_attempts);
    let state = match end(seed, task, step, budget, attempt) {
        End::Success => StepState::Complete,
        End::Failure | End::Permanent => StepState::Error,
    };
    StepEnd { state, attempt: Some(attempt) }
}
