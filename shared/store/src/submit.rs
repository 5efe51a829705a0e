//! Intake: tasks are inserted with their steps, a batch in one statement.

use std::{borrow::Borrow, sync::Arc};

use jiff::Timestamp;
use serde_json::value::RawValue;
use tasker_domain::token::TemplateRef;
use tasker_wire::{StepNo, TaskId, TaskState};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    DispatchSettings, Store, StoreError,
    change::{task_id, task_state},
    pool::{Lane, Prepared},
};

/// The steps of a template in an environment, as rows; made once and inserted for every task of it.
#[derive(Debug)]
pub struct TemplateRows {
    pub plan: TemplateRef,
    /// The template's namespace, name and version.
    pub identity: [String; 3],
    /// One a step, in topological order; so are the following.
    pub no: Vec<StepNo>,
    pub name: Vec<String>,
    pub max_attempts: Vec<i32>,
    /// The numbers of a step's parents, as a PostgreSQL array literal.
    pub parents: Vec<String>,
    pub children: Vec<String>,
    pub further_ancestors: Vec<String>,
    /// Steps without parents.
    pub roots: i32,
}

/// A task to be inserted.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Drawn by the caller.
    pub task: TaskId,
    pub plan: Arc<TemplateRows>,
    /// What makes it the same as another one; none: it is always its own.
    pub identity: Option<[u8; 32]>,
    pub context: Arc<RawValue>,
    pub priority: Option<i32>,
    pub tags: Vec<String>,
    pub initiator: String,
    pub source_system: String,
    pub reason: String,
    /// The same in every step, message and log line.
    pub correlation_id: Uuid,
    /// Of whatever led to this task.
    pub parent_correlation_id: Option<Uuid>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// What became of one new task.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The inserted task, or the one that stood in its way.
    pub task: TaskId,
    pub state: TaskState,
    /// It was inserted by this very call.
    pub created: bool,
    /// Its roots are dispatched, not held by a pause.
    pub dispatched: bool,
    pub created_at: Timestamp,
}

impl Store {
    /// Inserts tasks; one answer each, in their order.
    pub async fn submit<T: Borrow<NewTask> + Sync>(
        &self,
        tasks: &[T],
        settings: DispatchSettings,
    ) -> Result<Vec<Submitted>, StoreError> {
        let tasks: Vec<&NewTask> = tasks.iter().map(Borrow::borrow).collect();
        let mut plans: Vec<&Arc<TemplateRows>> = Vec::new();
        let plan_of: Vec<i32> = tasks.iter().map(|t| index_of(&mut plans, &t.plan)).collect();
        let column = |f: fn(&NewTask) -> &str| tasks.iter().map(|t| f(t)).collect::<Vec<_>>();
        let p_index: Vec<i32> = (0..plans.len() as i32).collect();
        let p_column = |i: usize| plans.iter().map(|p| p.identity[i].as_str()).collect::<Vec<_>>();
        let s_index: Vec<i32> = plans.iter().zip(0..).flat_map(|(p, i)| p.no.iter().map(move |_| i)).collect();
        let s_no: Vec<i32> = plans.iter().flat_map(|p| p.no.iter().copied()).collect();
        let s_max: Vec<i32> = plans.iter().flat_map(|p| p.max_attempts.iter().copied()).collect();
        let s_column =
            |f: fn(&TemplateRows) -> &[String]| plans.iter().flat_map(|p| f(p).iter().map(String::as_str)).collect::<Vec<_>>();
        let rows = self
            .pool
            .run(
                Lane::Requests,
                Prepared::Once,
                include_str!("../sql/submit.sql"),
                &[
                    (&tasks.iter().map(|t| t.task.uuid()).collect::<Vec<_>>(), Type::UUID_ARRAY),
                    (&plan_of, Type::INT4_ARRAY),
                    (&tasks.iter().map(|t| t.identity.map(|i| i.to_vec())).collect::<Vec<_>>(), Type::BYTEA_ARRAY),
                    (&column(|t| t.context.get()), Type::TEXT_ARRAY),
                    (&tasks.iter().map(|t| t.priority).collect::<Vec<_>>(), Type::INT4_ARRAY),
                    (&tasks.iter().map(|t| text_array(&t.tags)).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&column(|t| &t.initiator), Type::TEXT_ARRAY),
                    (&column(|t| &t.source_system), Type::TEXT_ARRAY),
                    (&column(|t| &t.reason), Type::TEXT_ARRAY),
                    (&tasks.iter().map(|t| t.correlation_id).collect::<Vec<_>>(), Type::UUID_ARRAY),
                    (&tasks.iter().map(|t| t.parent_correlation_id).collect::<Vec<_>>(), Type::UUID_ARRAY),
                    (&tasks.iter().map(|t| t.traceparent.as_deref()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&p_index, Type::INT4_ARRAY),
                    (&plans.iter().map(|p| p.plan.template_id).collect::<Vec<_>>(), Type::UUID_ARRAY),
                    (&p_column(0), Type::TEXT_ARRAY),
                    (&p_column(1), Type::TEXT_ARRAY),
                    (&p_column(2), Type::TEXT_ARRAY),
                    (&plans.iter().map(|p| p.plan.environment.as_str()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&plans.iter().map(|p| p.roots).collect::<Vec<_>>(), Type::INT4_ARRAY),
                    (&plans.iter().map(|p| p.no.len() as i32).collect::<Vec<_>>(), Type::INT4_ARRAY),
                    (&s_index, Type::INT4_ARRAY),
                    (&s_no, Type::INT4_ARRAY),
                    (&s_column(|p| &p.name), Type::TEXT_ARRAY),
                    (&s_max, Type::INT4_ARRAY),
                    (&s_column(|p| &p.parents), Type::TEXT_ARRAY),
                    (&s_column(|p| &p.children), Type::TEXT_ARRAY),
                    (&s_column(|p| &p.further_ancestors), Type::TEXT_ARRAY),
                    (&settings.send_ms, Type::INT8),
                ],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| Submitted {
                task: task_id(row.get("task_id")),
                state: task_state(row.get("state")),
                created: row.get("created"),
                dispatched: row.get("dispatched"),
                created_at: row.get("created_at"),
            })
            .collect())
    }
}

fn index_of<'a>(plans: &mut Vec<&'a Arc<TemplateRows>>, plan: &'a Arc<TemplateRows>) -> i32 {
    let known = plans.iter().position(|p| Arc::ptr_eq(p, plan));
    known.unwrap_or_else(|| {
        plans.push(plan);
        plans.len() - 1
    }) as i32
}

/// A PostgreSQL array literal of texts.
fn text_array(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|t| format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
}
