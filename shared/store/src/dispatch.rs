//! Dispatch: due retries, sweeps, and the messages that the queue accepted.

use tasker_wire::{StepNo, TaskId, message::Lease};
use tokio_postgres::Row;
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
    pub async fn dispatch(&self, leases: &[Lease], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let (leases, DispatchSettings { send_ms, bodies, input_bytes }) = (LeaseColumns::sorted(leases), settings);
        let params: [Param<'_>; 6] = [&leases.tasks, &leases.nos, &leases.numbers, &send_ms, &bodies, &input_bytes];
        self.changes(Lane::Steps, Prepared::Once, sql!("dispatch"), &params).await
    }

    /// Handles at most `rows` steps that are due.
    pub async fn sweep(&self, rows: i64, settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let params: [Param<'_>; 4] = [&rows, &settings.send_ms, &settings.bodies, &settings.input_bytes];
        self.changes(Lane::Steps, Prepared::Once, sql!("sweep"), &params).await
    }

    /// Loads the messages of steps that are still enqueued, in no order.
    pub async fn load_run_steps(&self, leases: &[Lease], input_bytes: i64) -> Result<Vec<Change>, StoreError> {
        let leases = LeaseColumns::sorted(leases);
        self.changes(Lane::Steps, Prepared::Never, sql!("load_run_steps"), &[&leases.tasks, &leases.nos, &input_bytes]).await
    }

    /// Records that the queue accepted the messages of these leases. A sweep handles each step again only after its milliseconds.
    pub async fn mark_sent(&self, sent: &[(Lease, i64)]) -> Result<(), StoreError> {
        let sent = latest(sent, |(lease, _)| *lease);
        let leases = LeaseColumns::sorted(&sent.iter().map(|(lease, _)| *lease).collect::<Vec<_>>());
        let ms: Vec<i64> = sent.iter().map(|(_, ms)| *ms).collect();
        let params: [Param<'_>; 4] = [&leases.tasks, &leases.nos, &leases.numbers, &ms];
        self.pool.run(Lane::Steps, Prepared::Never, sql!("mark_sent"), &params).await.map(drop)
    }

    /// The dispatches of the page of tasks after `last` whose messages are only in the queue of this process. Also returns the last task
    /// of the page; `None`: no task was left.
    pub async fn list_unsent(&self, last: Option<TaskId>) -> Result<(Vec<Lease>, Option<TaskId>), StoreError> {
        let after = last.map_or(Uuid::nil(), |task| task.uuid());
        let params: [Param<'_>; 3] = [&after, &PAGE_TASKS, &PAGE_STEPS];
        let rows = self.pool.run(Lane::Steps, Prepared::Never, sql!("list_unsent"), &params).await?;
        let is_a_step = |row: &&Row| row.get::<_, Option<StepNo>>(1).is_some();
        Ok((rows.iter().filter(is_a_step).map(lease_of).collect(), rows.last().map(|row| task_id(row.get(0)))))
    }

    /// Makes due again what waits only because the clock was set back. Returns the number of steps.
    pub async fn after_set_back(&self) -> Result<i64, StoreError> {
        let mut moved = 0;
        loop {
            let rows = self.pool.run(Lane::Steps, Prepared::Never, sql!("after_set_back"), &[&SET_BACK]).await?;
            let now = rows.first().map_or(0, |row| row.get(0));
            moved += now;
            if now < SET_BACK {
                return Ok(moved);
            }
        }
    }

    /// Returns the steps that the previous process had started to `enqueued`, for the queue of this process: all, or only these
    /// dispatches. Returns those that another session has locked.
    pub async fn return_started(&self, only: Option<&[Lease]>) -> Result<Vec<Lease>, StoreError> {
        let only = only.map(LeaseColumns::sorted);
        let (tasks, nos, leases) =
            (only.as_ref().map(|l| l.tasks.clone()), only.as_ref().map(|l| l.nos.clone()), only.map(|l| l.numbers));
        let rows = self.pool.run(Lane::Steps, Prepared::Never, sql!("return_started"), &[&tasks, &nos, &leases]).await?;
        Ok(rows.iter().map(lease_of).collect())
    }
}

/// A row of a task, a step's number and a lease.
fn lease_of(row: &Row) -> Lease {
    Lease { step: task_id(row.get(0)).step(row.get(1)), number: row.get(2) }
}

/// Tasks and steps of a page of [`Store::list_unsent`]: some milliseconds of the database.
const PAGE_TASKS: i64 = 1_000;
const PAGE_STEPS: i64 = 10_000;

/// Steps that one statement moves after the clock was set back.
const SET_BACK: i64 = 5_000;

/// Leases as columns, ascending by step: all statements lock rows in this order.
struct LeaseColumns {
    tasks: Vec<Uuid>,
    nos: Vec<StepNo>,
    numbers: Vec<i32>,
}

impl LeaseColumns {
    fn sorted(leases: &[Lease]) -> Self {
        let leases = latest(leases, |lease| *lease);
        Self {
            tasks: leases.iter().map(|l| l.step.task.uuid()).collect(),
            nos: leases.iter().map(|l| l.step.no).collect(),
            numbers: leases.iter().map(|l| l.number).collect(),
        }
    }
}

/// Ascending by step. Of several leases of a step only the highest remains, because only that one can be current.
fn latest<T: Copy + Ord>(items: &[T], lease_of: fn(&T) -> Lease) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable_by(|a, b| b.cmp(a));
    items.dedup_by_key(|item| lease_of(item).step);
    items.reverse();
    items
}
