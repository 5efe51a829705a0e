//! Reads of tasks and steps for display. No decision depends on them.

use jiff::Timestamp;
use tasker_wire::{StepId, TaskId, TaskState, limits};
use uuid::Uuid;

use crate::{
    Resolution, StepDetail, Store, StoreError, TaskDetail, TaskSummary,
    change::task_state,
    pool::{Lane, Param, Prepared},
    store::sql,
};

/// A filter for a list of tasks. An absent field matches every task.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    pub namespace: Option<String>,
    /// The template's name.
    pub name: Option<String>,
    pub states: Option<Vec<TaskState>>,
    pub initiator: Option<String>,
    pub source_system: Option<String>,
}

impl Store {
    /// A page of tasks, newest first. `page` counts from 0.
    pub async fn tasks(&self, filter: &TaskFilter, page: u32, per_page: u32) -> Result<Vec<TaskSummary>, StoreError> {
        let states = state_words(filter);
        let (rows, skip) = (i64::from(per_page), i64::from(page) * i64::from(per_page));
        let mut params = filter_params(filter, &states);
        params.extend([&rows as Param<'_>, &skip]);
        let rows = self.read(sql!("list_tasks"), &params).await?;
        let ids: Vec<Uuid> = rows.iter().map(|r| r.get(0)).collect();
        let rows = self.read(sql!("get_tasks"), &[&ids, &(limits::LISTED_BYTES as i64)]).await?;
        Ok(rows.iter().map(TaskSummary::read).collect())
    }

    /// The number of tasks, up to [`limits::COUNTED_ROWS`].
    pub async fn count_tasks(&self, filter: &TaskFilter) -> Result<i64, StoreError> {
        let states = state_words(filter);
        let mut params = filter_params(filter, &states);
        params.push(&limits::COUNTED_ROWS);
        let rows = self.read(sql!("count_tasks"), &params).await?;
        Ok(rows.first().map_or(0, |r| r.get(0)))
    }

    /// A task with its steps. Concurrent reads share one statement.
    pub async fn task_detail(&self, task: TaskId) -> Result<Option<TaskDetail>, StoreError> {
        let store = self.clone();
        let detail = self.details.call(task, move |tasks| {
            let store = store.clone();
            async move { store.task_details(&tasks).await }
        });
        detail.await.unwrap_or_else(|| Err(StoreError::Bug("reading a task panicked".into())))
    }

    async fn task_details(&self, tasks: &[TaskId]) -> Vec<Result<Option<TaskDetail>, StoreError>> {
        let ids: Vec<Uuid> = tasks.iter().map(|t| t.uuid()).collect();
        let rows = match self.pool.run(Lane::Requests, Prepared::Once, sql!("task_details"), &[&ids]).await {
            Ok(rows) => rows,
            Err(e) => return tasks.iter().map(|_| Err(e.clone().of_a_read())).collect(),
        };
        // Several callers may ask for the same task.
        let row_of = |task: &TaskId| rows.iter().find(|row| row.get::<_, Uuid>("task_id") == task.uuid());
        tasks.iter().map(|task| Ok(row_of(task).map(TaskDetail::read))).collect()
    }

    pub async fn task_state(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        let rows = self.read(sql!("task_state"), &[&task.uuid()]).await?;
        Ok(rows.first().map(|r| task_state(r.get("state"))))
    }

    /// All steps of a task, in topological order, with at most `result_bytes` of results together. `None` if there is no such task.
    pub async fn steps(&self, task: TaskId, result_bytes: i64) -> Result<Option<Vec<StepDetail>>, StoreError> {
        self.steps_where(task, None, result_bytes).await
    }

    /// A step with its result.
    pub async fn step(&self, step: StepId) -> Result<Option<StepDetail>, StoreError> {
        Ok(self.steps_where(step.task, Some(step.no), i64::MAX).await?.and_then(|mut steps| steps.pop()))
    }

    async fn steps_where(&self, task: TaskId, no: Option<i32>, result_bytes: i64) -> Result<Option<Vec<StepDetail>>, StoreError> {
        let rows = self.read(sql!("list_steps"), &[&task.uuid(), &no, &result_bytes]).await?;
        Ok((!rows.is_empty()).then(|| rows.iter().filter_map(|row| StepDetail::read(task, row)).collect()))
    }

    /// For each manually resolved step of a task, who resolved it last.
    pub async fn resolutions(&self, task: TaskId) -> Result<Vec<Resolution>, StoreError> {
        let rows = self.read(sql!("list_resolutions"), &[&task.uuid()]).await?;
        Ok(rows.iter().map(|row| Resolution::read(task, row)).collect())
    }

    /// The database's time. It never queues behind requests.
    pub async fn clock(&self) -> Result<Timestamp, StoreError> {
        let rows = self.pool.run(Lane::Steps, Prepared::Never, sql!("clock"), &[]).await?;
        rows.first().map(|r| r.get(0)).ok_or_else(|| StoreError::Bug("the clock returned no row".into()))
    }
}

fn state_words(filter: &TaskFilter) -> Option<Vec<&'static str>> {
    filter.states.as_ref().map(|states| states.iter().map(|s| s.as_str()).collect())
}

fn filter_params<'a>(filter: &'a TaskFilter, states: &'a Option<Vec<&'static str>>) -> Vec<Param<'a>> {
    vec![&filter.namespace, &filter.name, states, &filter.initiator, &filter.source_system]
}
