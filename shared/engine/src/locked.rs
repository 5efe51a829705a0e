//! The tasks whose rows another session has locked. Only a hint: it saves the wait for a lock that was not free a moment ago.

use std::collections::HashSet;

use parking_lot::Mutex;
use tasker_store::Completion;
use tasker_wire::{Lease, StepId, TaskId};

#[derive(Default)]
pub(crate) struct LockedTasks(Mutex<HashSet<TaskId>>);

impl LockedTasks {
    /// Whether a verdict of the round is about such a task.
    pub fn may_block(&self, round: &[Completion]) -> bool {
        let tasks = self.0.lock();
        !tasks.is_empty() && round.iter().any(|verdict| tasks.contains(&verdict.lease.step.task))
    }

    /// Takes over what the database said about the steps of these leases.
    pub fn note(&self, leases: &[Lease], locked: &[StepId]) {
        let mut tasks = self.0.lock();
        for lease in leases {
            tasks.remove(&lease.step.task);
        }
        tasks.extend(locked.iter().map(|step| step.task));
    }
}
