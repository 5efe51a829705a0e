//! Dispatch: due retries, sweeps, and the messages that the queue accepted.

use tasker_wire::{StepNo, message::Lease};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    Change, Store, StoreError,
    change::task_id,
    pool::{Lane, Param, Prepared},
    store::sql,
};

/// Settings of every call that dispatches steps.
#[derive(Debug, Clone, Copy)]
pub struct DispatchSettings {
    /// Milliseconds until a sweep re-sends a message that the queue did not accept; `None`: never.
    pub send_ms: Option<i64>,
    /// The number of messages that are returned whole. Of the others only the keys are.
    pub bodies: i32,
    /// The limit for all inputs of a step together.
    pub input_bytes: i64,
}

impl Store {
    /// Dispatches steps whose retry is due under these leases.
    pub async fn dispatch(&self, keys: &[Lease], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let keys = Keys::sorted(keys);
        let params: [Param<'_>; 6] = [
            (&keys.tasks, Type::UUID_ARRAY),
            (&keys.nos, Type::INT4_ARRAY),
            (&keys.leases, Type::INT4_ARRAY),
            (&settings.send_ms, Type::INT8),
            (&settings.bodies, Type::INT4),
            (&settings.input_bytes, Type::INT8),
        ];
        let rows = self.pool.run(Lane::Steps, Prepared::Once, sql!("dispatch"), &params).await?;
        Ok(Change::read_all(&rows))
    }

    /// Handles at most `rows` steps that are due.
    pub async fn sweep(&self, rows: i64, settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let params: [Param<'_>; 4] = [
            (&rows, Type::INT8),
            (&settings.send_ms, Type::INT8),
            (&settings.bodies, Type::INT4),
            (&settings.input_bytes, Type::INT8),
        ];
        let rows = self.pool.run(Lane::Steps, Prepared::Once, sql!("sweep"), &params).await?;
        Ok(Change::read_all(&rows))
    }

    /// Loads the messages of steps that are still enqueued, in no order.
    pub async fn load_run_steps(&self, keys: &[Lease], input_bytes: i64) -> Result<Vec<Change>, StoreError> {
        let keys = Keys::sorted(keys);
        let params = [(&keys.tasks as _, Type::UUID_ARRAY), (&keys.nos as _, Type::INT4_ARRAY), (&input_bytes as _, Type::INT8)];
        let rows = self.pool.run(Lane::Steps, Prepared::Never, sql!("load_run_steps"), &params).await?;
        Ok(Change::read_all(&rows))
    }

    /// Records that the queue accepted the messages of these leases. A sweep handles each step again only after its milliseconds.
    pub async fn mark_sent(&self, sent: &[(Lease, i64)]) -> Result<(), StoreError> {
        let sent = latest(sent, |(key, _)| *key);
        let keys = Keys::sorted(&sent.iter().map(|(k, _)| *k).collect::<Vec<_>>());
        let ms: Vec<i64> = sent.iter().map(|(_, ms)| *ms).collect();
        let params = [
            (&keys.tasks as _, Type::UUID_ARRAY),
            (&keys.nos as _, Type::INT4_ARRAY),
            (&keys.leases as _, Type::INT4_ARRAY),
            (&ms as _, Type::INT8_ARRAY),
        ];
        self.pool.run(Lane::Steps, Prepared::Never, sql!("mark_sent"), &params).await.map(drop)
    }

    /// A page of the leases whose messages are only in the queue of this process, after `last`.
    pub async fn list_unsent(&self, last: Option<Lease>, rows: i64) -> Result<Vec<Lease>, StoreError> {
        let (task, no) = last.map_or((Uuid::nil(), -1), |k| (k.step.task.uuid(), k.step.no));
        let params = [(&task as _, Type::UUID), (&no as _, Type::INT4), (&rows as _, Type::INT8)];
        let rows = self.pool.run(Lane::Steps, Prepared::Never, sql!("list_unsent"), &params).await?;
        Ok(rows.iter().map(|r| Lease { step: task_id(r.get(0)).step(r.get(1)), number: r.get(2) }).collect())
    }

    /// Makes the steps that the previous process had started enqueued again, for the queue of this process.
    pub async fn return_started(&self) -> Result<(), StoreError> {
        self.pool.run(Lane::Steps, Prepared::Never, sql!("return_started"), &[]).await.map(drop)
    }
}

/// Leases as columns, ascending by step: all statements lock rows in this order.
struct Keys {
    tasks: Vec<Uuid>,
    nos: Vec<StepNo>,
    leases: Vec<i32>,
}

impl Keys {
    fn sorted(keys: &[Lease]) -> Self {
        let keys = latest(keys, |key| *key);
        Self {
            tasks: keys.iter().map(|k| k.step.task.uuid()).collect(),
            nos: keys.iter().map(|k| k.step.no).collect(),
            leases: keys.iter().map(|k| k.number).collect(),
        }
    }
}

/// Ascending by step. Of several leases of a step only the highest remains, because only that one can be current.
fn latest<T: Copy + Ord>(items: &[T], key: fn(&T) -> Lease) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable_by(|a, b| b.cmp(a));
    items.dedup_by_key(|item| key(item).step);
    items.reverse();
    items
}
