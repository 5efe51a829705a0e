//! Locks of other sessions: what they hold, and which steps they block.

use tasker_wire::{Lease, StepId};
use tokio_postgres::Row;

use crate::{
    Store, StoreError,
    change::task_id,
    pool::{Lane, Prepared},
    row::from_row,
    store::sql,
};

/// A session that has held locks on our tables for more than a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// What it holds, and who it is: its pid, application, and the start of its transaction.
    pub text: String,
    /// Whether it locks a whole table, which stops all work. Otherwise it locks rows.
    pub all: bool,
}

impl Blocker {
    pub(crate) fn read(row: &Row) -> Self {
        from_row!(row, Self { text, all })
    }
}

impl Store {
    /// The sessions that may block our statements, the oldest transaction first.
    pub async fn blockers(&self) -> Result<Vec<Blocker>, StoreError> {
        self.pool.blockers().await
    }

    /// Of the steps of these leases, those that a lock of another session blocks now. Waits for no row.
    pub async fn locked_steps(&self, leases: &[Lease]) -> Result<Vec<StepId>, StoreError> {
        let tasks: Vec<_> = leases.iter().map(|lease| lease.step.task.uuid()).collect();
        let nos: Vec<_> = leases.iter().map(|lease| lease.step.no).collect();
        let rows = self.pool.run(Lane::Steps, Prepared::Never, sql!("locked_steps"), &[&tasks, &nos]).await?;
        Ok(rows.iter().map(|row| task_id(row.get("task_id")).step(row.get("no"))).collect())
    }
}
