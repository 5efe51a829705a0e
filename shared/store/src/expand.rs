//! Growth: one statement applies a success that makes steps.

use serde::Serialize;
use serde_json::value::RawValue;
use tasker_domain::{
    dynamic::{Expansion, Growth},
    template::Workflow,
};
use tasker_wire::{
    StepNo, TaskId,
    ids::{NUMBERS_PER_POSITION, step_no},
    limits,
};
use uuid::Uuid;

use crate::{
    Change, Completion, DispatchSettings, Store, StoreError,
    pool::{Lane, Param, Prepared},
    store::sql,
};

/// What a decision or batchable made that is done.
#[derive(Debug, PartialEq, Eq)]
pub struct Decider {
    pub no: StepNo,
    /// The lease under which it was done.
    pub lease: i32,
    /// See [`Created::numbers`](tasker_domain::Created::numbers).
    pub created: Vec<StepNo>,
}

/// What a success makes, and what that was planned from.
pub struct Planned<'a> {
    pub workflow: &'a Workflow,
    /// The position of the decision or batchable.
    pub decider: usize,
    pub expansion: &'a Expansion,
    pub growth: &'a Growth,
    /// The numbers of the other deciders of the template, ascending.
    pub others: &'a [StepNo],
    /// Those of them that were done.
    pub seen: &'a [Decider],
}

impl Store {
    /// Those of a task's deciders that are done.
    pub async fn deciders(&self, task: TaskId, deciders: &[StepNo]) -> Result<Vec<Decider>, StoreError> {
        let deciders = deciders.to_vec();
        let rows = self.pool.run(Lane::Steps, Prepared::Once, sql!("deciders"), &[&task.uuid(), &deciders]).await?;
        Ok(rows.iter().map(|row| Decider { no: row.get(0), lease: row.get(1), created: row.get(2) }).collect())
    }

    /// Applies one success of a decision or batchable with this result, and makes its steps. The first change may be
    /// [`Change::Again`] or [`Change::TooMany`].
    pub async fn expand(
        &self,
        of: &Completion<'_>,
        result: &RawValue,
        planned: &Planned<'_>,
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let (task, growth): (Uuid, _) = (of.lease.step.task.uuid(), planned.text());
        let params: [Param<'_>; 13] = [
            &task,
            &of.lease.step.no,
            &of.lease.number,
            &of.attempt,
            &result.get(),
            &of.metadata.map(RawValue::get),
            &of.digest,
            &of.worker.as_str(),
            &of.duration_ms,
            &growth.as_str(),
            &settings.send_ms,
            &settings.bodies,
            &settings.input_bytes,
        ];
        self.changes(Lane::Steps, Prepared::Once, sql!("expand"), &params).await
    }
}

impl Planned<'_> {
    /// The argument `p_growth` of the function `grow`.
    pub fn text(&self) -> String {
        let made = self.growth.made.iter().map(|step| {
            let of = &self.workflow.steps[position(step.no)];
            MadeStep {
                no: step.no,
                name: &of.name,
                max_attempts: of.policy.max_attempts,
                parents: &step.parents,
                children: &step.children,
                further: &step.further_ancestors,
            }
        });
        let workers = self.growth.workers.as_ref().map(|workers| Workers {
            pattern: step_no(workers.pattern),
            each: self.expansion.workers.iter().map(|w| Worker { name: &w.name, inputs: &w.inputs }).collect(),
            max_attempts: self.workflow.steps[workers.pattern].policy.max_attempts,
            parents: &workers.parents,
            children: &workers.children,
            further: &workers.further_ancestors,
            places: self.expansion.parallelism,
        });
        let growth = GrowthText {
            others: self.others,
            seen: self.seen.iter().map(|decider| (decider.no, decider.lease)).collect(),
            touched: self.touched(),
            most: self.workflow.steps.len() + limits::MADE_STEPS,
            created: self.expansion.created.numbers(self.workflow, self.decider),
            made: made.collect(),
            edges: self.growth.edges.iter().map(|(no, parents)| Edge { no: *no, parents }).collect(),
            workers,
        };
        serde_json::to_string(&growth).expect("numbers, names and raw values serialize")
    }

    /// The existing steps that are read or changed: the decider, its children, the parents of what is made, and what gets further parents.
    fn touched(&self) -> Vec<StepNo> {
        let Growth { made, workers, edges } = self.growth;
        let is_made = |no: &StepNo| {
            made.binary_search_by_key(no, |step| step.no).is_ok()
                || workers.as_ref().is_some_and(|w| position(*no) == w.pattern && *no > step_no(w.pattern))
        };
        let mut touched: Vec<StepNo> = self.workflow.steps[self.decider].children.iter().map(|&child| step_no(child)).collect();
        touched.push(step_no(self.decider));
        touched.extend(edges.iter().map(|(no, _)| no));
        touched.extend(made.iter().flat_map(|step| &step.parents));
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|no| !is_made(no));
        touched
    }
}

fn position(no: StepNo) -> usize {
    (no / NUMBERS_PER_POSITION - 1) as usize
}

/// The JSON of [`Planned::text`].
#[derive(Serialize)]
struct GrowthText<'a> {
    others: &'a [StepNo],
    seen: Vec<(StepNo, i32)>,
    touched: Vec<StepNo>,
    most: usize,
    created: Vec<StepNo>,
    made: Vec<MadeStep<'a>>,
    edges: Vec<Edge<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<Workers<'a>>,
}

#[derive(Serialize)]
struct MadeStep<'a> {
    no: StepNo,
    name: &'a str,
    max_attempts: i32,
    parents: &'a [StepNo],
    children: &'a [StepNo],
    further: &'a [StepNo],
}

#[derive(Serialize)]
struct Edge<'a> {
    no: StepNo,
    parents: &'a [StepNo],
}

#[derive(Serialize)]
struct Workers<'a> {
    pattern: StepNo,
    each: Vec<Worker<'a>>,
    max_attempts: i32,
    parents: &'a [StepNo],
    children: &'a [StepNo],
    further: &'a [StepNo],
    places: Option<u32>,
}

#[derive(Serialize)]
struct Worker<'a> {
    name: &'a str,
    inputs: &'a RawValue,
}
