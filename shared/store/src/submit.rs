//! Intake: one statement inserts a batch of tasks with their steps.

use std::{borrow::Borrow, sync::Arc};

use jiff::Timestamp;
use serde_json::value::RawValue;
use tasker_domain::token::TemplateRef;
use tasker_wire::{StepNo, TaskId, TaskState};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    DispatchSettings, Store, StoreError,
    change::{task_id, task_state},
    pool::{Lane, Param, Prepared},
    row::from_row,
    store::sql,
};

/// The steps of a template in an environment, as rows. They are made once and inserted for every task.
#[derive(Debug)]
pub struct TemplateRows {
    pub template: TemplateRef,
    /// The template's namespace, name and version.
    pub identity: [String; 3],
    /// One per step, in topological order, as in the next fields.
    pub no: Vec<StepNo>,
    pub name: Vec<String>,
    pub max_attempts: Vec<i32>,
    /// The numbers of each step's parents, as a PostgreSQL array literal.
    pub parents: Vec<String>,
    pub children: Vec<String>,
    pub further_ancestors: Vec<String>,
    /// The number of steps without parents.
    pub roots: i32,
}

#[derive(Debug, Clone)]
pub struct NewTask {
    /// Chosen by the caller.
    pub task: TaskId,
    pub rows: Arc<TemplateRows>,
    /// Tasks with the same identity are duplicates; `None`: the task is always unique.
    pub identity: Option<[u8; 32]>,
    pub context: Arc<RawValue>,
    pub priority: Option<i32>,
    pub tags: Vec<String>,
    pub initiator: String,
    pub source_system: String,
    pub reason: String,
    pub correlation_id: Uuid,
    pub parent_correlation_id: Option<Uuid>,
    /// The W3C trace context of the request.
    pub traceparent: Option<String>,
}

#[derive(Debug, Clone)]
pub struct InsertedTask {
    /// The inserted task, or the existing one with the same identity.
    pub task: TaskId,
    pub state: TaskState,
    /// This call inserted it.
    pub created: bool,
    /// Its roots are dispatched; no pause holds them.
    pub dispatched: bool,
    pub created_at: Timestamp,
}

impl Store {
    /// Inserts tasks, and returns a result for each, in their order.
    pub async fn submit<T: Borrow<NewTask> + Sync>(
        &self,
        tasks: &[T],
        settings: DispatchSettings,
    ) -> Result<Vec<InsertedTask>, StoreError> {
        let tasks: Vec<&NewTask> = tasks.iter().map(Borrow::borrow).collect();
        let rows = match tasks[..] {
            [task] => self.submit_one(task, settings).await?,
            _ => self.submit_many(&tasks, settings).await?,
        };
        let read = |row: &Row| {
            let (task, state) = (task_id(row.get("task_id")), task_state(row.get("state")));
            from_row!(row, InsertedTask { created, dispatched, created_at; task: task, state: state })
        };
        Ok(rows.iter().map(read).collect())
    }

    /// The ordinary case has a function of its own.
    async fn submit_one(&self, task: &NewTask, settings: DispatchSettings) -> Result<Vec<Row>, StoreError> {
        let (rows, tags) = (&task.rows, text_array(&task.tags));
        let params: [Param<'_>; 25] = [
            &task.task.uuid(),
            &task.identity.as_ref().map(|id| &id[..]),
            &task.context.get(),
            &task.priority,
            &tags.as_str(),
            &task.initiator.as_str(),
            &task.source_system.as_str(),
            &task.reason.as_str(),
            &task.correlation_id,
            &task.parent_correlation_id,
            &task.traceparent.as_deref(),
            &rows.template.template_id,
            &rows.identity[0].as_str(),
            &rows.identity[1].as_str(),
            &rows.identity[2].as_str(),
            &rows.template.environment.as_str(),
            &rows.roots,
            &(rows.no.len() as i32),
            &rows.no,
            &rows.name,
            &rows.max_attempts,
            &rows.parents,
            &rows.children,
            &rows.further_ancestors,
            &settings.send_ms,
        ];
        self.pool.run(Lane::Requests, Prepared::Once, sql!("submit_one"), &params).await
    }

    async fn submit_many(&self, tasks: &[&NewTask], settings: DispatchSettings) -> Result<Vec<Row>, StoreError> {
        let mut templates: Vec<&Arc<TemplateRows>> = Vec::new();
        let template_of: Vec<i32> = tasks.iter().map(|t| index_of(&mut templates, &t.rows)).collect();
        let column = |f: fn(&NewTask) -> &str| tasks.iter().map(|t| f(t)).collect::<Vec<_>>();
        let p_index: Vec<i32> = (0..templates.len() as i32).collect();
        let p_column = |i: usize| templates.iter().map(|p| p.identity[i].as_str()).collect::<Vec<_>>();
        let s_index: Vec<i32> = templates.iter().zip(0..).flat_map(|(p, i)| p.no.iter().map(move |_| i)).collect();
        let s_no: Vec<i32> = templates.iter().flat_map(|p| p.no.iter().copied()).collect();
        let s_max: Vec<i32> = templates.iter().flat_map(|p| p.max_attempts.iter().copied()).collect();
        let s_column = |f: fn(&TemplateRows) -> &[String]| {
            templates.iter().flat_map(|p| f(p).iter().map(String::as_str)).collect::<Vec<_>>()
        };
        let params: [Param<'_>; 28] = [
            &tasks.iter().map(|t| t.task.uuid()).collect::<Vec<_>>(),
            &template_of,
            &tasks.iter().map(|t| t.identity.as_ref().map(|id| &id[..])).collect::<Vec<_>>(),
            &column(|t| t.context.get()),
            &tasks.iter().map(|t| t.priority).collect::<Vec<_>>(),
            &tasks.iter().map(|t| text_array(&t.tags)).collect::<Vec<_>>(),
            &column(|t| &t.initiator),
            &column(|t| &t.source_system),
            &column(|t| &t.reason),
            &tasks.iter().map(|t| t.correlation_id).collect::<Vec<_>>(),
            &tasks.iter().map(|t| t.parent_correlation_id).collect::<Vec<_>>(),
            &tasks.iter().map(|t| t.traceparent.as_deref()).collect::<Vec<_>>(),
            &p_index,
            &templates.iter().map(|p| p.template.template_id).collect::<Vec<_>>(),
            &p_column(0),
            &p_column(1),
            &p_column(2),
            &templates.iter().map(|p| p.template.environment.as_str()).collect::<Vec<_>>(),
            &templates.iter().map(|p| p.roots).collect::<Vec<_>>(),
            &templates.iter().map(|p| p.no.len() as i32).collect::<Vec<_>>(),
            &s_index,
            &s_no,
            &s_column(|p| &p.name),
            &s_max,
            &s_column(|p| &p.parents),
            &s_column(|p| &p.children),
            &s_column(|p| &p.further_ancestors),
            &settings.send_ms,
        ];
        self.pool.run(Lane::Requests, Prepared::Once, sql!("submit"), &params).await
    }
}

fn index_of<'a>(templates: &mut Vec<&'a Arc<TemplateRows>>, rows: &'a Arc<TemplateRows>) -> i32 {
    let known = templates.iter().position(|p| Arc::ptr_eq(p, rows));
    known.unwrap_or_else(|| {
        templates.push(rows);
        templates.len() - 1
    }) as i32
}

/// A PostgreSQL array literal of texts.
fn text_array(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|t| format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}
