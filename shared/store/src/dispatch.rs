//! Dispatch: what became due, what a sweep takes up, and what the queue took.

use tasker_wire::{StepNo, message::Lease};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    Change, Store, StoreError,
    change::task_id,
    pool::{Lane, Prepared},
};

/// What every call that dispatches steps needs to know.
#[derive(Debug, Clone, Copy)]
pub struct DispatchSettings {
    /// Milliseconds that a message may be on its way to the queue; none: for ever.
    pub send_ms: Option<i64>,
    /// Messages that are answered whole; of the rest only the keys.
    pub bodies: i32,
    /// Bytes that all inputs of a step may have.
    pub input_bytes: i64,
}

impl Store {
    /// Dispatches steps whose retry is due under these leases.
    pub async fn dispatch(&self, keys: &[Lease], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let keys = Keys::sorted(keys);
        let rows = self
            .pool
            .run(
                Lane::Steps,
                Prepared::Once,
                include_str!("../sql/dispatch.sql"),
                &[
                    (&keys.tasks, Type::UUID_ARRAY),
                    (&keys.nos, Type::INT4_ARRAY),
                    (&keys.leases, Type::INT4_ARRAY),
                    (&settings.send_ms, Type::INT8),
                    (&settings.bodies, Type::INT4),
                    (&settings.input_bytes, Type::INT8),
                ],
            )
            .await?;
        Ok(Change::read_all(&rows))
    }

    /// Takes up at most `rows` steps whose time has passed.
    pub async fn sweep(&self, rows: i64, settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let rows = self
            .pool
            .run(
                Lane::Steps,
                Prepared::Once,
                include_str!("../sql/sweep.sql"),
                &[
                    (&rows, Type::INT8),
                    (&settings.send_ms, Type::INT8),
                    (&settings.bodies, Type::INT4),
                    (&settings.input_bytes, Type::INT8),
                ],
            )
            .await?;
        Ok(Change::read_all(&rows))
    }

    /// Loads the messages of steps that are still enqueued; in no order.
    pub async fn load_run_steps(&self, keys: &[Lease], input_bytes: i64) -> Result<Vec<Change>, StoreError> {
        let keys = Keys::sorted(keys);
        let params = [(&keys.tasks as _, Type::UUID_ARRAY), (&keys.nos as _, Type::INT4_ARRAY), (&input_bytes as _, Type::INT8)];
        let rows = self.pool.run(Lane::Steps, Prepared::Never, include_str!("../sql/load_run_steps.sql"), &params).await?;
        Ok(Change::read_all(&rows))
    }

    /// The queue accepted the messages of these leases: the sweep looks at each step again only after its milliseconds.
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
        self.pool.run(Lane::Steps, Prepared::Never, include_str!("../sql/mark_sent.sql"), &params).await.map(drop)
    }

    /// A page of the leases that only a queue inside this process knows of, after `last`.
    pub async fn list_unsent(&self, last: Option<Lease>, rows: i64) -> Result<Vec<Lease>, StoreError> {
        let (task, no) = last.map_or((Uuid::nil(), -1), |k| (k.step.task.uuid(), k.step.no));
        let params = [(&task as _, Type::UUID), (&no as _, Type::INT4), (&rows as _, Type::INT8)];
        let rows = self.pool.run(Lane::Steps, Prepared::Never, include_str!("../sql/list_unsent.sql"), &params).await?;
        Ok(rows.iter().map(|r| Lease { step: task_id(r.get(0)).step(r.get(1)), number: r.get(2) }).collect())
    }

    /// Makes what a predecessor of this process had under way enqueued again, known to this process alone.
    pub async fn return_started(&self) -> Result<(), StoreError> {
        self.pool.run(Lane::Steps, Prepared::Never, include_str!("../sql/return_started.sql"), &[]).await.map(drop)
    }
}

/// Leases as columns, ascending by step: the order in which rows are locked everywhere.
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

/// Ascending by step, and of several leases of a step the highest: only that one can be current.
fn latest<T: Copy + Ord>(items: &[T], key: fn(&T) -> Lease) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable_by(|a, b| b.cmp(a));
    items.dedup_by_key(|item| key(item).step);
    items.reverse();
    items
}
