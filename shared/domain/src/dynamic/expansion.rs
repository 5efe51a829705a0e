//! What the success of a decider makes in a workflow, or why its outcome is invalid.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Created,
    outcome::{self, Batches, Cursor, Names},
};
use crate::{
    json, near,
    reader::{Findings, Members, shown},
    template::{Batch, FailureStrategy, StepKind, Workflow, WorkflowStep},
};
use tasker_wire::{Failure, Fault, Faults, Outcome, fault::pointer, limits};

/// Faults that a failure's message names.
const NAMED_FAULTS: usize = 10;

/// What the success of a decider makes.
#[derive(Debug)]
pub struct Expansion {
    pub created: Created,
    /// In the order of their numbers.
    pub workers: Vec<NewWorker>,
    /// Workers that run at once; none for no bound.
    pub parallelism: Option<u32>,
    /// The result to store, if it differs from the outcome's: cursors are taken out.
    pub result: Option<Box<RawValue>>,
}

/// A worker that a batchable step makes.
#[derive(Debug)]
pub struct NewWorker {
    /// The name of the pattern and the id of the batch.
    pub name: String,
    /// `{"cursor": {"batch_id", "start_cursor", "end_cursor", "batch_size", …}, "batch_metadata": {"cursor_field",
    /// "failure_strategy"}, "is_no_op"}`.
    pub inputs: Box<RawValue>,
}

impl Expansion {
    fn of_steps(steps: Vec<usize>) -> Self {
        Self { created: Created::Steps(steps), workers: Vec::new(), parallelism: None, result: None }
    }

    fn of_workers(workers: Vec<NewWorker>, batch: &Batch) -> Self {
        Self { created: Created::Workers(workers.len() as u32), workers, parallelism: batch.parallelism, result: None }
    }
}

impl Workflow {
    /// What a success of the decider at `position` makes. [`decide`](crate::decide) must have accepted its result.
    ///
    /// The error is a permanent failure `invalid_outcome` that says what is wrong, and where in the success.
    pub fn expansion(&self, position: usize, outcome: &Outcome) -> Result<Expansion, Box<Failure>> {
        let said = self.said_expansion(position, outcome);
        said.and_then(|said| said.ok_or_else(|| self.says_nothing(position).into())).map_err(|faults| invalid(&faults))
    }

    /// What the decider at `position` makes if an operator resolves it with this success: nothing, unless it says what.
    ///
    /// The error says what is wrong, and where in the success; of many faults the first few.
    pub fn resolution(&self, position: usize, outcome: &Outcome) -> Result<Expansion, Faults> {
        let nothing = || match &self.steps[position].batch {
            Some(batch) => Expansion::of_workers(Vec::new(), batch),
            None => Expansion::of_steps(Vec::new()),
        };
        let said = self.said_expansion(position, outcome);
        said.map(|said| said.unwrap_or_else(nothing)).map_err(|faults| Faults(faults.0.into_iter().take(NAMED_FAULTS).collect()))
    }

    /// The failure of a step whose success says what to make although its type makes nothing of the kind. Keys of its result are
    /// ordinary data.
    pub fn refuse_expansion(&self, position: usize, outcome: &Outcome) -> Option<Box<Failure>> {
        self.refuse_said(position, outcome).err().map(|faults| invalid(&faults))
    }

    fn refuse_said(&self, position: usize, outcome: &Outcome) -> Result<(), Faults> {
        let Outcome::Success { decision, batches, .. } = outcome else { return Ok(()) };
        let kind = self.steps[position].kind;
        let refuse = |(place, is_said, right): (&str, bool, StepKind)| {
            let message = format!("is for steps of type {}; the type of this step is {}", right.word(), kind.word());
            (is_said && kind != right).then(|| Fault::new(place, message))
        };
        let said = [("/decision", decision.is_some(), StepKind::Decision), ("/batches", batches.is_some(), StepKind::Batchable)];
        let faults: Vec<Fault> = said.into_iter().filter_map(refuse).collect();
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    fn says_nothing(&self, position: usize) -> Fault {
        let message = match self.steps[position].kind {
            StepKind::Decision => {
                "does not say which steps to create: a decision step's result has the key decision_point_outcome, which is \
                 {\"type\": \"create_steps\", \"step_names\": […]} or {\"type\": \"no_branches\"}"
            }
            _ => {
                "does not say which batches to create: a batchable step's result has the key batch_processing_outcome, which is \
                 {\"type\": \"create_batches\", \"cursor_configs\": […], …} or {\"type\": \"no_batches\"}"
            }
        };
        Fault::new("/result", message)
    }

    /// `None` if the outcome does not say what to make.
    fn said_expansion(&self, position: usize, outcome: &Outcome) -> Result<Option<Expansion>, Faults> {
        self.refuse_said(position, outcome)?;
        let findings = RefCell::new(Findings::default());
        let expansion = match (self.steps[position].kind, &self.steps[position].batch) {
            (StepKind::Decision, _) => self.said_steps(position, outcome, &findings)?,
            (StepKind::Batchable, Some(batch)) => self.said_workers(batch, outcome, &findings)?,
            (kind, _) => {
                return Err(Fault::new("", format!("a step of type {} makes no steps", kind.word())).into());
            }
        };
        findings.into_inner().finish()?;
        Ok(expansion)
    }

    fn said_steps(&self, decision: usize, outcome: &Outcome, findings: &RefCell<Findings>) -> Result<Option<Expansion>, Fault> {
        let said = outcome::said_by_decision(outcome)?;
        let named: Vec<Vec<usize>> =
            said.into_iter().map(|said| self.named(decision, &Names::read(said, findings), findings)).collect();
        if let [own, taskers] = &named[..]
            && own != taskers
            && findings.borrow().faults() == 0
        {
            findings.borrow_mut().fault("/decision", "names other steps than /result/decision_point_outcome");
        }
        Ok(named.into_iter().next().map(Expansion::of_steps))
    }

    /// The positions of named steps, ascending and unique.
    fn named(&self, decision: usize, said: &Names, findings: &RefCell<Findings>) -> Vec<usize> {
        let positions: HashMap<&str, usize> = self.steps.iter().enumerate().map(|(i, step)| (step.name.as_str(), i)).collect();
        let mut named = Vec::with_capacity(said.names.len());
        for (i, name) in said.names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            match positions.get(name.as_str()) {
                Some(&step) if self.may_name(decision, step) => named.push(step),
                // A sentence costs a look at all names, so that only those are made that are shown.
                _ if findings.borrow().faults() > NAMED_FAULTS => break,
                step => findings.borrow_mut().fault(pointer(&said.place, i), self.refuse_name(decision, name, step.copied())),
            }
        }
        named.sort_unstable();
        named.dedup();
        named
    }

    /// Why a decision may not name a step, or a name that no step has.
    fn refuse_name(&self, decision: usize, name: &str, step: Option<usize>) -> String {
        let children = self.steps[decision].children.iter().copied();
        let right: Vec<&str> =
            children.filter(|&child| self.may_name(decision, child)).map(|child| self.steps[child].name.as_str()).collect();
        let more = if right.len() > limits::LISTED_NAMES { ", …" } else { "" };
        let some = match right.iter().take(limits::LISTED_NAMES).copied().collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "no step".to_owned(),
            some => format!("{some}{more}"),
        };
        let shown_name = shown(name);
        match step.map(|step| (step, &self.steps[step])) {
            None => match near(name, right.into_iter()) {
                Some(near) => format!("there is no step {shown_name}; did you mean {near}?"),
                None => format!("there is no step {shown_name}; the decision may name {some}"),
            },
            Some((step, _)) if step == decision => format!("the step {shown_name} is the decision itself; it may name {some}"),
            Some((_, WorkflowStep { kind: StepKind::BatchWorker, .. })) => {
                format!(
                    "the step {shown_name} is of type batch_worker, of which only batches are made; the decision may name {some}"
                )
            }
            Some(_) => format!("the step {shown_name} does not depend on the decision directly; the decision may name {some}"),
        }
    }

    fn said_workers(&self, batch: &Batch, outcome: &Outcome, findings: &RefCell<Findings>) -> Result<Option<Expansion>, Fault> {
        let said = outcome::said_by_batchable(outcome)?;
        let names = WorkerNames::new(self, batch);
        let workers: Vec<Vec<NewWorker>> =
            said.into_iter().map(|said| names.workers(Batches::read(said, findings), findings)).collect();
        if let [own, taskers] = &workers[..]
            && findings.borrow().faults() == 0
            && !are_same(own, taskers)
        {
            findings.borrow_mut().fault("/batches", "makes other workers than /result/batch_processing_outcome");
        }
        let Some(workers) = workers.into_iter().next() else { return Ok(None) };
        let Outcome::Success { result, .. } = outcome else { return Ok(None) };
        Ok(Some(Expansion { result: outcome::without_cursors(result), ..Expansion::of_workers(workers, batch) }))
    }
}

fn invalid(faults: &Faults) -> Box<Failure> {
    let named = Faults(faults.0.iter().take(NAMED_FAULTS).cloned().collect());
    let more = if faults.0.len() > NAMED_FAULTS { "; …" } else { "" };
    Failure::permanent("invalid_outcome", format!("{named}{more}")).into()
}

fn are_same(some: &[NewWorker], others: &[NewWorker]) -> bool {
    let is_same =
        |(a, b): (&NewWorker, &NewWorker)| a.name == b.name && json::canonical(a.inputs.get()) == json::canonical(b.inputs.get());
    some.len() == others.len() && some.iter().zip(others).all(is_same)
}

/// The names that workers may have, and what all workers are told.
struct WorkerNames<'a> {
    batch: &'a Batch,
    pattern: &'a str,
    /// What follows `{pattern}_` in the names of the template's steps.
    taken: HashSet<&'a str>,
    /// The same of patterns alone. A worker's name must not begin with that of another pattern, of which it would seem to be a worker.
    patterns: HashSet<&'a str>,
}

impl<'a> WorkerNames<'a> {
    fn new(workflow: &'a Workflow, batch: &'a Batch) -> Self {
        let pattern = workflow.steps[batch.pattern].name.as_str();
        let longer = |name: &'a str| name.strip_prefix(pattern)?.strip_prefix('_');
        let patterns = workflow.steps.iter().filter(|step| step.kind == StepKind::BatchWorker);
        Self {
            batch,
            pattern,
            taken: workflow.steps.iter().filter_map(|step| longer(&step.name)).collect(),
            patterns: patterns.filter_map(|step| longer(&step.name)).collect(),
        }
    }

    fn workers(&self, batches: Batches, findings: &RefCell<Findings>) -> Vec<NewWorker> {
        let (pattern, place, cursors) = match batches {
            Batches::NoWork(place) if self.batch.no_op_worker => {
                let cursor = Cursor::of_nothing();
                if let Some(message) = self.refuse(&cursor.batch_id) {
                    findings.borrow_mut().fault(place, message);
                }
                return vec![self.worker(&cursor, true)];
            }
            Batches::NoWork(_) => return Vec::new(),
            Batches::Cursors { pattern, place, cursors } => (pattern, place, cursors),
        };
        if let Some((name, place)) = pattern.filter(|(name, _)| name != self.pattern) {
            let message = format!("is {}; the workers are made from {}", shown(&name), shown(self.pattern));
            findings.borrow_mut().fault(place, message);
        }
        let mut seen = HashMap::with_capacity(cursors.len());
        for (i, Cursor { batch_id, .. }) in cursors.iter().enumerate().filter(|(_, cursor)| !cursor.batch_id.is_empty()) {
            let refusal = match seen.insert(batch_id, i) {
                Some(first) => Some(format!("is {}, as is {place}/{first}/batch_id", shown(batch_id))),
                None => self.refuse(batch_id),
            };
            if let Some(message) = refusal {
                findings.borrow_mut().fault(format!("{place}/{i}/batch_id"), message);
            }
        }
        cursors.iter().map(|cursor| self.worker(cursor, false)).collect()
    }

    /// Why no worker may have this id.
    fn refuse(&self, batch_id: &str) -> Option<String> {
        let name = format!("{}_{batch_id}", self.pattern);
        let chars = name.chars().count();
        if chars > limits::NAME_CHARS {
            return Some(format!("makes a worker's name of {chars} characters; at most {} are allowed", limits::NAME_CHARS));
        }
        if self.taken.contains(batch_id) {
            return Some(format!("makes a worker named {}, as is a step of the template", shown(&name)));
        }
        let starts = batch_id.char_indices().map(|(at, _)| &batch_id[..at]);
        let other = starts.into_iter().find(|start| self.patterns.contains(start))?;
        let other = format!("{}_{other}", self.pattern);
        Some(format!("makes a worker named {}, which begins like the workers of {}", shown(&name), shown(&other)))
    }

    fn worker(&self, cursor: &Cursor, is_no_op: bool) -> NewWorker {
        let batch_metadata = Metadata { cursor_field: &self.batch.cursor_field, failure_strategy: self.batch.failure_strategy };
        let inputs = to_raw_value(&Inputs { cursor: &cursor.members, batch_metadata, is_no_op });
        NewWorker {
            name: format!("{}_{}", self.pattern, cursor.batch_id),
            inputs: inputs.expect("texts, flags and JSON are JSON"),
        }
    }
}

#[derive(Serialize)]
struct Inputs<'a> {
    cursor: &'a Members,
    batch_metadata: Metadata<'a>,
    is_no_op: bool,
}

#[derive(Serialize)]
struct Metadata<'a> {
    cursor_field: &'a str,
    failure_strategy: FailureStrategy,
}
