//! The rules of which steps exist, written down as they are stated, without regard to cost.

use std::collections::{BTreeMap, BTreeSet};

use tasker_domain::{Created, Decided, template::StepKind};
use tasker_wire::{StepNo, ids::step_no};

use crate::shapes::Shape;
use StepKind::{BatchWorker, Batchable, Decision, DeferredConvergence};

pub struct Row {
    pub parents: BTreeSet<StepNo>,
    pub children: BTreeSet<StepNo>,
}

pub fn rows(shape: &Shape, decided: &Decided) -> BTreeMap<StepNo, Row> {
    let mut rows = BTreeMap::new();
    for step in shape.steps().filter(|&step| exists(shape, decided, step)) {
        for no in numbers(shape, decided, step) {
            rows.insert(no, Row { parents: parents(shape, decided, step), children: children(shape, step) });
        }
    }
    rows
}

pub fn exists(shape: &Shape, decided: &Decided, step: usize) -> bool {
    let exists = |&parent: &usize| exists(shape, decided, parent);
    let is_decision = |&parent: &usize| shape.kind(parent) == Decision;
    let named = |parent: &usize| matches!(decided.get(parent), Some(Created::Steps(named)) if named.contains(&step));
    let dependencies = shape.dependencies(step);
    if dependencies.is_empty() {
        return true;
    }
    match shape.kind(step) {
        BatchWorker => exists(&dependencies[0]) && workers(shape, decided, step) > 0,
        DeferredConvergence => dependencies.iter().any(|parent| exists(parent) && (!is_decision(parent) || named(parent))),
        _ => dependencies.iter().all(exists) && dependencies.iter().filter(|parent| is_decision(parent)).all(named),
    }
}

fn workers(shape: &Shape, decided: &Decided, pattern: usize) -> u32 {
    match decided.get(&shape.dependencies(pattern)[0]) {
        Some(Created::Workers(workers)) => *workers,
        _ => 0,
    }
}

/// The rows of a step: itself, or the workers of a pattern.
fn numbers(shape: &Shape, decided: &Decided, step: usize) -> Vec<StepNo> {
    match shape.kind(step) {
        BatchWorker => (1..=workers(shape, decided, step) as StepNo).map(|worker| step_no(step) + worker).collect(),
        _ => vec![step_no(step)],
    }
}

fn parents(shape: &Shape, decided: &Decided, step: usize) -> BTreeSet<StepNo> {
    let mut parents: BTreeSet<usize> = shape.dependencies(step).iter().copied().collect();
    parents.extend(batchables(shape, step));
    if shape.kind(step) == DeferredConvergence {
        parents.extend(guards(shape, step));
    }
    let existing = parents.into_iter().filter(|&parent| exists(shape, decided, parent));
    existing.flat_map(|parent| numbers(shape, decided, parent)).collect()
}

/// The batchable steps of the patterns that a step depends on.
fn batchables(shape: &Shape, step: usize) -> impl Iterator<Item = usize> {
    let patterns = shape.dependencies(step).iter().filter(|&&parent| shape.kind(parent) == BatchWorker);
    patterns.map(|&pattern| shape.dependencies(pattern)[0])
}

/// The deciders on which the existence of a dependency hangs.
fn guards(shape: &Shape, step: usize) -> BTreeSet<usize> {
    let mut guards = BTreeSet::new();
    for &parent in shape.dependencies(step) {
        if shape.kind(parent) == Decision || shape.kind(step) == BatchWorker {
            guards.insert(parent);
        }
        if !exists(shape, &Decided::new(), parent) {
            guards.extend(self::guards(shape, parent));
        }
    }
    guards
}

fn children(shape: &Shape, step: usize) -> BTreeSet<StepNo> {
    let is_child = |&child: &usize| {
        let guards = if shape.kind(child) == DeferredConvergence { guards(shape, child) } else { BTreeSet::new() };
        let after_workers = shape.kind(step) == Batchable && batchables(shape, child).any(|batchable| batchable == step);
        shape.kind(child) != BatchWorker && (shape.dependencies(child).contains(&step) || guards.contains(&step) || after_workers)
    };
    shape.steps().filter(is_child).map(step_no).collect()
}

/// The ancestors of a row beyond its parents.
pub fn further_ancestors(rows: &BTreeMap<StepNo, Row>, no: StepNo) -> BTreeSet<StepNo> {
    let mut ancestors = BTreeSet::new();
    let mut above: Vec<StepNo> = rows[&no].parents.iter().copied().collect();
    while let Some(parent) = above.pop() {
        for &further in &rows[&parent].parents {
            if ancestors.insert(further) {
                above.push(further);
            }
        }
    }
    &ancestors - &rows[&no].parents
}
