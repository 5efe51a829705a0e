//! Small workflows of every shape, and every state that their tasks can reach.

use std::{collections::BTreeMap, ops::Range};

use proptest::prelude::*;
use serde_json::{Value, json};
use tasker_domain::{
    Created, Decided,
    template::{StepKind, Template, Workflow, parse},
};

use crate::rules;
use StepKind::{BatchWorker, Batchable, Decision, DeferredConvergence, Standard};

/// The kinds and dependencies of steps. A dependency has a lower index, so indexes are positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape(pub Vec<(StepKind, Vec<usize>)>);

impl Shape {
    pub fn kind(&self, step: usize) -> StepKind {
        self.0[step].0
    }

    pub fn dependencies(&self, step: usize) -> &[usize] {
        &self.0[step].1
    }

    pub fn steps(&self) -> Range<usize> {
        0..self.0.len()
    }

    /// The template as a file.
    pub fn file(&self) -> String {
        let step = |(i, (kind, dependencies)): (usize, &(StepKind, Vec<usize>))| {
            let names: Vec<_> = dependencies.iter().map(|step| name(*step)).collect();
            json!({"name": name(i), "type": kind, "dependencies": names, "handler": {"callable": "x"}})
        };
        let steps: Vec<Value> = self.0.iter().enumerate().map(step).collect();
        json!({"name": "x", "namespace_name": "default", "version": "1.0.0", "steps": steps}).to_string()
    }

    pub fn workflow(&self) -> Workflow {
        serde_json::from_str::<Template>(&self.file()).unwrap().workflow("").unwrap()
    }

    pub fn explored(&self) -> Explored<'_> {
        Explored { shape: self, workflow: self.workflow(), states: states(self) }
    }
}

/// A shape with its workflow and the states of its tasks.
pub struct Explored<'s> {
    pub shape: &'s Shape,
    pub workflow: Workflow,
    /// Each after those that lead to it; see [`State`].
    pub states: Vec<State>,
}

pub fn name(step: usize) -> String {
    format!("s{step}")
}

/// The workflow of a template in YAML, without the keys that all have.
pub fn workflow(steps: &str) -> Workflow {
    let yaml = format!("{{name: x, version: 1.0.0, steps: [{steps}]}}");
    parse(&yaml).unwrap_or_else(|faults| panic!("{faults}")).0.workflow("").unwrap()
}

/// Shapes of about `most` steps, of which many are deciders and depend on the step before them.
pub fn shapes(most: usize) -> impl Strategy<Value = Shape> {
    masks(most / 2..most).prop_map(|mut masks| {
        masks.truncate(8);
        valid(masks)
    })
}

/// The same of exactly so many steps.
pub fn shapes_of(steps: usize) -> impl Strategy<Value = Shape> {
    masks(steps..steps + 1).prop_map(move |mut masks| {
        masks.truncate(steps);
        valid(masks)
    })
}

/// Kinds of steps, and which of those before it each depends on. A batch is two steps.
fn masks(entries: Range<usize>) -> impl Strategy<Value = Vec<(StepKind, u8)>> {
    let kinds = prop_oneof![
        3 => Just(&[Standard][..]), 4 => Just(&[Decision][..]), 4 => Just(&[DeferredConvergence][..]),
        2 => Just(&[Batchable, BatchWorker][..])
    ];
    let step = (any::<u8>(), any::<u8>(), 0..4_u8);
    prop::collection::vec((kinds, step), entries).prop_map(|steps| {
        let mut masks = Vec::new();
        for (kinds, (mask, other, before)) in steps {
            for &kind in kinds {
                let last = if before > 0 { 1_u8.checked_shl(masks.len() as u32).unwrap_or(0) >> 1 } else { 0 };
                masks.push((kind, mask & other | last));
            }
        }
        masks
    })
}

/// Calls for every valid shape of so many steps; with `reduced`, for those of which no two neighbours that do not depend on each other
/// stand the other way round. Each of the others is one of these with such neighbours exchanged.
pub fn each_shape(steps: usize, reduced: bool, call: &mut impl FnMut(&Shape)) {
    extend(&mut Shape(Vec::new()), steps, reduced, call);
}

fn extend(shape: &mut Shape, steps: usize, reduced: bool, call: &mut impl FnMut(&Shape)) {
    let without_pattern: Vec<usize> =
        shape.steps().filter(|&step| shape.kind(step) == Batchable && !has_pattern(&shape.0, step)).collect();
    let at = shape.0.len();
    if at == steps {
        if without_pattern.is_empty() {
            call(shape);
        }
        return;
    }
    let masks = (0..1_u32 << at).map(|mask| (0..at).filter(|bit| mask >> bit & 1 == 1).collect::<Vec<_>>());
    let of_kinds = masks.flat_map(|on| [Standard, Decision, DeferredConvergence, Batchable].map(|kind| (kind, on.clone())));
    let patterns = without_pattern.iter().map(|&batchable| (BatchWorker, vec![batchable]));
    for step in of_kinds.filter(|(kind, on)| *kind != Decision || !on.is_empty()).chain(patterns) {
        let before = shape.0.last().map(|(kind, on)| (kind.word(), on));
        let is_other_way_round = !step.1.contains(&at.wrapping_sub(1)) && before > Some((step.0.word(), &step.1));
        if reduced && is_other_way_round {
            continue;
        }
        shape.0.push(step);
        extend(shape, steps, reduced, call);
        shape.0.pop();
    }
}

fn has_pattern(steps: &[(StepKind, Vec<usize>)], batchable: usize) -> bool {
    steps.iter().any(|(kind, on)| *kind == BatchWorker && on == &[batchable])
}

/// The nearest valid shape: bit n of a step's mask is its dependency on step n.
pub fn valid(steps: Vec<(StepKind, u8)>) -> Shape {
    let mut shape: Vec<(StepKind, Vec<usize>)> = Vec::new();
    for (i, (kind, mask)) in steps.into_iter().enumerate() {
        let some: Vec<usize> = (0..i).filter(|bit| mask >> bit & 1 == 1).collect();
        let free = (0..i).rev().find(|&step| shape[step].0 == Batchable && !has_pattern(&shape, step));
        shape.push(match (kind, free) {
            (BatchWorker, Some(batchable)) => (BatchWorker, vec![batchable]),
            (BatchWorker, None) => (Standard, some),
            (Decision, _) if some.is_empty() => (Standard, some),
            _ => (kind, some),
        });
    }
    let patterns: Vec<usize> = shape.iter().filter(|(kind, _)| *kind == BatchWorker).map(|(_, on)| on[0]).collect();
    for (i, (kind, _)) in shape.iter_mut().enumerate() {
        if *kind == Batchable && !patterns.contains(&i) {
            *kind = Standard;
        }
    }
    Shape(shape)
}

/// A state of a task and what it can become when one decider ends: the decider, what it makes, and the index of the state.
pub struct State {
    pub decided: Decided,
    pub next: Vec<(usize, Created, usize)>,
}

/// Every state that a task can reach, each after those that lead to it. Deciders end in any order, as soon as they exist.
fn states(shape: &Shape) -> Vec<State> {
    let mut index = BTreeMap::from([(key(&Decided::new()), 0)]);
    let mut states = vec![State { decided: Decided::new(), next: Vec::new() }];
    let mut at = 0;
    while at < states.len() {
        let decided = states[at].decided.clone();
        let is_due = |&step: &usize| !decided.contains_key(&step) && rules::exists(shape, &decided, step);
        for decider in shape.steps().filter(is_due).collect::<Vec<_>>() {
            for created in choices(shape, decider) {
                let mut after = decided.clone();
                after.insert(decider, created.clone());
                let fresh = states.len();
                let to = *index.entry(key(&after)).or_insert(fresh);
                if to == fresh {
                    states.push(State { decided: after, next: Vec::new() });
                }
                states[at].next.push((decider, created, to));
            }
        }
        at += 1;
    }
    states
}

fn key(decided: &Decided) -> String {
    format!("{decided:?}")
}

/// Everything that a decider may make, with at most two workers.
fn choices(shape: &Shape, decider: usize) -> Vec<Created> {
    let nameable: Vec<usize> =
        shape.steps().filter(|&step| shape.kind(step) != BatchWorker && shape.dependencies(step).contains(&decider)).collect();
    match shape.kind(decider) {
        Decision => (0..1_u32 << nameable.len())
            .map(|mask| Created::Steps((0..nameable.len()).filter(|bit| mask >> bit & 1 == 1).map(|bit| nameable[bit]).collect()))
            .collect(),
        Batchable => (0..=2).map(Created::Workers).collect(),
        _ => Vec::new(),
    }
}
