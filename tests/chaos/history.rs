//! Checks the history of a seed against its model and against the rules of every history: only legal transitions, one applied
//! outcome per attempt and lease, parents before children, and children that saw the results of their ancestors.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tasker_domain::{GraphStep, template::FailureStrategy};
use tasker_wire::{StepNo, StepState, TaskId, TaskState};
use uuid::Uuid;

use crate::{
    driver::Task,
    hash::digest,
    model::{self, Actions, End, Growth},
    rig::Rig,
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
    tolerated: bool,
    finished_us: Option<i64>,
    result: Option<String>,
    answers: Vec<Answered>,
}

/// The steps of a task that exist.
type Steps = BTreeMap<StepNo, Past>;

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
    select s.task_id, s.no, s.name, s.state, s.lease, s.attempt, s.max_attempts, s.tolerated, s.result::text as result,
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
        let past: Steps = rows.into_iter().map(|step| (step.no, step)).collect();
        let graph = task.workflow.graph((seed, place), &task.actions, |no| Some(past.get(&no)?.state));
        let audit = audit.remove(&id.uuid()).unwrap_or_default();
        task_as_the_model_says(seed, place, task, state, &past)
            .and_then(|()| as_the_graph_says(&graph, &past))
            .and_then(|()| graph.iter().try_for_each(|step| legal((seed, place), task, step, &graph, &past, accepted, id, still)))
            .and_then(|()| audited(&task.actions, state, &audit))
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
    let ends = model::step_ends((seed, place), &task.workflow, &task.actions);
    let expected = model::task_end(&ends, &task.actions);
    ensure!(state == expected, "the model says {expected}");
    let is_cancelled = task.actions.cancelled;
    ensure!(is_cancelled || past.keys().eq(ends.keys()), "the model says that {:?} exist", ends.keys());
    for (no, step) in past {
        let end = ends.get(no).with_context(|| format!("{} exists", step.name))?;
        let is_short = is_cancelled && step.state == StepState::Cancelled
            || end.cut_short && matches!(step.state, StepState::Cancelled | StepState::Pending);
        ensure!(is_short || step.state == end.state, "{} is {}; the model says {}", step.name, step.state, end.state);
        ensure!(is_short || step.tolerated == end.tolerated, "{} is tolerated: {}", step.name, step.tolerated);
        let attempt = end.attempt.filter(|_| !is_short);
        ensure!(
            attempt.is_none_or(|a| a == step.attempt),
            "{} is in attempt {}; the model says {attempt:?}",
            step.name,
            step.attempt
        );
        let of_batch = || past.values().filter(|other| model::pattern(other.no) == model::pattern(*no));
        let somebody_failed = is_cancelled || !end.cut_short || of_batch().any(|other| other.state == StepState::Error);
        ensure!(somebody_failed, "nobody failed in the batch of {}", step.name);
    }
    Ok(())
}

/// The steps are those that the deciders made.
fn as_the_graph_says(graph: &[GraphStep], past: &Steps) -> Result<()> {
    let numbers = graph.iter().map(|step| step.no);
    ensure!(numbers.clone().eq(past.keys().copied()), "by what was decided {:?} exist", numbers.collect::<Vec<_>>());
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "everything that is known of a step")]
fn legal(
    of: (u64, usize),
    task: &Task,
    planned: &GraphStep,
    graph: &[GraphStep],
    past: &Steps,
    accepted: &HashSet<(TaskId, i32, i32)>,
    id: TaskId,
    still: bool,
) -> Result<()> {
    let step = &past[&planned.no];
    let name = &step.name;
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
    let of_budget = |a: &&&Answered| task.actions.budget(step.no, a.lease) == task.actions.last_budget(step.no);
    if let Some(first) = applied.iter().find(of_budget) {
        parents_before(of, task, planned, first, past, still)?;
    }
    if let (StepState::Complete, Some(last)) = (step.state, applied.last()) {
        results_seen(of, task, graph, step, last, past)?;
    }
    Ok(())
}

/// The order of attempts: after a failure the next one, after a checkpoint or a release the same one, with a new budget the first.
/// A worker whose batch had ended, and goes on, has a new budget that only the rows know of.
fn tries(task: &Task, step: &Past, applied: &[&Answered]) -> Result<()> {
    let mut before: Option<&Answered> = None;
    for now in applied {
        let budget = |a: &Answered| task.actions.budget(step.no, a.lease);
        let expected = match before {
            Some(b) if budget(b) == budget(now) => match b.outcome.as_str() {
                "failure" => b.attempt + 1,
                "success" => bail!("{}: an outcome was applied after its success", step.name),
                _ => b.attempt,
            },
            _ => 1,
        };
        let goes_on = now.attempt == 1 && task.workflow.strategy(step.no) == Some(FailureStrategy::FailFast);
        ensure!(
            now.attempt == expected || goes_on,
            "{}: attempt {} under lease {}, expected {expected}",
            step.name,
            now.attempt,
            now.lease
        );
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
        _ => {
            let mut last = applied.iter().filter(|a| task.actions.budget(step.no, a.lease) == task.actions.last_budget(step.no));
            ensure!(last.all(|a| a.outcome != "success"), "{name} is {} after a success", step.state);
        }
    }
    if step.state != StepState::Complete {
        let given = task.actions.resolved.get(&step.no).cloned().flatten();
        ensure!(step.result == given, "{name} is {} with the result {:?}", step.state, step.result);
    }
    Ok(())
}

fn parents_before(of: (u64, usize), task: &Task, planned: &GraphStep, first: &Answered, past: &Steps, still: bool) -> Result<()> {
    let name = &past[&planned.no].name;
    let began = first.dispatched_us.with_context(|| format!("{name} has an outcome and was never dispatched"))?;
    for parent in &planned.parents {
        let parent = &past[parent];
        let done = matches!(parent.state, StepState::Complete | StepState::ResolvedManually) || parent.tolerated;
        let before = parent.finished_us.is_some_and(|ended| ended <= began || !still);
        ensure!(
            done && (before || resolved_after_it_was_tolerated(of, task, parent)),
            "{name} began before {} was done",
            parent.name
        );
    }
    Ok(())
}

/// An operator resolved a worker whose failure let its batch go on. Steps after it may have begun before.
fn resolved_after_it_was_tolerated((seed, place): (u64, usize), task: &Task, step: &Past) -> bool {
    let strategy = task.workflow.strategy(step.no);
    let last = step.answers.iter().rfind(|a| a.applied && matches!(a.outcome.as_str(), "success" | "failure"));
    let failed = last.is_some_and(|a| {
        let end = model::end(seed, place, step.no, task.actions.budget(step.no, a.lease), a.attempt);
        end == End::Permanent || end == End::Failure && a.attempt == step.max_attempts
    });
    step.state == StepState::ResolvedManually && strategy == Some(FailureStrategy::ContinueOnFailure) && failed
}

/// The result came under the current lease, and its handler saw the results of all ancestors and no others.
fn results_seen(of: (u64, usize), task: &Task, graph: &[GraphStep], step: &Past, last: &Answered, past: &Steps) -> Result<()> {
    let text = step.result.as_deref().unwrap_or_default();
    let told: Told = serde_json::from_str(text).with_context(|| format!("{} has the result {text}", step.name))?;
    ensure!((told.lease, told.attempt) == (step.lease, step.attempt), "{}: the result of another dispatch: {told:?}", step.name);
    let saw: BTreeSet<&str> = told.saw.keys().map(String::as_str).collect();
    let (parents, ancestors) = ancestors(graph, step.no);
    let names = |steps: &BTreeSet<StepNo>| steps.iter().map(|no| past[no].name.as_str()).collect::<BTreeSet<&str>>();
    let (parents, ancestors) = (names(&parents), names(&ancestors));
    // Of the ancestors beyond the parents, those that come late need not be in the message, and one may be in it that is an ancestor
    // only by the template. Where only decisions make steps, all are.
    let by_template = task.workflow.ancestors(step.no);
    let may_see =
        |name: &&str| past.values().any(|other| other.name == **name && by_template.contains(&model::pattern(other.no)));
    let is_right = match task.workflow.growth() {
        Growth::All => saw.iter().all(may_see) && parents.is_subset(&saw),
        Growth::Never | Growth::Decisions => saw == ancestors,
    };
    ensure!(is_right, "{} saw the results of {saw:?} instead of {ancestors:?}", step.name);
    for (name, seen) in &told.saw {
        let seen_of = past.values().find(|other| other.name == *name).context("a result of a step that does not exist")?;
        let result = seen_of.result.as_deref().unwrap_or("null");
        // A further ancestor may not be done yet, if an operator resolved the step between them. Then it ended no earlier than
        // this step began.
        let further = !parents.contains(name.as_str());
        let later = seen_of.finished_us.is_none_or(|ended| last.dispatched_us.is_some_and(|began| began <= ended));
        let early = *seen == digest("null") && later && (further || resolved_after_it_was_tolerated(of, task, seen_of));
        ensure!(early || digest(result) == *seen, "{} saw another result of {name} than {result}", step.name);
    }
    Ok(())
}

/// The parents of a step, and all its ancestors.
fn ancestors(graph: &[GraphStep], no: StepNo) -> (BTreeSet<StepNo>, BTreeSet<StepNo>) {
    let parents_of = |no| graph.iter().filter(move |step| step.no == no).flat_map(|step| step.parents.iter().copied());
    let parents: BTreeSet<StepNo> = parents_of(no).collect();
    let mut ancestors = parents.clone();
    // Parents come before their children, so a backward pass finds every ancestor.
    for step in graph.iter().rev() {
        if ancestors.contains(&step.no) {
            ancestors.extend(&step.parents);
        }
    }
    (parents, ancestors)
}

/// The transitions of the task are legal, and the audit log has each operator's action once.
fn audited(Actions { done, .. }: &Actions, state: TaskState, audit: &[Audited]) -> Result<()> {
    let finished = |to: &str| audit.iter().filter(|a| a.action == "finish" && a.to_state == to).count();
    let (complete, error) = (finished("complete"), finished("error"));
    for (verb, times) in done {
        let logged = audit.iter().filter(|a| a.action == *verb).count();
        ensure!(logged == *times, "{logged} times {verb} instead of {times}");
    }
    let known = |a: &Audited| done.contains_key(a.action.as_str()) || matches!(a.action.as_str(), "finish" | "reopen");
    ensure!(audit.iter().all(known), "an action of nobody");
    let times = |verb| done.get(verb).copied().unwrap_or_default();
    let (again, resolves) = (times("retry_step") + times("redo_step") + times("reopen_task"), times("resolve_step"));
    let is_complete = usize::from(state == TaskState::Complete);
    ensure!((is_complete..=is_complete + times("redo_step")).contains(&complete), "completed {complete} times and is {state}");
    ensure!(state != TaskState::Error || error >= 1, "it failed and the audit log does not say so");
    ensure!(error <= 1 + again + resolves, "it failed {error} times");
    for a in audit.iter().filter(|a| a.action == "finish") {
        let from = a.from_state.as_deref();
        let legal = from == Some("running") || (from == Some("error") && a.to_state == "complete" && resolves > 0);
        ensure!(legal && a.no.is_none(), "an illegal end: {a:?}");
    }
    Ok(())
}
