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
    did_you_mean, json,
    reader::{Findings, Members, shown},
    template::{Batch, FailureStrategy, StepKind, Workflow},
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
        let expansion = self.said_expansion(position, outcome)?;
        expansion.ok_or_else(|| invalid(&Faults(vec![Fault::new("", self.says_nothing(position))])))
    }

    /// What the decider at `position` makes if an operator resolves it with this success: nothing, unless it says what.
    pub fn resolution(&self, position: usize, outcome: &Outcome) -> Result<Expansion, Box<Failure>> {
        let nothing = || match &self.steps[position].batch {
            Some(batch) => Expansion::of_workers(Vec::new(), batch),
            None => Expansion::of_steps(Vec::new()),
        };
        Ok(self.said_expansion(position, outcome)?.unwrap_or_else(nothing))
    }

    /// The failure of a step whose success says what to make although its type makes nothing of the kind. Keys of its result are
    /// ordinary data.
    pub fn refuse_expansion(&self, position: usize, outcome: &Outcome) -> Option<Box<Failure>> {
        let Outcome::Success { decision, batches, .. } = outcome else { return None };
        let kind = self.steps[position].kind;
        let refuse = |said: bool, place: &str, right: StepKind| {
            let message = format!("only a step of type {} has this; the step is of type {}", right.word(), kind.word());
            (said && kind != right).then(|| Fault::new(place, message))
        };
        let faults = [
            refuse(decision.is_some(), "/decision", StepKind::Decision),
            refuse(batches.is_some(), "/batches", StepKind::Batchable),
        ];
        let faults: Vec<Fault> = faults.into_iter().flatten().collect();
        (!faults.is_empty()).then(|| invalid(&Faults(faults)))
    }

    fn says_nothing(&self, position: usize) -> &'static str {
        match self.steps[position].kind {
            StepKind::Decision => {
                "the outcome of a decision step must say which steps it creates: \
                 decision_point_outcome in its result, as {\"type\": \"create_steps\", \"step_names\": […]} or {\"type\": \"no_branches\"}"
            }
            _ => {
                "the outcome of a batchable step must say which batches it creates: batch_processing_outcome in its result, as \
                 {\"type\": \"create_batches\", \"cursor_configs\": […], …} or {\"type\": \"no_batches\"}"
            }
        }
    }

    /// `None` if the outcome does not say what to make.
    fn said_expansion(&self, position: usize, outcome: &Outcome) -> Result<Option<Expansion>, Box<Failure>> {
        if let Some(failure) = self.refuse_expansion(position, outcome) {
            return Err(failure);
        }
        let findings = RefCell::new(Findings::default());
        let expansion = match &self.steps[position].batch {
            Some(batch) => self.said_workers(batch, outcome, &findings),
            None => self.said_steps(position, outcome, &findings),
        };
        let expansion = expansion.map_err(|fault| invalid(&fault.into()))?;
        findings.into_inner().finish().map_err(|faults| invalid(&faults))?;
        Ok(expansion)
    }

    fn said_steps(&self, decision: usize, outcome: &Outcome, findings: &RefCell<Findings>) -> Result<Option<Expansion>, Fault> {
        let said = outcome::said_by_decision(outcome)?;
        let named: Vec<Vec<usize>> =
            said.into_iter().map(|said| self.named(decision, &Names::read(said, findings), findings)).collect();
        if let [own, taskers] = &named[..]
            && own != taskers
            && !findings.borrow().has_faults()
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
                step => findings.borrow_mut().fault(pointer(&said.place, i), self.refuse_name(decision, name, step.copied())),
            }
        }
        named.sort_unstable();
        named.dedup();
        named
    }

    /// Why a decision may not name a step, or a name that no step has.
    fn refuse_name(&self, decision: usize, name: &str, step: Option<usize>) -> String {
        let right: Vec<&str> = self.steps[decision]
            .children
            .iter()
            .copied()
            .filter(|&child| self.may_name(decision, child))
            .map(|child| self.steps[child].name.as_str())
            .collect();
        let Some(step) = step else {
            return format!("there is no step {}{}", shown(name), did_you_mean(name, right.into_iter()));
        };
        let why = match (&self.steps[step].batch, self.steps[step].kind) {
            _ if step == decision => "is the decision itself".to_owned(),
            (Some(batch), StepKind::BatchWorker) => {
                format!("is of type batch_worker: the step {} makes its workers", shown(&self.steps[batch.batchable].name))
            }
            _ => "does not depend on the decision directly".to_owned(),
        };
        let more = if right.len() > limits::LISTED_NAMES { ", …" } else { "" };
        let some = right.iter().take(limits::LISTED_NAMES).copied().collect::<Vec<_>>().join(", ");
        format!("the step {} {why}; a decision names steps that depend on it directly: {some}{more}", shown(name))
    }

    fn said_workers(&self, batch: &Batch, outcome: &Outcome, findings: &RefCell<Findings>) -> Result<Option<Expansion>, Fault> {
        let said = outcome::said_by_batchable(outcome)?;
        let names = WorkerNames::new(self, batch);
        let workers: Vec<Vec<NewWorker>> =
            said.into_iter().map(|said| names.workers(Batches::read(said, findings), findings)).collect();
        if let [own, taskers] = &workers[..]
            && !findings.borrow().has_faults()
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
    let more = faults.0.len().saturating_sub(NAMED_FAULTS);
    let more = if more > 0 { format!("; and {more} more faults") } else { String::new() };
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
