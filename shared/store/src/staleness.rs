//! What decides whether running tasks are stale, and what is done then.

use serde_json::value::RawValue;
use tasker_domain::staleness::{LifecycleFacts, Wait, WaitingStep};
use tasker_wire::{StepNo, TaskId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    change::{raw, task_id},
    store::sql,
};

/// Steps or tasks of a page.
const PAGE: i64 = 1_000;

/// Where a look at all running tasks continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StalePosition {
    /// After this step, in the order of `wake_at`.
    ByWake { wake_at: String, task: Uuid, no: StepNo },
    /// After this task of those whose dispatches may be known only to one process.
    InProcess(Uuid),
    /// Where the walk over all tasks, whose place the database keeps, is to take one step.
    Walk,
}

/// A running task of a template with thresholds.
#[derive(Debug)]
pub struct WatchedTask {
    pub task: TaskId,
    pub namespace: String,
    /// The template's name.
    pub name: String,
    pub priority: Option<i32>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// The thresholds of its template, as JSON.
    pub lifecycle: Box<RawValue>,
    pub facts: LifecycleFacts,
    /// All facts as a text, which the action on a stale task compares.
    pub seen: String,
    names: [Option<String>; 3],
}

/// Where a wait of a task is recorded.
#[derive(Debug, Clone, Copy)]
pub struct StaleEntry<'a> {
    pub task: TaskId,
    pub wait: &'a Wait,
    /// More about it, as JSON.
    pub about: &'a str,
}

impl StalePosition {
    pub fn start() -> Self {
        Self::ByWake { wake_at: "-infinity".into(), task: Uuid::nil(), no: 0 }
    }
}

impl WatchedTask {
    /// The name of a step that it waits for.
    pub fn step_name(&self, step: WaitingStep) -> &str {
        let of = [self.facts.waiting, self.facts.in_process, self.facts.retry];
        let place = of.iter().position(|known| known.is_some_and(|known| known.no == step.no));
        place.and_then(|place| self.names[place].as_deref()).unwrap_or_default()
    }

    fn read(row: &Row) -> Self {
        Self {
            task: task_id(row.get("task_id")),
            namespace: row.get("namespace"),
            name: row.get("name"),
            priority: row.get("priority"),
            created_ms: row.get("created_ms"),
            lifecycle: raw(row.get("lifecycle")),
            facts: facts(row),
            seen: row.get("facts"),
            names: ["waiting_name", "process_name", "retry_name"].map(|column| row.get(column)),
        }
    }
}

/// The columns of `lifecycle_facts`, and the time now.
pub(crate) fn facts(row: &Row) -> LifecycleFacts {
    let step = |no: &str, lease: &str, ms: &str| {
        Some(WaitingStep { no: row.get::<_, Option<StepNo>>(no)?, lease: row.get(lease), since_ms: row.get(ms) })
    };
    let moments = |column: &str| row.get::<_, Option<Vec<i64>>>(column).unwrap_or_default();
    LifecycleFacts {
        now_ms: row.get("now_ms"),
        begun_ms: row.get("begun_ms"),
        waiting: step("waiting_no", "waiting_lease", "waiting_ms"),
        in_process: step("process_no", "process_lease", "process_ms"),
        retry: step("retry_no", "retry_lease", "retry_ms"),
        is_paused: row.get("is_paused"),
        pauses: moments("pauses_from").into_iter().zip(moments("pauses_to")).collect(),
    }
}

impl Store {
    /// Whether any template has thresholds.
    pub async fn has_lifecycles(&self) -> Result<bool, StoreError> {
        let rows = self.read(sql!("has_lifecycles"), &[]).await?;
        Ok(rows.first().is_some_and(|row| row.get("any")))
    }

    /// A page of the running tasks of templates with thresholds that are older than one of these, or `young` ones too. Returns where the
    /// next page begins; `None`: this was the last one.
    pub async fn watched_tasks(
        &self,
        from: &StalePosition,
        young: bool,
    ) -> Result<(Vec<WatchedTask>, Option<StalePosition>), StoreError> {
        let (tasks, next) = match from {
            StalePosition::ByWake { wake_at, task, no } => {
                let rows = self.read(sql!("stale_by_wake"), &[&wake_at.as_str(), task, no, &PAGE, &young]).await?;
                let next = rows.first().and_then(|row| {
                    let task = row.get::<_, Option<Uuid>>("task_id")?;
                    Some(StalePosition::ByWake { wake_at: row.get("wake_at"), task, no: row.get("no") })
                });
                (tasks(&rows), next.or(Some(StalePosition::InProcess(Uuid::nil()))))
            }
            StalePosition::InProcess(last) => {
                let rows = self.read(sql!("stale_in_process"), &[last, &PAGE, &young]).await?;
                let next = rows.first().and_then(|row| row.get::<_, Option<Uuid>>("task_id")).map(StalePosition::InProcess);
                (tasks(&rows), next.or(Some(StalePosition::Walk)))
            }
            StalePosition::Walk => (tasks(&self.request(sql!("stale_walk"), &[&PAGE]).await?), None),
        };
        Ok((self.lifecycle_facts(&tasks).await?, next))
    }

    async fn lifecycle_facts(&self, tasks: &Vec<Uuid>) -> Result<Vec<WatchedTask>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.read(sql!("lifecycle_facts"), &[tasks]).await?.iter().map(WatchedTask::read).collect())
    }

    /// Those of these tasks whose rows are wrong, each with what is wrong.
    pub async fn unsound(&self, tasks: &[TaskId]) -> Result<Vec<(TaskId, Vec<String>)>, StoreError> {
        let ids: Vec<Uuid> = tasks.iter().map(|task| task.uuid()).collect();
        let rows = self.read(sql!("unsound"), &[&ids]).await?;
        Ok(rows.iter().map(|row| (task_id(row.get("task_id")), row.get("sentences"))).collect())
    }

    /// Opens the entry of a stale task. False: it has one about the same already.
    pub async fn enter_stale(&self, StaleEntry { task, wait, about }: StaleEntry<'_>) -> Result<bool, StoreError> {
        let (no, lease) = (wait.step.map(|step| step.no), wait.step.map(|step| step.lease));
        let rows = self
            .request(sql!("enter_stale"), &[&task.uuid(), &no, &lease, &wait.threshold.key(), &wait.since_ms, &about])
            .await?;
        Ok(rows.first().is_some_and(|row| row.get::<_, Option<Uuid>>("dlq_entry_id").is_some()))
    }
}

fn tasks(rows: &[Row]) -> Vec<Uuid> {
    rows.first().map(|row| row.get("tasks")).unwrap_or_default()
}
