//! The model of a seed: random workflows, the outcome of every attempt, and the end of every task.
//!
//! The outcome of an attempt is a function of the seed, the task, the step, the operator's retries before it and its number. No
//! message, order, loss or crash affects it, so the end of every task is known before it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use tasker_domain::{
    Created, Decided, GraphStep,
    template::{self, FailureStrategy, StepKind},
};
use tasker_test_support::Chance;
use tasker_wire::{
    StepNo, StepState, TaskState,
    ids::{NUMBERS_PER_POSITION, position, step_no},
};

use crate::hash::hash;

/// Workflows from which seeds draw, of each [`Growth`]. Each is registered once per database, when a seed first needs it.
const WORKFLOWS: usize = 2_000;
/// A timeout of so many seconds makes a worker report its start.
const LONG_SECONDS: u32 = 90;

/// Of the steps that may be decisions one of so many is.
const DECISIONS: u64 = 3;
/// The most workers of a batch.
const WORKERS: u64 = 4;

/// Which steps of a workflow may come while its tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    Never,
    Decisions,
    /// Also convergences, and batches with any failure strategy and number of places.
    All,
}

/// A random workflow, determined by its number.
#[derive(Debug, Clone)]
pub struct Workflow {
    pub number: usize,
    yaml: String,
    parsed: Arc<template::Workflow>,
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
    /// By step: the leases at which an operator's action began a new budget, ascending.
    pub budgets: BTreeMap<StepNo, Vec<i32>>,
    /// By step that an operator resolved: the result.
    pub resolved: BTreeMap<StepNo, Option<String>>,
    /// How often each was carried out, by its name in the audit log.
    pub done: BTreeMap<&'static str, usize>,
}

/// The end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEnd {
    pub state: StepState,
    /// None: any.
    pub attempt: Option<i32>,
    /// The steps after it do not wait for another end.
    pub tolerated: bool,
    /// The failure of another worker may have ended its batch before it.
    pub cut_short: bool,
}

impl Workflow {
    pub fn draw(chance: &mut Chance, growth: Growth) -> Self {
        Self::number(chance.below(WORKFLOWS) + growth as usize * WORKFLOWS)
    }

    fn number(number: usize) -> Self {
        let mut chance = Chance::new(hash(&[0x776f_726b, (number % WORKFLOWS) as u64]));
        let name = format!("chaos{number}");
        loop {
            let steps = if number < 2 * WORKFLOWS { plain_steps(number, &mut chance) } else { growing_steps(&mut chance) };
            let yaml = json!({"name": name, "version": "1.0.0", "steps": steps}).to_string();
            // Not all of the growing ones are valid.
            if let Ok((template, _)) = template::parse(&yaml) {
                let parsed = Arc::new(template.workflow("").expect("a template without environments"));
                return Self { number, yaml, parsed };
            }
            assert!(number >= 2 * WORKFLOWS, "a plain workflow is not valid: {yaml}");
        }
    }

    pub fn parsed(&self) -> &template::Workflow {
        &self.parsed
    }

    pub fn growth(&self) -> Growth {
        [Growth::Never, Growth::Decisions, Growth::All][self.number / WORKFLOWS]
    }

    pub fn name(&self) -> &str {
        &self.parsed.name
    }

    pub fn yaml(&self) -> &str {
        &self.yaml
    }

    /// The number of attempts that a step may have.
    pub fn max_attempts(&self, no: StepNo) -> i32 {
        self.parsed.steps[at(no)].policy.max_attempts
    }

    /// What the failure of a batch worker means for its batch.
    pub fn strategy(&self, no: StepNo) -> Option<FailureStrategy> {
        let step = &self.parsed.steps[at(no)];
        step.batch.as_ref().filter(|_| step.kind == StepKind::BatchWorker).map(|batch| batch.failure_strategy)
    }

    /// Whether a step waits for both of two others, if all of them exist.
    pub fn joins(&self, child: usize, parents: (StepNo, StepNo)) -> bool {
        let step = &self.parsed.steps[child];
        let is_parent = |no| step.parents.contains(&at(no)) || step.guards.contains(&at(no));
        step.kind != StepKind::BatchWorker && parents.0 != parents.1 && is_parent(parents.0) && is_parent(parents.1)
    }

    /// The ancestors of a step, if all steps existed: of workers the number of their pattern.
    pub fn ancestors(&self, no: StepNo) -> BTreeSet<StepNo> {
        let mut ancestors: BTreeSet<usize> = BTreeSet::from([at(no)]);
        // Parents come before their children, so a backward pass finds every ancestor.
        for step in (0..=at(no)).rev() {
            if ancestors.contains(&step) {
                ancestors.extend(self.parsed.steps[step].parents.iter().chain(&self.parsed.steps[step].guards));
            }
        }
        ancestors.remove(&at(no));
        ancestors.into_iter().map(step_no).collect()
    }

    /// What a decider makes. `None`: it is no decider.
    pub fn created(&self, (seed, task): (u64, usize), decider: usize, budget: usize) -> Option<Created> {
        let hash = |n: u64| hash(&[seed, 6, task as u64, decider as u64, n, budget as u64]);
        match self.parsed.steps[decider].kind {
            StepKind::Decision => {
                let below = self
                    .parsed
                    .steps
                    .iter()
                    .enumerate()
                    .filter(|(_, step)| step.kind != StepKind::BatchWorker && step.parents.contains(&decider));
                let named = below.map(|(child, _)| child).filter(|&child| !hash(child as u64).is_multiple_of(4));
                Some(Created::Steps(named.collect()))
            }
            StepKind::Batchable => Some(Created::Workers((hash(0) % (WORKERS + 1)) as u32)),
            _ => None,
        }
    }

    /// The steps that exist, given the states of those that do, ascending.
    pub fn graph(&self, task: (u64, usize), actions: &Actions, state: impl Fn(StepNo) -> Option<StepState>) -> Vec<GraphStep> {
        let made = |&decider: &usize| {
            let no = step_no(decider);
            match state(no)? {
                StepState::Complete => Some((decider, self.created(task, decider, actions.last_budget(no))?)),
                StepState::ResolvedManually => Some((decider, self.nothing(decider))),
                _ => None,
            }
        };
        let decided: Decided = self.parsed.deciders().iter().filter_map(made).collect();
        self.parsed.graph(&decided)
    }

    /// What a decider makes whose result says nothing of it.
    fn nothing(&self, decider: usize) -> Created {
        if self.parsed.steps[decider].kind == StepKind::Decision { Created::Steps(vec![]) } else { Created::Workers(0) }
    }
}

/// Steps that all exist, or of which some are decisions.
fn plain_steps(number: usize, chance: &mut Chance) -> Vec<Value> {
    let count = 1 + chance.below(8).min(chance.below(8));
    let density = 150 + 100 * chance.below(6) as u64;
    let mut parents: Vec<Vec<usize>> = Vec::new();
    let mut steps: Vec<Value> = Vec::new();
    for no in 0..count {
        let mut own: Vec<usize> = (0..no).filter(|_| chance.permille(density)).collect();
        own.truncate(6);
        steps.push(with_policy(json!({"name": step_name(no), "dependencies": names(&own)}), chance));
        parents.push(own);
    }
    for no in 0..count {
        let has_children = parents.iter().any(|own| own.contains(&no));
        let decides = hash(&[0x6465_6369, number as u64, no as u64]).is_multiple_of(DECISIONS);
        if number >= WORKFLOWS && !parents[no].is_empty() && has_children && decides {
            steps[no]["type"] = json!("decision");
        }
    }
    steps
}

/// Steps of all kinds.
fn growing_steps(chance: &mut Chance) -> Vec<Value> {
    let mut steps: Vec<Value> = Vec::new();
    let count = 3 + chance.below(5);
    while steps.len() < count {
        let no = steps.len();
        let mut parents: Vec<usize> = (0..no).filter(|_| chance.permille(400)).collect();
        parents.truncate(6);
        let mut step = json!({"name": step_name(no), "dependencies": names(&parents)});
        match chance.below(10) {
            0..3 => {
                let strategies = vec!["fail_fast", "isolate", "continue_on_failure", "continue_on_failure"];
                let mut config = json!({"failure_strategy": chance.one_of(strategies), "worker_template": step_name(no + 1)});
                if chance.permille(600) {
                    config["parallelism"] = json!(1 + chance.below(2));
                }
                step["type"] = json!("batchable");
                step["batch_config"] = config;
                steps.push(with_policy(step, chance));
                let pattern = json!({"name": step_name(no + 1), "type": "batch_worker", "dependencies": [step_name(no)]});
                steps.push(with_policy(pattern, chance));
                continue;
            }
            3 | 4 if !parents.is_empty() => step["type"] = json!("decision"),
            5 | 6 if !parents.is_empty() => step["type"] = json!("deferred_convergence"),
            _ => {}
        }
        steps.push(with_policy(step, chance));
    }
    steps
}

fn with_policy(mut step: Value, chance: &mut Chance) -> Value {
    let (attempts, backoff) = (1 + chance.below(3), ["none", "linear", "exponential", "fibonacci"][chance.below(4)]);
    let base_ms = [0, 5, 20, 50][chance.below(4)];
    step["retry"] = json!({"max_attempts": attempts, "backoff": backoff, "backoff_base_ms": base_ms});
    step["timeout_seconds"] = json!(if chance.permille(350) { LONG_SECONDS } else { 30 });
    step["handler"] = json!({"callable": "scripted"});
    step
}

fn names(steps: &[usize]) -> Vec<String> {
    steps.iter().copied().map(step_name).collect()
}

fn at(no: StepNo) -> usize {
    position(no).expect("the number of a step")
}

fn step_name(no: usize) -> String {
    format!("s{no}")
}

impl Actions {
    /// How many budgets began up to this lease, after the first one.
    pub fn budget(&self, step: StepNo, lease: i32) -> usize {
        self.budgets.get(&step).map_or(0, |leases| leases.iter().filter(|&&l| l <= lease).count())
    }

    pub fn last_budget(&self, step: StepNo) -> usize {
        self.budgets.get(&step).map_or(0, Vec::len)
    }

    /// The next dispatch of a step, which has this lease now, begins a new budget.
    pub fn begin_budget(&mut self, step: StepNo, lease: i32) {
        self.budgets.entry(step).or_default().push(lease + 1);
    }

    pub fn cancel(&mut self) {
        self.cancelled = true;
        self.count("cancel_task");
    }

    /// One more action of this name was carried out.
    pub fn count(&mut self, action: &'static str) {
        *self.done.entry(action).or_default() += 1;
    }

    pub fn times(&self, action: &str) -> usize {
        self.done.get(action).copied().unwrap_or_default()
    }
}

/// How this attempt ends.
pub fn end(seed: u64, task: usize, step: StepNo, budget: usize, attempt: i32) -> End {
    match hash(&[seed, 1, task as u64, step as u64, budget as u64, attempt as u64]) % 100 {
        0..25 => End::Failure,
        25..30 => End::Permanent,
        _ => End::Success,
    }
}

/// Whether this attempt stores a checkpoint before it ends.
pub fn checkpoints(seed: u64, task: usize, step: StepNo, attempt: i32) -> bool {
    hash(&[seed, 2, task as u64, step as u64, attempt as u64]).is_multiple_of(12)
}

/// The ends of the steps of a task that nobody cancels. Others do not exist.
pub fn step_ends(task: (u64, usize), workflow: &Workflow, actions: &Actions) -> BTreeMap<StepNo, StepEnd> {
    let mut ends: BTreeMap<StepNo, StepEnd> = BTreeMap::new();
    // Every round knows the end of at least one more decider.
    for _ in 0..=workflow.parsed.deciders().len() {
        let graph = workflow.graph(task, actions, |no| Some(ends.get(&no)?.state));
        ends.clear();
        for step in &graph {
            ends.insert(step.no, step_end(task, workflow, actions, step, &ends));
        }
        shorten(workflow, &mut ends);
    }
    ends
}

fn step_end(
    task: (u64, usize),
    workflow: &Workflow,
    actions: &Actions,
    step: &GraphStep,
    ends: &BTreeMap<StepNo, StepEnd>,
) -> StepEnd {
    let end = |state, attempt| StepEnd { state, attempt, tolerated: false, cut_short: false };
    if actions.resolved.contains_key(&step.no) {
        return end(StepState::ResolvedManually, None);
    }
    let is_done = |end: &StepEnd| matches!(end.state, StepState::Complete | StepState::ResolvedManually) || end.tolerated;
    if !step.parents.iter().all(|parent| is_done(&ends[parent])) {
        return end(StepState::Pending, Some(0));
    }
    let (state, attempt) = run(task, step.no, actions.last_budget(step.no), workflow.max_attempts(step.no));
    let is_tolerated = workflow.strategy(step.no) == Some(FailureStrategy::ContinueOnFailure);
    StepEnd { tolerated: state == StepState::Error && is_tolerated, ..end(state, Some(attempt)) }
}

/// Of workers of which one fails and ends their batch, any may be the one.
fn shorten(workflow: &Workflow, ends: &mut BTreeMap<StepNo, StepEnd>) {
    let ends_batch = |(no, end): (&StepNo, &StepEnd)| {
        let fails = end.state == StepState::Error && workflow.strategy(*no) == Some(FailureStrategy::FailFast);
        fails.then_some(pattern(*no))
    };
    let ended: BTreeSet<StepNo> = ends.iter().filter_map(ends_batch).collect();
    for (no, end) in ends {
        end.cut_short = ended.contains(&pattern(*no)) && end.state != StepState::ResolvedManually;
    }
}

/// The number of the step from which a worker was made; of another step its own.
pub fn pattern(no: StepNo) -> StepNo {
    no - no % NUMBERS_PER_POSITION
}

/// The end of the task, given its steps.
pub fn task_end(ends: &BTreeMap<StepNo, StepEnd>, actions: &Actions) -> TaskState {
    if actions.cancelled {
        TaskState::Cancelled
    } else if ends.values().any(|e| e.state == StepState::Error && !e.tolerated) {
        TaskState::Error
    } else {
        TaskState::Complete
    }
}

fn run((seed, task): (u64, usize), step: StepNo, budget: usize, max_attempts: i32) -> (StepState, i32) {
    let last = (1..=max_attempts).find(|&attempt| end(seed, task, step, budget, attempt) != End::Failure);
    let attempt = last.unwrap_or(max_attempts);
    let state = match end(seed, task, step, budget, attempt) {
        End::Success => StepState::Complete,
        End::Failure | End::Permanent => StepState::Error,
    };
    (state, attempt)
}
