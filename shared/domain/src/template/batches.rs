//! Batches: which pattern belongs to which batchable step, and how its workers run.

use super::{BatchConfig, FailureStrategy, Step, StepKind};
use crate::{FailureEffect, reader::shown};
use tasker_wire::{Fault, limits};

/// A batchable step and the pattern of its workers, by position, and how the workers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The step whose result divides the work.
    pub batchable: usize,
    /// The `batch_worker` step. It has no row itself; its workers do.
    pub pattern: usize,
    /// Workers that run at once; absent for no bound.
    pub parallelism: Option<u32>,
    pub failure_strategy: FailureStrategy,
    /// What the cursors count; only the handlers read it.
    pub cursor_field: String,
    /// Whether the outcome `no_batches` makes a worker that has nothing to do, so that the steps after it exist: the batchable
    /// step's handler is set up with a `worker_template_name`.
    pub no_op_worker: bool,
}

impl Batch {
    pub(super) fn new(batchable: usize, pattern: usize, config: Option<&BatchConfig>, no_op_worker: bool) -> Self {
        Self {
            batchable,
            pattern,
            parallelism: config.and_then(|config| config.parallelism),
            failure_strategy: config.map(|config| config.failure_strategy).unwrap_or_default(),
            cursor_field: config.map_or_else(super::cursor_field, |config| config.cursor_field.clone()),
            no_op_worker,
        }
    }

    /// What a worker means that fails for good.
    pub(super) fn failure_effect(&self) -> FailureEffect {
        match self.failure_strategy {
            FailureStrategy::ContinueOnFailure => FailureEffect::Tolerated,
            FailureStrategy::FailFast => FailureEffect::EndsBatch,
            FailureStrategy::Isolate => FailureEffect::Blocks,
        }
    }
}

/// The pattern of every batchable step and the batchable step of every pattern, by index in the file; or every fault, of which there is
/// none if all that is wrong is a dependency that is faulty by itself.
pub(super) fn partners(steps: &[Step], parents: &[Vec<usize>]) -> Result<Vec<Option<usize>>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut are_known = true;
    let mut partners = vec![None; steps.len()];
    let mut patterns = vec![Vec::new(); steps.len()];
    for i in (0..steps.len()).filter(|&i| steps[i].kind == StepKind::BatchWorker) {
        match batchable_of(i, steps, &parents[i]) {
            Ok(batchable) => {
                partners[i] = Some(batchable);
                patterns[batchable].push(i);
            }
            Err(fault) => {
                are_known = false;
                faults.extend(fault);
            }
        }
    }
    for i in (0..steps.len()).filter(|&i| steps[i].kind == StepKind::Batchable) {
        match patterns[i][..] {
            [pattern] => partners[i] = Some(pattern),
            _ => faults.push(Fault::new(format!("/steps/{i}/type"), not_one(steps, &patterns[i]))),
        }
    }
    if are_known && faults.is_empty() { Ok(partners) } else { Err(faults) }
}

/// The batchable step that a pattern depends on. No fault if a dependency is faulty by itself.
fn batchable_of(pattern: usize, steps: &[Step], parents: &[usize]) -> Result<usize, Option<Fault>> {
    let fault = |message: String| Fault::new(format!("/steps/{pattern}/dependencies"), message);
    let message = match parents[..] {
        [parent] if steps[parent].kind == StepKind::Batchable => return Ok(parent),
        _ if parents.len() < steps[pattern].dependencies.len() => return Err(None),
        [parent] => format!(
            "a batch_worker step depends on the batchable step that its workers are made from; {} is not of this type",
            shown(&steps[parent].name)
        ),
        [] => "a batch_worker step depends on the batchable step that its workers are made from".to_owned(),
        _ => "a batch_worker step depends on its batchable step alone; let the batchable step wait for the others".to_owned(),
    };
    Err(Some(fault(message)))
}

fn not_one(steps: &[Step], patterns: &[usize]) -> String {
    if patterns.is_empty() {
        return "a batchable step needs a step of type batch_worker that depends on it".to_owned();
    }
    let names: Vec<_> = patterns.iter().take(limits::LISTED_NAMES).map(|&step| shown(&steps[step].name)).collect();
    format!("a batchable step has one step of type batch_worker that depends on it, not {}: {}", patterns.len(), names.join(", "))
}
