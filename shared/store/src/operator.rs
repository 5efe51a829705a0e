//! Operator actions on tasks and steps.

use serde_json::value::RawValue;
use tasker_domain::token::TemplateRef;
use tasker_wire::{StepId, StepNo, TaskId};
use tokio_postgres::Row;

use crate::{
    Change, DispatchSettings, Store, StoreError,
    change::raw_column,
    pool::{Lane, Param, Prepared},
    row::from_row,
    store::sql,
};

/// An operator's action on a task, or on one of its steps.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// As in the function `operate_v1`; the audit log keeps it.
    pub verb: &'static str,
    pub task: TaskId,
    pub no: Option<StepNo>,
    /// Further arguments, as a JSON object.
    pub args: &'a str,
    pub actor: &'a str,
    pub reason: &'a str,
    /// What a dry run answered as [`Change::Seen`]. If it is no longer so, nothing is done.
    pub seen: Option<&'a str>,
    /// Only says what would change.
    pub dry_run: bool,
}

/// What speaks against another attempt of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRisks {
    pub no: StepNo,
    /// It allows one attempt only.
    pub once: bool,
    /// Its task runs or has failed, so that its steps can be acted on.
    pub is_open: bool,
    pub has_inputs: bool,
    pub has_checkpoint: bool,
    /// The lease of the last success that came too late to be applied, and whether its result was kept.
    pub late_success: Option<(i32, bool)>,
}

impl<'a> Operation<'a> {
    /// An action without arguments and without a condition.
    pub fn new(verb: &'static str, (task, no): (TaskId, Option<StepNo>), (actor, reason): (&'a str, &'a str)) -> Self {
        Self { verb, task, no, args: "{}", actor, reason, seen: None, dry_run: false }
    }
}

impl Store {
    /// Carries out an action. The first change is [`Change::Done`], or why it was not carried out.
    pub async fn operate(&self, operation: Operation<'_>, settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let Operation { verb, task, no, args, actor, reason, seen, dry_run } = operation;
        let DispatchSettings { send_ms, bodies, input_bytes } = settings;
        let params: [Param<'_>; 11] =
            [&verb, &task.uuid(), &no, &args, &actor, &reason, &seen, &dry_run, &send_ms, &bodies, &input_bytes];
        self.changes(Lane::Requests, Prepared::Never, sql!("operate"), &params).await
    }

    /// The template of a task; `None` without such a task.
    pub async fn template_of(&self, task: TaskId) -> Result<Option<TemplateRef>, StoreError> {
        let rows = self.read(sql!("template_of"), &[&task.uuid()]).await?;
        Ok(rows.first().map(|row| from_row!(row, TemplateRef { template_id, environment })))
    }

    /// What speaks against another attempt of steps: of `about`, and of at most `limit` of those of which something does, ascending.
    pub async fn step_risks(
        &self,
        task: TaskId,
        steps: Vec<StepNo>,
        about: Option<StepNo>,
        limit: usize,
    ) -> Result<Vec<StepRisks>, StoreError> {
        let rows = self.read(sql!("step_risks"), &[&task.uuid(), &steps, &about, &(limit as i64)]).await?;
        let late = |row: &Row| Some((row.get::<_, Option<i32>>("lease")?, row.get("has_result")));
        let risks =
            |row: &Row| from_row!(row, StepRisks { no, once, is_open, has_inputs, has_checkpoint; late_success: late(row) });
        Ok(rows.iter().map(risks).collect())
    }

    /// The result of a success under this lease that came too late. `None`: there was none. `Some(None)`: its result was too large to keep.
    pub async fn late_result(&self, step: StepId, lease: i32) -> Result<Option<Option<Box<RawValue>>>, StoreError> {
        let rows = self.read(sql!("late_result"), &[&step.task.uuid(), &step.no, &lease]).await?;
        Ok(rows.first().map(|row| raw_column(row, "result")))
    }
}
