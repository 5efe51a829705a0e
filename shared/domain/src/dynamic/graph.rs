//! The rows of a task, computed from what was decided.

use std::collections::BTreeMap;

use super::{Created, Decided, GraphStep, Growth, MadeWorkers, Redo, position_of, possible, worker_numbers};
use crate::template::{StepKind, Workflow, WorkflowStep};
use tasker_wire::{StepNo, ids::step_no, limits};

impl Workflow {
    /// The positions of the steps that decide which steps exist, ascending.
    pub fn deciders(&self) -> &[usize] {
        &self.possible.deciders
    }

    /// Every row of a task, workers included, ascending.
    pub fn graph(&self, decided: &Decided) -> Vec<GraphStep> {
        let made = |decider| decided.get(&decider);
        let mut rows = Rows::new(self, &made);
        (0..self.steps.len()).flat_map(|step| rows.of(step)).collect()
    }

    /// What changes when the decider that made `created` ends. `before` must not contain it.
    pub fn growth(&self, before: &Decided, decider: usize, created: &Created) -> Growth {
        let made_before = |other| before.get(&other);
        let made_after = |other| if other == decider { Some(created) } else { before.get(&other) };
        let mut rows = Rows::new(self, &made_before);
        let existed = rows.exists.clone();
        rows.made = &made_after;
        rows.decide(decider);
        let mut growth = Growth::default();
        let mut edges: BTreeMap<usize, Vec<StepNo>> = BTreeMap::new();
        let conditional = self.possible.conditional.iter().copied();
        for step in conditional.filter(|&step| rows.exists[step] && !existed[step]).collect::<Vec<_>>() {
            for &child in self.steps[step].children.iter().filter(|&&child| existed[child]) {
                edges.entry(child).or_default().extend(rows.numbers(step));
            }
            let row = rows.row(step);
            match self.steps[step].kind {
                StepKind::BatchWorker => growth.workers = Some(MadeWorkers::new(step, rows.workers(step), row)),
                _ => growth.made.push(row),
            }
        }
        growth.edges = edges.into_iter().map(|(step, parents)| (step_no(step), parents)).collect();
        growth
    }

    /// What changes when the row `from` is run again with all after it. What is after it is found through rows: the template may lead
    /// to a row only through steps that do not exist.
    pub fn redo(&self, decided: &Decided, from: StepNo) -> Redo {
        let made_before = |decider| decided.get(&decider);
        let before = Rows::new(self, &made_before);
        let Some((first, _)) = position_of(from).filter(|&(step, worker)| before.has(step, worker)) else {
            return Redo::default();
        };
        let reached = before.reached_from(first);
        let made_after = |decider: usize| if reached[decider] { None } else { decided.get(&decider) };
        let after = Rows::new(self, &made_after);
        let mut redo = Redo::default();
        for step in (first..self.steps.len()).filter(|&step| reached[step]) {
            let is_lost = |parent: usize| before.exists[parent] && !after.exists[parent];
            if !after.exists[step] {
                redo.deleted.extend(before.numbers(step));
                continue;
            }
            // Of the workers of a pattern only `from` is reached without their batchable step.
            redo.reset.push(if step == first { from } else { step_no(step) });
            if possible_parents(&self.steps[step]).any(is_lost) {
                redo.parents.push((step_no(step), after.parents(step)));
            }
        }
        redo
    }

    /// Whether a decision may name a step: one that depends on it directly.
    pub(super) fn may_name(&self, decision: usize, step: usize) -> bool {
        self.steps
            .get(step)
            .is_some_and(|step| step.kind != StepKind::BatchWorker && step.parents.binary_search(&decision).is_ok())
    }
}

impl MadeWorkers {
    fn new(pattern: usize, count: u32, row: GraphStep) -> Self {
        let GraphStep { parents, children, further_ancestors, .. } = row;
        Self { pattern, count, parents, children, further_ancestors }
    }
}

/// What each decider made.
type Made<'a> = &'a dyn Fn(usize) -> Option<&'a Created>;

/// The rows of a task at one time.
struct Rows<'a> {
    workflow: &'a Workflow,
    made: Made<'a>,
    /// By position. A pattern exists if it has workers.
    exists: Vec<bool>,
    /// The step whose ancestors were searched when this one was last seen.
    seen_by: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn new(workflow: &'a Workflow, made: Made<'a>) -> Self {
        let exists = workflow.possible.at_start.clone();
        let mut rows = Self { workflow, made, exists, seen_by: vec![usize::MAX; workflow.steps.len()] };
        rows.decide(0);
        rows
    }

    /// Finds out which of the conditional steps from a position on exist.
    fn decide(&mut self, from: usize) {
        let conditional = &self.workflow.possible.conditional;
        for &step in &conditional[conditional.partition_point(|&step| step < from)..] {
            let WorkflowStep { kind, parents, .. } = &self.workflow.steps[step];
            self.exists[step] = possible::exists(*kind, parents, |&parent| self.is_open(parent, step));
        }
    }

    /// Whether the edge lets the step exist; see [`possible`].
    fn is_open(&self, parent: usize, step: usize) -> bool {
        self.exists[parent]
            && match (self.workflow.steps[parent].kind, self.workflow.steps[step].kind) {
                (_, StepKind::BatchWorker) => self.workers(step) > 0,
                (StepKind::Decision, _) => {
                    matches!((self.made)(parent), Some(Created::Steps(named)) if named.binary_search(&step).is_ok())
                }
                _ => true,
            }
    }

    /// Whether a row exists: a step, or a worker by its number from 1.
    fn has(&self, step: usize, worker: u32) -> bool {
        let steps = &self.workflow.steps;
        match steps.get(step).map(|step| step.kind) {
            Some(StepKind::BatchWorker) => self.exists[step] && (1..=self.workers(step)).contains(&worker),
            Some(_) => self.exists[step] && worker == 0,
            None => false,
        }
    }

    /// By position, whether it is the first one or there are rows after that one.
    fn reached_from(&self, first: usize) -> Vec<bool> {
        let steps = &self.workflow.steps;
        let mut reached = vec![false; steps.len()];
        reached[first] = true;
        for step in first..steps.len() {
            if reached[step] {
                let pattern = steps[step].batch.as_ref().map(|batch| batch.pattern);
                steps[step].children.iter().copied().chain(pattern).for_each(|child| reached[child] |= self.exists[child]);
            }
        }
        reached
    }

    /// The number of workers that were made from a pattern.
    fn workers(&self, pattern: usize) -> u32 {
        let batch = self.workflow.steps[pattern].batch.as_ref();
        match batch.and_then(|batch| (self.made)(batch.batchable)) {
            Some(&Created::Workers(workers)) => workers,
            _ => 0,
        }
    }

    /// The rows at a position: one, none, or those of the workers.
    fn of(&mut self, step: usize) -> Vec<GraphStep> {
        if !self.exists[step] {
            return Vec::new();
        }
        let row = self.row(step);
        match self.workflow.steps[step].kind {
            StepKind::BatchWorker => worker_numbers(step, self.workers(step)).map(|no| GraphStep { no, ..row.clone() }).collect(),
            _ => vec![row],
        }
    }

    /// The row of a step, or what the rows of a pattern's workers have in common.
    fn row(&mut self, step: usize) -> GraphStep {
        GraphStep {
            no: step_no(step),
            parents: self.parents(step),
            children: self.workflow.steps[step].children.iter().copied().map(step_no).collect(),
            further_ancestors: self.further_ancestors(step),
        }
    }

    /// The parents that exist.
    fn parents(&self, step: usize) -> Vec<StepNo> {
        let existing = possible_parents(&self.workflow.steps[step]).filter(|&parent| self.exists[parent]);
        let mut numbers: Vec<StepNo> = existing.flat_map(|parent| self.numbers(parent)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The numbers of the rows at a position.
    fn numbers(&self, step: usize) -> impl Iterator<Item = StepNo> {
        let is_pattern = self.workflow.steps[step].kind == StepKind::BatchWorker;
        let workers = if is_pattern { self.workers(step) } else { 0 };
        (!is_pattern).then(|| step_no(step)).into_iter().chain(worker_numbers(step, workers))
    }

    /// The numbers of the nearest ancestors that are not parents, ascending, by a breadth-first search.
    ///
    /// They are the same whatever else is decided while the row exists: steps that come late are taken to exist. Of a batch there are
    /// all workers or none, so that nobody takes some of them for all.
    fn further_ancestors(&mut self, step: usize) -> Vec<StepNo> {
        let steps = &self.workflow.steps;
        let mut near = Vec::new();
        for parent in possible_parents(&steps[step]) {
            self.seen_by[parent] = step;
            near.extend(self.may_exist(parent).then_some(parent));
        }
        let mut numbers = Vec::new();
        let mut looked_at = 0;
        while looked_at < near.len() && numbers.len() < limits::FURTHER_ANCESTORS {
            for ancestor in possible_parents(&steps[near[looked_at]]) {
                if numbers.len() == limits::FURTHER_ANCESTORS {
                    break;
                }
                if std::mem::replace(&mut self.seen_by[ancestor], step) != step && self.may_exist(ancestor) {
                    near.push(ancestor);
                    self.list(ancestor, &mut numbers);
                }
            }
            looked_at += 1;
        }
        numbers.sort_unstable();
        numbers
    }

    /// Whether a step exists, or may come while steps after it exist.
    fn may_exist(&self, step: usize) -> bool {
        self.exists[step] || self.workflow.possible.late[step]
    }

    /// Adds an ancestor to those listed, if there is room.
    fn list(&self, step: usize, numbers: &mut Vec<StepNo>) {
        let is_pattern = self.workflow.steps[step].kind == StepKind::BatchWorker;
        let room = limits::FURTHER_ANCESTORS - numbers.len();
        match self.workers(step) as usize {
            _ if !is_pattern => numbers.push(step_no(step)),
            workers if workers <= room && !self.workflow.possible.late[step] => numbers.extend(self.numbers(step)),
            _ => {}
        }
    }
}

/// The positions of those that are parents of the step where they exist. Deciders come first: they are the nearest wherever not all
/// ancestors find room.
fn possible_parents(step: &WorkflowStep) -> impl Iterator<Item = usize> {
    step.guards.iter().chain(&step.parents).copied()
}
