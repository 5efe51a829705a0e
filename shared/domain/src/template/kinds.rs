//! Checks what the types of steps require: of decisions, of the convergences behind them, and of batches.

use std::collections::HashMap;

use super::{Step, StepKind, batches, check::dependencies_of};
use crate::{
    did_you_mean,
    dynamic::possible::Possible,
    graph,
    reader::{Findings, shown},
};
use tasker_wire::{Fault, limits};

/// Reports every fault. `parents` are the known dependencies, and `order` a topological order of them; none if they form cycles.
pub(super) fn kinds(
    steps: &[Step],
    index: &HashMap<&str, usize>,
    parents: &[Vec<usize>],
    order: Option<&[usize]>,
    findings: &mut Findings,
) {
    decisions(steps, parents, findings);
    batch_configs(steps, index, findings);
    let partners = batches::partners(steps, parents);
    if let (Ok(partners), Some(order)) = (&partners, order) {
        matching_configs(steps, index, partners, findings);
        chains(steps, parents, order, findings);
        let kinds: Vec<StepKind> = order.iter().map(|&step| steps[step].kind).collect();
        report(Possible::of(&kinds, &graph::in_order(parents, order)).err(), findings);
    }
    report(partners.err().into_iter().flatten(), findings);
}

fn report(faults: impl IntoIterator<Item = Fault>, findings: &mut Findings) {
    faults.into_iter().for_each(|Fault { place, message }| findings.fault(place, message));
}

fn decisions(steps: &[Step], parents: &[Vec<usize>], findings: &mut Findings) {
    let is_decision = |&&parent: &&usize| steps[parent].kind == StepKind::Decision;
    for (i, step) in steps.iter().enumerate() {
        if step.kind == StepKind::Decision && step.dependencies.is_empty() {
            findings.fault(dependencies_of(i), "a decision step needs a dependency whose result it decides from");
        }
        if step.kind != StepKind::DeferredConvergence && parents[i].iter().filter(is_decision).count() > 1 {
            findings.note(dependencies_of(i), "contain several decisions: the step exists only if each of them names it");
        }
    }
}

fn batch_configs(steps: &[Step], index: &HashMap<&str, usize>, findings: &mut Findings) {
    let is_pattern = |step: &Step| step.kind == StepKind::BatchWorker;
    let patterns: Vec<&str> = steps.iter().filter(|step| is_pattern(step)).map(|step| step.name.as_str()).collect();
    for (i, step) in steps.iter().enumerate() {
        let Some(config) = &step.batch_config else { continue };
        let name = config.worker_template.as_str();
        let place = format!("/steps/{i}/batch_config");
        if !matches!(step.kind, StepKind::Batchable | StepKind::BatchWorker) {
            findings.note(place, "has no effect: the step is neither of type batchable nor of type batch_worker");
        } else if !name.is_empty() && !index.get(name).is_some_and(|&step| is_pattern(&steps[step])) {
            let guess = did_you_mean(name, patterns.iter().copied());
            findings.fault(
                format!("{place}/worker_template"),
                format!("there is no step {} of type batch_worker{guess}", shown(name)),
            );
        }
    }
}

/// Checks configurations against the steps that belong together.
fn matching_configs(steps: &[Step], index: &HashMap<&str, usize>, partners: &[Option<usize>], findings: &mut Findings) {
    for (i, step) in steps.iter().enumerate() {
        let (Some(config), Some(partner)) = (&step.batch_config, partners[i]) else { continue };
        let pattern = if step.kind == StepKind::BatchWorker { i } else { partner };
        let named = index.get(config.worker_template.as_str()).copied().filter(|&named| named != pattern);
        if named.is_some_and(|named| steps[named].kind == StepKind::BatchWorker) {
            let (named, pattern) = (shown(&config.worker_template), shown(&steps[pattern].name));
            let message = format!("is {named}; the workers are made from {pattern}");
            findings.fault(format!("/steps/{i}/batch_config/worker_template"), message);
        }
        if step.kind == StepKind::Batchable && steps[partner].batch_config.as_ref().is_some_and(|other| other != config) {
            findings
                .fault(format!("/steps/{i}/batch_config"), format!("differs from /steps/{partner}/batch_config; write it once"));
        }
    }
}

/// Refuses decisions that follow too many others. What one of them makes may hang on each of those before it.
fn chains(steps: &[Step], parents: &[Vec<usize>], order: &[usize], findings: &mut Findings) {
    // For each step the last decision of the longest chain to it, itself included, and the length of the chain.
    let mut chain: Vec<(usize, Option<usize>)> = vec![(0, None); steps.len()];
    let mut before = vec![None; steps.len()];
    for &step in order {
        let longest = parents[step].iter().map(|&parent| chain[parent]).max().unwrap_or_default();
        chain[step] = longest;
        if steps[step].kind == StepKind::Decision {
            before[step] = longest.1;
            chain[step] = (longest.0 + 1, Some(step));
            // Those after it need no sentence of their own.
            if longest.0 == limits::DECISION_DEPTH {
                findings.fault(dependencies_of(step), too_deep(steps, step, &before));
            }
        }
    }
}

fn too_deep(steps: &[Step], last: usize, before: &[Option<usize>]) -> String {
    let mut names: Vec<&str> =
        std::iter::successors(Some(last), |&step| before[step]).map(|step| steps[step].name.as_str()).collect();
    names.reverse();
    let (length, most) = (names.len(), limits::DECISION_DEPTH);
    format!("end a chain of {length} decisions; at most {most} may follow one another: {}", names.join(", "))
}
