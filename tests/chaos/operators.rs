//! Operators act while faults are injected. The answer says whether an action was carried out; where it was lost, the audit log
//! says so.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use tasker_engine::{By, OperatorAction, OperatorError, Precondition};
use tasker_wire::{StepId, StepNo, StepState, TaskId};
use tokio_postgres::types::Type;

use crate::{
    driver::{Driver, Task},
    model::{Actions, Workflow},
    process::Called,
    rig::Rig,
};

/// The most actions of operators in one seed.
const CANCELS: usize = 2;
const RESOLVES: usize = 3;
const RETRIES: usize = 4;
const REDOS: usize = 2;
const PAUSES: usize = 3;

/// The failed steps of failed tasks.
pub const FAILED: &str = "t.state = 'error' and s.state = 'error' and not s.tolerated";
/// What may be done again, with all that comes after it.
const SETTLED: &str = "t.state in ('running', 'error', 'complete') \
    and s.state in ('complete', 'resolved_manually', 'error', 'waiting_for_retry')";
/// An operator may still change them.
const OPEN: &str = "t.state in ('running', 'error')";

/// A step on which an operator may act.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    pub id: StepId,
    pub place: usize,
    pub lease: i32,
}

impl Driver<'_> {
    /// Acts on a random task or step, or does nothing.
    pub async fn operate(&mut self) -> Result<()> {
        match self.chance.below(8) {
            0 if self.may_cancel() => self.cancel().await,
            1 if self.times("resolve_step") < RESOLVES => self.resolve().await,
            2 | 3 if self.times("retry_step") < RETRIES => self.retry_one().await,
            4 if self.times("redo_step") < REDOS => self.redo_one().await,
            5 if self.times("pause_task") < PAUSES => self.pause().await,
            6 | 7 => self.resume().await,
            _ => Ok(()),
        }
    }

    /// When nothing moves any more, operators retry or redo some steps, and reopen some cancelled tasks.
    pub async fn operators_try_again(&mut self) -> Result<()> {
        for choice in choices(self.rig, FAILED).await? {
            if !self.tasks[choice.place].tried_again && self.chance.permille(500) {
                self.tasks[choice.place].tried_again = true;
                self.retry(choice).await?;
            }
        }
        for choice in choices(self.rig, &format!("{SETTLED} and s.no % 16384 < 2")).await? {
            if !self.tasks[choice.place].tried_again && self.chance.permille(50) {
                self.tasks[choice.place].tried_again = true;
                self.redo(choice).await?;
            }
        }
        for choice in choices(self.rig, "t.state = 'cancelled' and s.state = 'cancelled'").await? {
            if !self.tasks[choice.place].tried_again && self.chance.permille(500) {
                self.tasks[choice.place].tried_again = true;
                self.reopen(choice).await?;
            }
        }
        Ok(())
    }

    pub fn may_cancel(&self) -> bool {
        self.times("cancel_task") < CANCELS
    }

    async fn cancel(&mut self) -> Result<()> {
        let Some(choice) = self.pick("t.state = 'running'").await? else { return Ok(()) };
        let mut after = self.tasks[choice.place].actions.clone();
        after.cancelled = true;
        self.act(choice, None, OperatorAction::CancelTask, after).await
    }

    async fn reopen(&mut self, choice: Choice) -> Result<()> {
        let mut after = self.tasks[choice.place].actions.clone();
        after.cancelled = false;
        for (no, row) in rows(self.rig, choice.id.task).await? {
            if row.state == StepState::Cancelled {
                after.begin_budget(no, row.lease);
            }
        }
        self.act(choice, None, OperatorAction::ReopenTask, after).await
    }

    async fn retry_one(&mut self) -> Result<()> {
        match self.pick(&format!("{OPEN} and s.state in ('error', 'waiting_for_retry')")).await? {
            Some(choice) => self.retry(choice).await,
            None => Ok(()),
        }
    }

    async fn retry(&mut self, choice: Choice) -> Result<()> {
        let mut after = self.tasks[choice.place].actions.clone();
        after.begin_budget(choice.id.no, choice.lease);
        self.act(choice, Some(choice.id), OperatorAction::RetryStep { inputs: None }, after).await
    }

    async fn redo_one(&mut self) -> Result<()> {
        match self.pick(SETTLED).await? {
            Some(choice) => self.redo(choice).await,
            None => Ok(()),
        }
    }

    async fn redo(&mut self, choice: Choice) -> Result<()> {
        let task = &self.tasks[choice.place];
        let after = redone(self.rig, (self.seed, choice.place), task, choice.id).await?;
        self.act(choice, Some(choice.id), OperatorAction::RedoStep { inputs: None }, after).await
    }

    async fn resolve(&mut self) -> Result<()> {
        let open =
            format!("{OPEN} and s.state in ('pending', 'enqueued', 'in_progress', 'waiting_for_retry', 'error', 'cancelled')");
        let Some(choice) = self.pick(&open).await? else { return Ok(()) };
        let text = self.chance.permille(700).then(|| format!("{{\"resolved\": {}}}", choice.id.no));
        let result = text.clone().map(|t| serde_json::value::RawValue::from_string(t).expect("it is JSON"));
        let mut after = self.tasks[choice.place].actions.clone();
        after.resolved.insert(choice.id.no, text);
        self.act(choice, Some(choice.id), OperatorAction::ResolveStep { result }, after).await
    }

    async fn pause(&mut self) -> Result<()> {
        let Some(choice) = self.pick("t.state = 'running' and t.paused_at is null").await? else { return Ok(()) };
        let after = self.tasks[choice.place].actions.clone();
        self.act(choice, None, OperatorAction::PauseTask, after).await
    }

    async fn resume(&mut self) -> Result<()> {
        let Some(choice) = self.pick("t.state = 'running' and t.paused_at is not null").await? else { return Ok(()) };
        let after = self.tasks[choice.place].actions.clone();
        self.act(choice, None, OperatorAction::ResumeTask, after).await
    }

    /// Carries out an action on a task, or on a step of it. `after`: the task's actions, if it is carried out.
    async fn act(&mut self, choice: Choice, step: Option<StepId>, action: OperatorAction, after: Actions) -> Result<()> {
        let (verb, task) = (action.verb(), choice.id.task);
        let no = step.map(|step| step.no);
        let before = audited(self.rig, task, no, verb).await?;
        // Its message may be delivered before the call returns.
        let without = std::mem::replace(&mut self.tasks[choice.place].actions, after);
        let operate = |engine: std::sync::Arc<tasker_engine::Engine<_>>| async move {
            engine.operate((task, step), action, by(), Precondition::default()).await
        };
        let carried_out = match self.call("operate_v1", operate).await? {
            Called::Lost => audited(self.rig, task, no, verb).await? > before,
            Called::Answered(answer) => done(answer)?,
        };
        match carried_out {
            true => self.tasks[choice.place].actions.count(verb),
            false => self.tasks[choice.place].actions = without,
        }
        Ok(())
    }

    fn times(&self, action: &str) -> usize {
        self.tasks.iter().map(|task| task.actions.times(action)).sum()
    }

    async fn pick(&mut self, which: &str) -> Result<Option<Choice>> {
        let mut choices = choices(self.rig, which).await?;
        // Operators do not know a task whose submit was not answered yet.
        choices.retain(|choice| self.tasks[choice.place].id.is_some());
        let n = self.chance.below(choices.len());
        Ok((!choices.is_empty()).then(|| choices.swap_remove(n)))
    }
}

/// The steps for which a condition holds, in the order of the seed.
pub async fn choices(rig: &Rig, which: &str) -> Result<Vec<Choice>> {
    let sql = format!(
        "select t.task_id, s.no, s.lease, (t.context->>'place')::int8 as place from tasker.tasks t join tasker.steps s \
         using (task_id) where {which} order by place, s.no"
    );
    let rows = rig.sql.query_typed(&sql, &[]).await?;
    let choice = |row: &tokio_postgres::Row| {
        let id = TaskId::from_uuid(row.get(0)).expect("a task of the seed").step(row.get(1));
        Choice { id, place: row.get::<_, i64>(3) as usize, lease: row.get(2) }
    };
    Ok(rows.iter().map(choice).collect())
}

struct Row {
    state: StepState,
    lease: i32,
}

async fn rows(rig: &Rig, task: TaskId) -> Result<BTreeMap<StepNo, Row>> {
    let sql = "select no, state, lease from tasker.steps where task_id = $1";
    let rows = rig.sql.query_typed(sql, &[(&task.uuid(), Type::UUID)]).await?;
    let row = |row: &tokio_postgres::Row| {
        let state = StepState::parse(row.get(1)).expect("a state of a step");
        (row.get(0), Row { state, lease: row.get(2) })
    };
    Ok(rows.iter().map(row).collect())
}

/// The actions on a task after a step of it and everything after that step began anew.
async fn redone(rig: &Rig, of: (u64, usize), task: &Task, from: StepId) -> Result<Actions> {
    let Task { workflow, actions, .. } = task;
    let rows = rows(rig, from.task).await?;
    let mut after = actions.clone();
    for no in reached(workflow, of, actions, &rows, from.no) {
        after.begin_budget(no, rows[&no].lease);
        after.resolved.remove(&no);
    }
    Ok(after)
}

/// A step and all that come after it.
fn reached(
    workflow: &Workflow,
    of: (u64, usize),
    actions: &Actions,
    rows: &BTreeMap<StepNo, Row>,
    from: StepNo,
) -> BTreeSet<StepNo> {
    let mut reached = BTreeSet::from([from]);
    for step in workflow.graph(of, actions, |no| Some(rows.get(&no)?.state)) {
        if step.parents.iter().any(|parent| reached.contains(parent)) {
            reached.insert(step.no);
        }
    }
    reached
}

/// How often the audit log has an action of an operator.
pub async fn audited(rig: &Rig, task: TaskId, no: Option<i32>, action: &str) -> Result<i64> {
    let sql = "select count(*) from tasker.audit_log where task_id = $1 and no is not distinct from $2 and action = $3";
    let params = [(&task.uuid() as _, Type::UUID), (&no as _, Type::INT4), (&action as _, Type::TEXT)];
    Ok(rig.sql.query_typed(sql, &params).await?[0].get(0))
}

/// Whether it was carried out. False: it came too late.
pub fn done<T>(answer: Result<T, OperatorError>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(OperatorError::Conflict { .. }) => Ok(false),
        Err(e) => bail!("an operator's action: {e}"),
    }
}

pub fn by() -> By {
    By { actor: "operator".into(), reason: "a seed said so".into(), metadata: None }
}
