//! Growth: the steps that exist because a decision or batchable succeeded.

use tasker_domain::{
    Verdict,
    dynamic::{Created, Decided},
    template::Workflow,
};
use tasker_queue::Queue;
use tasker_store::{Change, Completion, Decider, Planned, StoreError};
use tasker_wire::{
    StepNo, TaskId,
    ids::{position, step_no},
};

use crate::{Engine, templates::LoadedTemplate};

impl<Q: Queue> Engine<Q> {
    /// Applies a success that makes steps. Plans again until no other decision of the task came between, each of which is progress.
    pub(crate) async fn expand(&self, success: &Completion<'_>, template: &LoadedTemplate) -> Result<Vec<Change>, StoreError> {
        let Verdict::Expand(result, expansion) = &success.verdict else { unreachable!("called for successes that make steps") };
        let (workflow, task) = (&template.workflow, success.lease.step.task);
        let decider = success.lease.step.position().expect("an admitted step has a position");
        let result = expansion.result.as_deref().unwrap_or(result);
        loop {
            let (others, seen) = self.others(workflow, task, decider).await?;
            let growth = workflow.growth(&decided(workflow, &seen), decider, &expansion.created);
            let planned = Planned { workflow, decider, expansion, growth: &growth, others: &others, seen: &seen };
            let changes = self.store.expand(success, result, &planned, self.dispatch_settings()).await?;
            if !matches!(changes[..], [Change::Again]) {
                return Ok(changes);
            }
        }
    }

    /// The other deciders of a task's template, and those of them that are done.
    pub(crate) async fn others(
        &self,
        workflow: &Workflow,
        task: TaskId,
        decider: usize,
    ) -> Result<(Vec<StepNo>, Vec<Decider>), StoreError> {
        let others: Vec<StepNo> = workflow.deciders().iter().filter(|&&d| d != decider).map(|&d| step_no(d)).collect();
        let seen = if others.is_empty() { Vec::new() } else { self.store.deciders(task, &others).await? };
        Ok((others, seen))
    }
}

/// What these deciders made.
pub(crate) fn decided(workflow: &Workflow, done: &[Decider]) -> Decided {
    let of = |decider: &Decider| {
        let position = position(decider.no)?;
        Some((position, Created::from_numbers(workflow, position, &decider.created)?))
    };
    done.iter().filter_map(of).collect()
}
