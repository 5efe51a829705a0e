//! What is known of the steps of a workflow before anything is decided: which may come later, and what waits for them.
//!
//! A step exists if the edges from its parents are open: all of them, or one for a convergence. The edge from a decision is open if it
//! named the step, the one from a batchable step to its pattern if it made workers, every other one if the parent exists.

use crate::template::StepKind;
use tasker_wire::{Fault, limits};

/// Computed once for a workflow. Steps are positions of its topological order.
#[derive(Debug, Default)]
pub(crate) struct Possible {
    /// The decisions and batchable steps, ascending.
    pub deciders: Vec<usize>,
    /// Whether the step exists as long as nothing is decided.
    pub at_start: Vec<bool>,
    /// The other steps, ascending.
    pub conditional: Vec<usize>,
    /// Whether the step may come to exist while a step after it exists already: a convergence that another parent holds up.
    pub late: Vec<bool>,
}

/// For every step the deciders that may become parents of it without being among its dependencies, ascending.
///
/// Of a convergence, those on which the existence of a dependency hangs: it waits for every undecided one that could still create a
/// parent. Of another step, the batchable steps of the patterns that it depends on.
pub(crate) type Guards = Vec<Vec<usize>>;

impl Possible {
    /// A fault if the convergences have too many guards.
    pub fn of(kinds: &[StepKind], parents: &[Vec<usize>]) -> Result<(Self, Guards), Fault> {
        let shape = Shape { kinds, parents };
        let is_decider = |&step: &usize| matches!(kinds[step], StepKind::Decision | StepKind::Batchable);
        let deciders: Vec<usize> = (0..kinds.len()).filter(is_decider).collect();
        if deciders.is_empty() {
            let possible = Self { at_start: vec![true; kinds.len()], late: vec![false; kinds.len()], ..Self::default() };
            return Ok((possible, vec![Vec::new(); kinds.len()]));
        }
        let at_start = shape.at_start();
        let conditional = (0..kinds.len()).filter(|&step| !at_start[step]).collect();
        let (late, guards) = shape.late_and_guards(&deciders, &at_start)?;
        Ok((Self { deciders, at_start, conditional, late }, guards))
    }
}

/// The steps that have a step as a parent wherever they exist, ascending. Patterns are nobody's children.
pub(crate) fn children(kinds: &[StepKind], parents: &[Vec<usize>], guards: &Guards) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); parents.len()];
    let has_row = |&step: &usize| kinds[step] != StepKind::BatchWorker;
    for step in (0..parents.len()).filter(has_row) {
        for &parent in parents[step].iter().chain(&guards[step]) {
            children[parent].push(step);
        }
    }
    children
}

/// Whether a step exists. `is_open` says it of the edge from a parent.
pub(super) fn exists(kind: StepKind, parents: &[usize], is_open: impl FnMut(&usize) -> bool) -> bool {
    match kind {
        _ if parents.is_empty() => true,
        StepKind::DeferredConvergence => parents.iter().any(is_open),
        _ => parents.iter().all(is_open),
    }
}

struct Shape<'a> {
    kinds: &'a [StepKind],
    parents: &'a [Vec<usize>],
}

impl Shape<'_> {
    /// Whether the parent decides if the edge is open.
    fn is_decided(&self, parent: usize, step: usize) -> bool {
        self.kinds[parent] == StepKind::Decision || self.kinds[step] == StepKind::BatchWorker
    }

    fn at_start(&self) -> Vec<bool> {
        let mut at_start = Vec::with_capacity(self.kinds.len());
        for (step, parents) in self.parents.iter().enumerate() {
            at_start.push(exists(self.kinds[step], parents, |&parent| at_start[parent] && !self.is_decided(parent, step)));
        }
        at_start
    }

    fn late_and_guards(&self, deciders: &[usize], at_start: &[bool]) -> Result<(Vec<bool>, Guards), Fault> {
        let steps = self.kinds.len();
        // Those that may decide whether the step exists, and those that are done in every task where it exists.
        let mut may = Sets::new(steps, deciders);
        let mut must = Sets::new(steps, deciders);
        // Those that may be undecided while a convergence exists that waits for them.
        let mut open = may.empty();
        let mut guards = Vec::new();
        let is_convergence = |step: usize| self.kinds[step] == StepKind::DeferredConvergence;
        for step in (0..steps).filter(|&step| is_convergence(step) || !at_start[step]) {
            let any = self.along(&may, step, |all, edge| *all |= edge);
            let mut every = may.empty();
            if !at_start[step] {
                let join =
                    if is_convergence(step) { |all: &mut u64, edge| *all &= edge } else { |all: &mut u64, edge| *all |= edge };
                every = self.along(&must, step, join);
                may.put(step, &any);
                must.put(step, &every);
            }
            if is_convergence(step) {
                open.iter_mut().zip(any.iter().zip(&every)).for_each(|(open, (any, every))| *open |= any & !every);
                guards.push((step, any));
            }
        }
        let is_late = |step| may.of(step).iter().zip(&open).any(|(may, open)| may & open != 0);
        Ok(((0..steps).map(is_late).collect(), self.guards(&guards, deciders)?))
    }

    /// The deciders of all edges to a step, each with those of its parent, joined by `join`.
    fn along(&self, sets: &Sets, step: usize, join: impl Fn(&mut u64, u64)) -> Vec<u64> {
        let mut joined: Option<Vec<u64>> = None;
        for &parent in &self.parents[step] {
            let own = self.is_decided(parent, step).then(|| sets.bit(parent));
            let edge = sets.of(parent).iter().enumerate().map(|(word, &set)| match own {
                Some((at, bit)) if at == word => set | bit,
                _ => set,
            });
            match &mut joined {
                Some(joined) => joined.iter_mut().zip(edge).for_each(|(joined, edge)| join(joined, edge)),
                None => joined = Some(edge.collect()),
            }
        }
        joined.unwrap_or_else(|| sets.empty())
    }

    fn guards(&self, of_convergences: &[(usize, Vec<u64>)], deciders: &[usize]) -> Result<Guards, Fault> {
        refuse_guards(of_convergences.iter().map(|(_, set)| count(set)).sum())?;
        let batchables = |step: usize| {
            let patterns = self.parents[step].iter().filter(|&&parent| self.kinds[parent] == StepKind::BatchWorker);
            patterns.map(|&pattern| self.parents[pattern][0]).collect()
        };
        let mut guards: Guards = (0..self.kinds.len()).map(batchables).collect();
        for (step, set) in of_convergences {
            guards[*step] = members(set).map(|decider| deciders[decider]).collect();
        }
        for (guards, parents) in guards.iter_mut().zip(self.parents) {
            guards.sort_unstable();
            guards.dedup();
            guards.retain(|guard| parents.binary_search(guard).is_err());
        }
        Ok(guards)
    }
}

fn refuse_guards(guards: usize) -> Result<(), Fault> {
    if guards <= limits::GUARDS {
        return Ok(());
    }
    let message = format!(
        "have convergences that wait for {guards} decisions and batches in all; at most {} are allowed. Let fewer convergences follow \
         the same decisions",
        limits::GUARDS
    );
    Err(Fault::new("/steps", message))
}

/// A set of deciders for every step: a bit for each decider.
struct Sets<'a> {
    deciders: &'a [usize],
    words: usize,
    bits: Vec<u64>,
}

impl<'a> Sets<'a> {
    fn new(steps: usize, deciders: &'a [usize]) -> Self {
        let words = deciders.len().div_ceil(64);
        Self { deciders, words, bits: vec![0; steps * words] }
    }

    fn empty(&self) -> Vec<u64> {
        vec![0; self.words]
    }

    fn of(&self, step: usize) -> &[u64] {
        &self.bits[step * self.words..][..self.words]
    }

    fn put(&mut self, step: usize, set: &[u64]) {
        self.bits[step * self.words..][..self.words].copy_from_slice(set);
    }

    /// The word and bit of a decider.
    fn bit(&self, decider: usize) -> (usize, u64) {
        let at = self.deciders.binary_search(&decider).expect("only deciders decide edges");
        (at / 64, 1 << (at % 64))
    }
}

fn count(set: &[u64]) -> usize {
    set.iter().map(|word| word.count_ones() as usize).sum()
}

fn members(set: &[u64]) -> impl Iterator<Item = usize> {
    (0..set.len() * 64).filter(|&at| set[at / 64] >> (at % 64) & 1 == 1)
}
