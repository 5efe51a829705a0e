//! Checks the history of a seed against its model and against the rules of every history: only legal transitions, one applied
//! outcome per attempt and lease, parents before children, and children that saw the results of their ancestors.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tasker_wire::{StepState, TaskId, TaskState};
use uuid::Uuid;

use crate::{
    driver::Task,
    hash::digest,
    model::{self, Step, Workflow, step_name},
    rig::Rig,
    workers::step_of,
};

/// A step, with every outcome that was recorded of it.
#[derive(Debug, Deserialize)]
struct Past {
    task_id: Uuid,
    no: i32,
    name: String,
    state: StepState,
    lease: i32,
    attempt: i32,
    max_attempts: i32,
    finished_us: Option<i64>,
    result: Option<String>,
    answers: Vec<Answered>,
}

/// The steps of a task that exist, by their positions.
type Steps = BTreeMap<usize, Past>;

#[derive(Debug, Deserialize)]
struct Answered {
    lease: i32,
    attempt: i32,
    outcome: String,
    applied: bool,
    dispatched_us: Option<i64>,
    worker: String,
}

#[derive(Debug, Deserialize)]
struct Audited {
    task_id: Uuid,
    no: Option<i32>,
    action: String,
    from_state: Option<String>,
    to_state: String,
}

/// The result of a scripted worker.
#[derive(Debug, Deserialize)]
struct Told {
    lease: i32,
    attempt: i32,
    saw: BTreeMap<String, u64>,
}

const STEPS: &str = "
    select s.task_id, s.no, s.name, s.state, s.lease, s.attempt, s.max_attempts, s.result::text as result,
      (extract(epoch from s.finished_at) * 1000000)::int8 as finished_us,
      coalesce((select json_agg(json_build_object('lease', a.lease, 'attempt', a.attempt, 'outcome', a.outcome, 'applied', a.applied,
          'worker', a.worker, 'dispatched_us', (extract(epoch from a.dispatched_at) * 1000000)::int8) order by a.lease)
        from tasker.outcomes a where a.task_id = s.task_id and a.no = s.no), '[]') as answers
    from tasker.steps s order by s.task_id, s.no";
const AUDIT: &str = "select task_id, no, action, from_state, to_state from tasker.audit_log order by task_id, created_at";

/// Checks a seed that has ended. `accepted`: the dispatches whose outcome was applied, by the answers of completers.
/// `still`: the clock stood still in every transaction, so that times show the order.
pub async fn check(rig: &Rig, seed: u64, tasks: &[Task], accepted: &HashSet<(TaskId, i32, i32)>, still: bool) -> Result<()> {
    let mut steps: HashMap<Uuid, Vec<Past>> = HashMap::new();
    for past in rows::<Past>(rig, STEPS).await? {
        steps.entry(past.task_id).or_default().push(past);
    }
    let mut audit: HashMap<Uuid, Vec<Audited>> = HashMap::new();
    for audited in rows::<Audited>(rig, AUDIT).await? {
        audit.entry(audited.task_id).or_default().push(audited);
    }
    let states: Vec<Value> = rows(rig, "select task_id, state from tasker.tasks").await?;
    ensure!(states.len() == tasks.len(), "{} tasks became {}", tasks.len(), states.len());
    for (place, task) in tasks.iter().enumerate() {
        let id = task.id.context("a task was never created")?;
        let state = states.iter().find(|s| s["task_id"] == id.to_string()).context("a task is gone")?;
        let state = TaskState::parse(state["state"].as_str().unwrap_or_default()).context("an unknown state")?;
        let rows = steps.remove(&id.uuid()).unwrap_or_default();
        let past: Steps = rows.into_iter().map(|step| (step_of(&step.name), step)).collect();
        let audit = audit.remove(&id.uuid()).unwrap_or_default();
        task_as_the_model_says(seed, place, task, state, &past)
            .and_then(|()| past.values().try_for_each(|step| legal(task, step, &past, accepted, id, still)))
            .and_then(|()| audited(task, state, &audit))
            .with_context(|| {
                let lines: String = past.values().map(|step| format!("{step:?}\n")).collect();
                format!("task {place} ({id}), {state}, {:?}, {audit:?}:\n{lines}", task.actions)
            })?;
    }
    Ok(())
}

/// A digest of all rows, to see whether they changed.
pub async fn fingerprint(rig: &Rig) -> Result<String> {
    let sql = "select coalesce((select md5(string_agg(s::text, ';' order by s.task_id, s.no)) from tasker.steps s), '')
                 || coalesce((select md5(string_agg(t::text, ';' order by t.task_id)) from tasker.tasks t), '')
                 || (select count(*) from tasker.audit_log)";
    Ok(rig.sql.query_typed(sql, &[]).await?[0].get(0))
}

/// All rows of a seed, line by line, without what differs from run to run: ids, and the jitter that depends on them.
pub async fn written(rig: &Rig) -> Result<Vec<String>> {
    let sql = "
        with places as (select t.task_id, (t.context->>'place')::int as place from tasker.tasks t)
        select concat_ws(' ', x.place, x.kind, x.at, x.no, x.line) as line from (
          select p.place, 'attempt' as kind, null::timestamptz as at, a.no, concat_ws(' ', a.lease, a.attempt, a.outcome, a.applied, a.digest,
            a.error, a.metadata, a.worker, a.duration_ms, a.dispatched_at, a.finished_at) as line
          from tasker.outcomes a join places p using (task_id)
          union all
          select p.place, 'audit', a.created_at, a.no, concat_ws(' ', a.action, a.actor, a.from_state, a.to_state)
          from tasker.audit_log a join places p using (task_id)
          union all
          select p.place, 'step', null, s.no, concat_ws(' ', s.state, s.lease, s.attempt, s.resends, s.losses, s.pending_parents,
            s.dispatched_at, s.finished_at, s.result)
          from tasker.steps s join places p using (task_id)) x
        order by x.place, x.kind, x.at, x.no, x.line";
    let rows = rig.sql.query_typed(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The tasks that did not finish.
pub async fn dump(rig: &Rig) -> Result<String> {
    let sql = "select t.context->>'place' as place, t.state as task, t.active_steps, t.failed_steps, s.name, s.state, s.lease, s.attempt,
        s.pending_parents, s.resends, s.losses, s.wake_at::text
      from tasker.tasks t join tasker.steps s using (task_id) where t.state = 'running' order by t.task_id, s.no";
    let rows: Vec<Value> = rows(rig, sql).await?;
    Ok(rows.iter().map(|r| format!("{r}\n")).collect())
}

async fn rows<T: for<'de> Deserialize<'de>>(rig: &Rig, sql: &str) -> Result<Vec<T>> {
    let sql = format!("select to_json(x)::text from ({sql}) x");
    let rows = rig.sql.query_typed(&sql, &[]).await?;
    rows.iter().map(|r| Ok(serde_json::from_str(r.get(0))?)).collect()
}

fn task_as_the_model_says(seed: u64, place: usize, task: &Task, state: TaskState, past: &Steps) -> Result<()> {
    let ends = model::step_ends(seed, place, &task.workflow, &task.actions);
    let expected = model::task_end(&ends, &task.actions);
    ensure!(state == expected, "the model says {expected}");
    for (no, end) in ends.iter().enumerate() {
        let exists = task.workflow.exists((seed, place), no, |parent| Some(past.get(&parent)?.state));
        ensure!(past.contains_key(&no) == exists, "{} exists: {}", step_name(no), !exists);
        ensure!(exists == end.is_some() || task.actions.cancelled && !exists, "{} exists: {exists}", step_name(no));
        let (Some(step), Some(end)) = (past.get(&no), end) else { continue };
        let cut_short = task.actions.cancelled && step.state == StepState::Cancelled;
        ensure!(cut_short || step.state == end.state, "{} is {}; the model says {}", step.name, step.state, end.state);
        let attempt = end.attempt.filter(|_| !cut_short);
        ensure!(
            attempt.is_none_or(|a| a == step.attempt),
            "{} is in attempt {}; the model says {attempt:?}",
            step.name,
            step.attempt
        );
    }
    Ok(())
}

fn legal(task: &Task, step: &Past, past: &Steps, accepted: &HashSet<(TaskId, i32, i32)>, id: TaskId, still: bool) -> Result<()> {
    let name = &step.name;
    let planned = &task.workflow.steps[step_of(name)];
    ensure!(
        step.attempt <= step.max_attempts && step.lease >= step.attempt,
        "{name}: attempt {} under lease {}",
        step.attempt,
        step.lease
    );
    let applied: Vec<&Answered> = step.answers.iter().filter(|a| a.applied).collect();
    let leases: HashSet<i32> = step.answers.iter().map(|a| a.lease).collect();
    ensure!(leases.len() == step.answers.len(), "{name}: two outcomes under one lease: {:?}", step.answers);
    ensure!(step.answers.iter().all(|a| a.lease <= step.lease), "{name}: an outcome under a lease that was never given");
    ensure!(applied.iter().all(|a| a.worker == "scripted"), "{name}: a lost worker used up an attempt");
    for &(_, _, lease) in accepted.iter().filter(|(task, no, _)| (*task, *no) == (id, step.no)) {
        ensure!(
            applied.iter().any(|a| a.lease == lease),
            "{name}: an outcome was accepted under lease {lease} and no row says so"
        );
    }
    tries(task, step, &applied)?;
    ending(task, step, &applied)?;
    if let Some(first) = applied.first() {
        parents_before(planned, step, first, past, still)?;
    }
    if let (StepState::Complete, Some(last)) = (step.state, applied.last()) {
        results_seen(&task.workflow, step, last, past)?;
    }
    Ok(())
}

/// The order of attempts: after a failure the next one, after a checkpoint or a release the same one, after an operator's retry
/// the first.
fn tries(task: &Task, step: &Past, applied: &[&Answered]) -> Result<()> {
    let place = step_of(&step.name);
    let mut before: Option<&Answered> = None;
    for now in applied {
        let budget = |a: &Answered| task.actions.budget(place, a.lease);
        let expected = match before {
            Some(b) if budget(b) == budget(now) => match b.outcome.as_str() {
                "failure" => b.attempt + 1,
                "success" => bail!("{}: an outcome was applied after its success", step.name),
                _ => b.attempt,
            },
            _ => 1,
        };
        ensure!(now.attempt == expected, "{}: attempt {} under lease {}, expected {expected}", step.name, now.attempt, now.lease);
        before = Some(now);
    }
    Ok(())
}

/// The last applied outcome agrees with the state of the step.
fn ending(task: &Task, step: &Past, applied: &[&Answered]) -> Result<()> {
    let name = &step.name;
    let last = applied.last();
    match step.state {
        StepState::Complete | StepState::Error => {
            let last = last.with_context(|| format!("{name} is {} and has no outcome", step.state))?;
            let word = if step.state == StepState::Complete { "success" } else { "failure" };
            ensure!(
                last.outcome == word && last.lease == step.lease,
                "{name} is {}, and the last outcome is {last:?}",
                step.state
            );
        }
        _ => ensure!(applied.iter().all(|a| a.outcome != "success"), "{name} is {} after a success", step.state),
    }
    if step.state != StepState::Complete {
        let given = task.actions.resolved.get(&step_of(name)).cloned().flatten();
        ensure!(step.result == given, "{name} is {} with the result {:?}", step.state, step.result);
    }
    Ok(())
}

fn parents_before(planned: &Step, step: &Past, first: &Answered, past: &Steps, still: bool) -> Result<()> {
    let began = first.dispatched_us.with_context(|| format!("{} has an outcome and was never dispatched", step.name))?;
    for parent in &planned.parents {
        let parent = &past[parent];
        let done = matches!(parent.state, StepState::Complete | StepState::ResolvedManually);
        let before = parent.finished_us.is_some_and(|ended| ended <= began || !still);
        ensure!(done && before, "{} began before {} was done", step.name, parent.name);
    }
    Ok(())
}

/// The result came under the current lease, and its handler saw the results of all ancestors and no others.
fn results_seen(workflow: &Workflow, step: &Past, last: &Answered, past: &Steps) -> Result<()> {
    let text = step.result.as_deref().unwrap_or_default();
    let told: Told = serde_json::from_str(text).with_context(|| format!("{} has the result {text}", step.name))?;
    ensure!((told.lease, told.attempt) == (step.lease, step.attempt), "{}: the result of another dispatch: {told:?}", step.name);
    let no = step_of(&step.name);
    let expected: BTreeSet<String> = workflow.ancestors(no).into_iter().map(step_name).collect();
    let saw: BTreeSet<String> = told.saw.keys().cloned().collect();
    ensure!(saw == expected, "{} saw the results of {saw:?} instead of {expected:?}", step.name);
    for (name, seen) in &told.saw {
        let seen_of = &past[&step_of(name)];
        let result = seen_of.result.as_deref().unwrap_or("null");
        // A further ancestor may not be done yet, if an operator resolved the step between them. Then it ended no earlier than
        // this step began.
        let further = !workflow.steps[no].parents.contains(&step_of(name));
        let later = seen_of.finished_us.is_none_or(|ended| last.dispatched_us.is_some_and(|began| began <= ended));
        let early = *seen == digest("null") && further && later;
        ensure!(early || digest(result) == *seen, "{} saw another result of {name} than {result}", step.name);
    }
    Ok(())
}

/// The transitions of the task are legal, and the audit log has each operator's action once.
fn audited(task: &Task, state: TaskState, audit: &[Audited]) -> Result<()> {
    let finished = |to: &str| audit.iter().filter(|a| a.action == "finish" && a.to_state == to).count();
    let (complete, error) = (finished("complete"), finished("error"));
    let count = |action: &str| audit.iter().filter(|a| a.action == action).count();
    let (cancels, retries, resolves) = (count("cancel_task"), count("retry_step"), count("resolve_step"));
    ensure!(cancels == usize::from(task.actions.cancelled), "cancelled {cancels} times");
    let retried: usize = task.actions.retried.values().map(Vec::len).sum();
    ensure!(retries == retried && resolves == task.actions.resolved.len(), "{retries} retries and {resolves} resolved steps");
    ensure!(complete == usize::from(state == TaskState::Complete), "completed {complete} times and is {state}");
    ensure!(state != TaskState::Error || error >= 1, "it failed and the audit log does not say so");
    ensure!(error <= 1 + retries + resolves, "it failed {error} times");
    for a in audit.iter().filter(|a| a.action == "finish") {
        let from = a.from_state.as_deref();
        let legal = from == Some("running") || (from == Some("error") && a.to_state == "complete" && resolves > 0);
        ensure!(legal && a.no.is_none(), "an illegal end: {a:?}");
    }
    Ok(())
}
