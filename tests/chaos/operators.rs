//! Operators act while faults are injected. The answer says whether an action was carried out; where it was lost, the audit log
//! says so.

use anyhow::{Result, bail};
use tasker_engine::{By, OperatorError};
use tasker_wire::{StepId, TaskId};
use tokio_postgres::types::Type;

use crate::{
    driver::{Driver, Task},
    process::Called,
    rig::Rig,
    workers::step_of,
};

/// The most actions of operators in one seed.
const CANCELS: usize = 2;
const RESOLVES: usize = 3;
const RETRIES: usize = 4;

/// The failed steps of failed tasks.
pub const FAILED: &str = "t.state = 'error' and s.state = 'error'";

/// A step on which an operator may act.
pub struct Choice {
    pub id: StepId,
    pub place: usize,
    pub no: usize,
    pub lease: i32,
}

impl Driver<'_> {
    /// Acts on a random task or step, or does nothing.
    pub async fn operate(&mut self) -> Result<()> {
        match self.chance.below(4) {
            0 if self.may_cancel() => self.cancel().await,
            1 if self.count(|t| t.actions.resolved.len()) < RESOLVES => self.resolve().await,
            2 | 3 if self.count(|t| t.actions.retried.len()) < RETRIES => {
                let Some(choice) = self.pick("s.state in ('error', 'waiting_for_retry')").await? else { return Ok(()) };
                self.retry(choice).await
            }
            _ => Ok(()),
        }
    }

    /// When nothing moves any more, operators retry some failed steps.
    pub async fn operators_try_again(&mut self) -> Result<()> {
        for choice in choices(self.rig, FAILED).await? {
            if !self.tasks[choice.place].tried_again && self.chance.permille(500) {
                self.tasks[choice.place].tried_again = true;
                self.retry(choice).await?;
            }
        }
        Ok(())
    }

    pub fn may_cancel(&self) -> bool {
        self.count(|t| usize::from(t.actions.cancelled)) < CANCELS
    }

    async fn cancel(&mut self) -> Result<()> {
        let Some(Choice { id, place, .. }) = self.pick("t.state = 'running'").await? else { return Ok(()) };
        let called = self.call("operate_v1", |engine| async move { engine.cancel_task(id.task, by()).await }).await?;
        self.tasks[place].actions.cancelled = match called {
            Called::Lost => audited(self.rig, id.task, None, "cancel_task").await? > 0,
            Called::Answered(answer) => done(answer)?,
        };
        Ok(())
    }

    async fn retry(&mut self, Choice { id, place, no, lease }: Choice) -> Result<()> {
        let before = audited(self.rig, id.task, Some(id.no), "retry_step").await?;
        // Its message may be delivered before the call returns.
        self.tasks[place].actions.retried.entry(no).or_default().push(lease + 1);
        let called = self.call("operate_v1", |engine| async move { engine.retry_step(id, by()).await }).await?;
        let carried_out = match called {
            Called::Lost => audited(self.rig, id.task, Some(id.no), "retry_step").await? > before,
            Called::Answered(answer) => done(answer)?,
        };
        let leases = self.tasks[place].actions.retried.entry(no).or_default();
        if !carried_out {
            leases.pop();
        }
        if leases.is_empty() {
            self.tasks[place].actions.retried.remove(&no);
        }
        Ok(())
    }

    async fn resolve(&mut self) -> Result<()> {
        let open = "s.state in ('pending', 'enqueued', 'in_progress', 'waiting_for_retry', 'error')";
        let Some(Choice { id, place, no, .. }) = self.pick(open).await? else { return Ok(()) };
        let text = self.chance.permille(700).then(|| format!("{{\"resolved\": {no}}}"));
        let result = text.clone().map(|t| serde_json::value::RawValue::from_string(t).expect("it is JSON"));
        let called = self.call("operate_v1", |engine| async move { engine.resolve_step(id, result, by()).await }).await?;
        let carried_out = match called {
            Called::Lost => audited(self.rig, id.task, Some(id.no), "resolve_step").await? > 0,
            Called::Answered(answer) => done(answer)?,
        };
        if carried_out {
            self.tasks[place].actions.resolved.insert(no, text);
        }
        Ok(())
    }

    fn count(&self, of: impl Fn(&Task) -> usize) -> usize {
        self.tasks.iter().map(of).sum()
    }

    async fn pick(&mut self, which: &str) -> Result<Option<Choice>> {
        let mut choices = choices(self.rig, which).await?;
        // Operators do not know a task whose submit was not answered yet.
        choices.retain(|choice| self.tasks[choice.place].id.is_some());
        let n = self.chance.below(choices.len());
        Ok((!choices.is_empty()).then(|| choices.swap_remove(n)))
    }
}

/// Steps of tasks that an operator may still change, in the order of the seed.
pub async fn choices(rig: &Rig, which: &str) -> Result<Vec<Choice>> {
    let sql = format!(
        "select t.task_id, s.no, s.name, s.lease, (t.context->>'place')::int8 as place from tasker.tasks t join tasker.steps s \
         using (task_id) where t.state in ('running', 'error') and {which} order by place, s.no"
    );
    let rows = rig.sql.query_typed(&sql, &[]).await?;
    let choice = |row: &tokio_postgres::Row| {
        let id = TaskId::from_uuid(row.get(0)).expect("a task of the seed").step(row.get(1));
        Choice { id, place: row.get::<_, i64>(4) as usize, no: step_of(row.get(2)), lease: row.get(3) }
    };
    Ok(rows.iter().map(choice).collect())
}

/// How often the audit log has an action of an operator.
pub async fn audited(rig: &Rig, task: TaskId, no: Option<i32>, action: &str) -> Result<i64> {
    let sql = "select count(*) from tasker.audit_log where task_id = $1 and no is not distinct from $2 and action = $3";
    let params = [(&task.uuid() as _, Type::UUID), (&no as _, Type::INT4), (&action as _, Type::TEXT)];
    Ok(rig.sql.query_typed(sql, &params).await?[0].get(0))
}

/// Whether it was carried out. False: it came too late.
pub fn done(answer: Result<(), OperatorError>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(OperatorError::Conflict { .. }) => Ok(false),
        Err(e) => bail!("an operator's action: {e}"),
    }
}

pub fn by() -> By {
    By { actor: "operator".into(), reason: "a seed said so".into(), metadata: None }
}
