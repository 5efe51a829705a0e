//! The report of the doctor.

use tasker_store::{
    Blocker,
    doctor::{Difference, Examination},
};
use tasker_wire::{
    TaskId,
    rest::{CounterDifference, DoctorReport, Examined, UnservedPool},
};

pub(crate) fn report(found: Examination, blockers: Vec<Blocker>, unserved: Vec<tasker_engine::WaitingPool>) -> DoctorReport {
    DoctorReport {
        checked: Examined { steps: found.steps, tasks: found.tasks },
        differences: found.differences.into_iter().map(difference).collect(),
        locks: blockers.into_iter().map(|blocker| blocker.text).collect(),
        total: found.total,
        unserved_pools: unserved.into_iter().map(|p| UnservedPool { pool: p.pool, steps: p.steps, why: p.why }).collect(),
    }
}

fn difference(d: Difference) -> CounterDifference {
    // A step without a row has only its id, no name.
    let id = || TaskId::from_uuid(d.task).zip(d.no).map(|(task, no)| task.step(no).to_string());
    CounterDifference { facts: d.facts, step: d.step.or_else(id), stored: d.stored, task_uuid: d.task, what: d.what }
}
