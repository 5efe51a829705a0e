//! Operator actions on tasks and steps.

use tasker_wire::{StepNo, TaskId};

use crate::{
    Change, DispatchSettings, Store, StoreError,
    pool::{Lane, Param, Prepared},
    store::sql,
};

impl Store {
    pub async fn cancel_task(&self, task: TaskId, actor: &str, reason: &str) -> Result<Vec<Change>, StoreError> {
        self.changes(Lane::Requests, Prepared::Never, sql!("cancel_task"), &[&task.uuid(), &actor, &reason]).await
    }

    /// Resets the attempts of a step.
    pub async fn retry_step(
        &self,
        task: TaskId,
        no: StepNo,
        (actor, reason): (&str, &str),
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let DispatchSettings { send_ms, input_bytes, .. } = settings;
        self.changes(
            Lane::Requests,
            Prepared::Never,
            sql!("retry_step"),
            &[&task.uuid(), &no, &actor, &reason, &send_ms, &input_bytes],
        )
        .await
    }

    /// Resolves a step. `result` and `metadata` are JSON texts.
    pub async fn resolve_step(
        &self,
        (task, no): (TaskId, StepNo),
        (result, metadata): (Option<&str>, Option<&str>),
        (actor, reason): (&str, &str),
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let (task, DispatchSettings { send_ms, bodies, input_bytes }) = (task.uuid(), settings);
        let params: [Param<'_>; 9] = [&task, &no, &result, &actor, &reason, &metadata, &send_ms, &bodies, &input_bytes];
        self.changes(Lane::Requests, Prepared::Never, sql!("resolve_step"), &params).await
    }
}
