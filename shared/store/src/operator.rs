//! Operator actions on tasks and steps.

use tasker_domain::token::TemplateRef;
use tasker_wire::{StepNo, TaskId};

use crate::{
    Change, DispatchSettings, Store, StoreError,
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
}
