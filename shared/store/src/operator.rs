//! Operator actions on tasks and steps.

use tasker_wire::{StepNo, TaskId};
use tokio_postgres::types::Type;

use crate::{Change, DispatchSettings, Store, StoreError, store::sql};

impl Store {
    pub async fn cancel_task(&self, task: TaskId, actor: &str, reason: &str) -> Result<Vec<Change>, StoreError> {
        let params = [(&task.uuid() as _, Type::UUID), (&actor as _, Type::TEXT), (&reason as _, Type::TEXT)];
        let rows = self.request(sql!("cancel_task"), &params).await?;
        Ok(Change::read_all(&rows))
    }

    /// Resets the attempts of a step.
    pub async fn retry_step(
        &self,
        task: TaskId,
        no: StepNo,
        (actor, reason): (&str, &str),
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let params = [
            (&task.uuid() as _, Type::UUID),
            (&no as _, Type::INT4),
            (&actor as _, Type::TEXT),
            (&reason as _, Type::TEXT),
            (&settings.send_ms as _, Type::INT8),
            (&settings.input_bytes as _, Type::INT8),
        ];
        let rows = self.request(sql!("retry_step"), &params).await?;
        Ok(Change::read_all(&rows))
    }

    /// Settles a step. `result` and `metadata` are JSON texts.
    pub async fn resolve_step(
        &self,
        (task, no): (TaskId, StepNo),
        (result, metadata): (Option<&str>, Option<&str>),
        (actor, reason): (&str, &str),
        settings: DispatchSettings,
    ) -> Result<Vec<Change>, StoreError> {
        let params = [
            (&task.uuid() as _, Type::UUID),
            (&no as _, Type::INT4),
            (&result as _, Type::TEXT),
            (&actor as _, Type::TEXT),
            (&reason as _, Type::TEXT),
            (&metadata as _, Type::TEXT),
            (&settings.send_ms as _, Type::INT8),
            (&settings.bodies as _, Type::INT4),
            (&settings.input_bytes as _, Type::INT8),
        ];
        let rows = self.request(sql!("resolve_step"), &params).await?;
        Ok(Change::read_all(&rows))
    }
}
