//! What the message of a dispatch says, by the rows of its task.

use std::collections::BTreeMap;

use serde_json::{Value, json, value::RawValue};
use tasker_queue::Queue;
use tasker_wire::{RunStep, StepNo, TaskId};

use crate::rig::Rig;

/// The messages of the steps that run, by the rows as they are: each has the results of all parents and of the further ancestors that
/// exist, and the failures of those among them that are tolerated.
pub async fn by_rows<Q: Queue>(rig: &Rig<Q>, tasks: &[TaskId]) -> BTreeMap<(TaskId, StepNo), Value> {
    let sql =
        "select s.task_id, s.no, json_build_object('name', s.name, 'lease', s.lease, 'attempt', s.attempt, 'inputs', s.inputs,
            'checkpoint', s.checkpoint, 'failure', case when s.attempt > 1 then s.error->'message' end,
            'results', coalesce(a.results, '{}'), 'errors', coalesce(a.errors, '{}'))
        from tasker.steps s, lateral (
            select json_object_agg(p.name, p.result) as results,
                json_object_agg(p.name, p.error->'message') filter (where p.tolerated) as errors
            from tasker.steps p where p.task_id = s.task_id and p.no = any (s.parents || s.further_ancestors)) a
        where s.task_id = any ($1) and s.state in ('enqueued', 'in_progress')";
    let tasks: Vec<uuid::Uuid> = tasks.iter().map(|task| task.uuid()).collect();
    let rows = rig.sql.query(sql, &[&tasks]).await.unwrap();
    rows.iter().map(|row| ((TaskId::from_fresh(row.get(0)), row.get(1)), row.get(2))).collect()
}

/// What a message says.
pub fn said(run: &RunStep) -> Value {
    let json = |text: &RawValue| serde_json::from_str::<Value>(text.get()).unwrap();
    let each = |texts: &BTreeMap<String, Box<RawValue>>| -> BTreeMap<String, Value> {
        texts.iter().map(|(name, text)| (name.clone(), json(text))).collect()
    };
    let one = |text: &Option<Box<RawValue>>| text.as_deref().map(json);
    let errors: BTreeMap<String, Value> =
        each(&run.dependency_errors).into_iter().map(|(name, error)| (name, error["message"].clone())).collect();
    json!({"name": run.step_name, "lease": run.lease, "attempt": run.attempt, "inputs": one(&run.step_inputs),
        "checkpoint": one(&run.checkpoint), "failure": one(&run.last_failure).map(|failure| failure["message"].clone()),
        "results": each(&run.dependency_results), "errors": errors})
}
