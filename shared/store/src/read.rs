//! What is read to be shown. Nothing here decides anything: the verbs read for themselves what they need.

use jiff::Timestamp;
use serde_json::{Value, value::RawValue};
use tasker_wire::{StepId, StepState, TaskId, TaskState, limits, outcome::Failure};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    change::{raw, task_id, task_state},
};

/// Which tasks a list has; what is not set does not matter.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of the template.
    pub namespace: Option<String>,
    /// Of the template.
    pub name: Option<String>,
    /// Any of these.
    pub states: Option<Vec<TaskState>>,
    /// Who asked.
    pub initiator: Option<String>,
    /// From where.
    pub source_system: Option<String>,
}

/// A task, and how its steps stand.
#[derive(Debug)]
pub struct Task {
    /// Its id.
    pub task: TaskId,
    /// The template's namespace.
    pub namespace: String,
    /// The template's name.
    pub name: String,
    /// The template's version.
    pub version: String,
    /// The environment it was submitted in.
    pub environment: String,
    /// Where it stands.
    pub state: TaskState,
    /// It, its template or its namespace is paused.
    pub paused: bool,
    /// Missing when the contexts of a page are too large together.
    pub context: Option<Box<RawValue>>,
    /// As submitted.
    pub priority: Option<i32>,
    /// As submitted.
    pub tags: Vec<String>,
    /// As submitted.
    pub initiator: String,
    /// As submitted.
    pub source_system: String,
    /// As submitted.
    pub reason: String,
    /// The same in every step, message and log line.
    pub correlation_id: Uuid,
    /// Of whatever led to this task.
    pub parent_correlation_id: Option<Uuid>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it or a step of it last moved.
    pub updated_at: Timestamp,
    /// When it finished.
    pub finished_at: Option<Timestamp>,
    /// How its steps stand.
    pub steps: StepCounts,
}

/// How many steps of a task stand where. All but `ready` add up to `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// All.
    pub total: i64,
    /// Pending.
    pub pending: i64,
    /// Waiting for a retry.
    pub waiting_for_retry: i64,
    /// Handed over, or reported as started.
    pub in_progress: i64,
    /// Complete, settled by an operator, or failed and tolerated.
    pub done: i64,
    /// Failed for good.
    pub failed: i64,
    /// Cancelled.
    pub cancelled: i64,
    /// Of the pending and waiting ones: nothing but a hand-over is missing.
    pub ready: i64,
}

/// A step with its last answer.
#[derive(Debug)]
pub struct Step {
    /// Its id.
    pub step: StepId,
    /// Its template's namespace and name.
    pub template: [String; 2],
    /// Where its task stands.
    pub task_state: TaskState,
    /// When its task was submitted.
    pub created_at: Timestamp,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Tries begun.
    pub attempt: i32,
    /// Tries in all.
    pub max_attempts: i32,
    /// Steps that it waits for.
    pub parents: i32,
    /// Of those, the ones that are not done.
    pub pending_parents: i32,
    /// It failed, and counts as done.
    pub tolerated: bool,
    /// When its retry is due, while it waits for one.
    pub retry_at: Option<Timestamp>,
    /// Its retry is due.
    pub retry_due: bool,
    /// When it was last handed over.
    pub handed_over_at: Option<Timestamp>,
    /// When a worker reported its start.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its result; missing when it has none, and when the results of a list are too large together.
    pub result: Option<Box<RawValue>>,
    /// It has a result, which is not here.
    pub result_omitted: bool,
    /// The last answer that counted: a result or a failure.
    pub answer: Option<StepAnswer>,
    /// When it last failed.
    pub failed_at: Option<Timestamp>,
}

/// What a worker said of a try.
#[derive(Debug)]
pub struct StepAnswer {
    /// Why it failed; missing when it succeeded.
    pub failure: Option<Failure>,
    /// What the handler said beside its result.
    pub metadata: Option<Value>,
    /// Who ran it.
    pub worker: String,
    /// Milliseconds that it ran.
    pub duration_ms: i64,
    /// When it was recorded.
    pub answered_at: Timestamp,
}

/// An operator settled a step.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The step.
    pub step: StepId,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// More, as the operator gave it.
    pub metadata: Option<Value>,
}

/// A version of a template, in a list.
#[derive(Debug)]
pub struct TemplateVersion {
    /// Namespace, name and version.
    pub identity: [String; 3],
    /// As in the file.
    pub description: Option<String>,
    /// Steps that it declares.
    pub steps: i64,
}

/// The newest revision of a version of a template.
#[derive(Debug)]
pub struct TemplateRevision {
    /// Its id.
    pub template_id: Uuid,
    /// From 1.
    pub revision: i32,
    /// JSON, as registered.
    pub definition: Box<RawValue>,
    /// When it was registered.
    pub created_at: Timestamp,
}

impl Store {
    /// A page of tasks, newest first; `page` from 0.
    pub async fn tasks(&self, filter: &TaskFilter, page: u32, per_page: u32) -> Result<Vec<Task>, StoreError> {
        let states = state_words(filter);
        let (rows, skip) = (i64::from(per_page), i64::from(page) * i64::from(per_page));
        let mut params = filter_params(filter, &states);
        params.extend([(&rows as _, Type::INT8), (&skip as _, Type::INT8)]);
        let rows = self.query(include_str!("../sql/list_tasks.sql"), &params).await?;
        let ids: Vec<Uuid> = rows.iter().map(|r| r.get(0)).collect();
        self.tasks_by_id(&ids, limits::LISTED_BYTES as i64).await
    }

    /// How many tasks there are, up to [`limits::COUNTED_ROWS`].
    pub async fn count_tasks(&self, filter: &TaskFilter) -> Result<i64, StoreError> {
        let states = state_words(filter);
        let mut params = filter_params(filter, &states);
        params.push((&limits::COUNTED_ROWS, Type::INT8));
        let rows = self.query(include_str!("../sql/count_tasks.sql"), &params).await?;
        Ok(rows.first().map_or(0, |r| r.get(0)))
    }

    async fn tasks_by_id(&self, ids: &[Uuid], context_bytes: i64) -> Result<Vec<Task>, StoreError> {
        let params = [(&ids as _, Type::UUID_ARRAY), (&context_bytes as _, Type::INT8)];
        let rows = self.query(include_str!("../sql/get_tasks.sql"), &params).await?;
        Ok(rows.iter().map(read_task).collect())
    }

    /// Every step of a task, in topological order, with results up to so many bytes together; none: there is no such task.
    pub async fn steps(&self, task: TaskId, result_bytes: i64) -> Result<Option<Vec<Step>>, StoreError> {
        self.steps_where(task, None, result_bytes).await
    }

    /// A step with its result, or none.
    pub async fn step(&self, step: StepId) -> Result<Option<Step>, StoreError> {
        Ok(self.steps_where(step.task, Some(step.no), i64::MAX).await?.and_then(|mut steps| steps.pop()))
    }

    async fn steps_where(&self, task: TaskId, no: Option<i32>, result_bytes: i64) -> Result<Option<Vec<Step>>, StoreError> {
        let params = [(&task.uuid() as _, Type::UUID), (&no as _, Type::INT4), (&result_bytes as _, Type::INT8)];
        let rows = self.query(include_str!("../sql/list_steps.sql"), &params).await?;
        Ok((!rows.is_empty()).then(|| rows.iter().filter_map(|row| read_step(task, row)).collect()))
    }

    /// Who settled steps of a task: the last one for each step.
    pub async fn resolutions(&self, task: TaskId) -> Result<Vec<Resolution>, StoreError> {
        let rows = self.query(include_str!("../sql/list_resolutions.sql"), &[(&task.uuid(), Type::UUID)]).await?;
        let read = |r: &Row| Resolution {
            step: task.step(r.get(0)),
            actor: r.get(1),
            reason: r.get(2),
            at: r.get(3),
            metadata: r.get(4),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// The newest revision of every version of every template, at most [`limits::LISTED_TEMPLATES`].
    pub async fn templates(&self, namespace: Option<&str>) -> Result<Vec<TemplateVersion>, StoreError> {
        let params = [(&namespace as _, Type::TEXT), (&limits::LISTED_TEMPLATES as _, Type::INT8)];
        let rows = self.query(include_str!("../sql/list_templates.sql"), &params).await?;
        let read = |r: &Row| TemplateVersion {
            identity: [r.get(0), r.get(1), r.get(2)],
            description: r.get("description"),
            steps: i64::from(r.get::<_, i32>("steps")),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Namespaces that have templates, with how many versions of templates each has.
    pub async fn namespaces(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = self.query(include_str!("../sql/count_templates.sql"), &[]).await?;
        Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
    }

    /// The newest revision of a version of a template.
    pub async fn template(&self, namespace: &str, name: &str, version: &str) -> Result<Option<TemplateRevision>, StoreError> {
        let params = [(&namespace as _, Type::TEXT), (&name as _, Type::TEXT), (&version as _, Type::TEXT)];
        let rows = self.query(include_str!("../sql/get_template.sql"), &params).await?;
        let read = |r: &Row| TemplateRevision {
            template_id: r.get("template_id"),
            revision: r.get("revision"),
            definition: raw(r.get("definition")),
            created_at: r.get("created_at"),
        };
        Ok(rows.first().map(read))
    }

    /// The database's time: it answers, and has our schema. Asked about its health, the process waits for no reader.
    pub async fn ping(&self) -> Result<Timestamp, StoreError> {
        let rows = self.advance_unprepared(include_str!("../sql/ping.sql"), &[]).await?;
        rows.first().map(|r| r.get(0)).ok_or_else(|| StoreError::Bug("the clock answered nothing".into()))
    }
}

fn state_words(filter: &TaskFilter) -> Option<Vec<&'static str>> {
    filter.states.as_ref().map(|states| states.iter().map(|s| s.as_str()).collect())
}

fn filter_params<'a>(filter: &'a TaskFilter, states: &'a Option<Vec<&'static str>>) -> Vec<crate::pool::Param<'a>> {
    vec![
        (&filter.namespace, Type::TEXT),
        (&filter.name, Type::TEXT),
        (states, Type::TEXT_ARRAY),
        (&filter.initiator, Type::TEXT),
        (&filter.source_system, Type::TEXT),
    ]
}

fn read_task(row: &Row) -> Task {
    Task {
        task: task_id(row.get("task_id")),
        namespace: row.get("namespace"),
        name: row.get("name"),
        version: row.get("version"),
        environment: row.get("environment"),
        state: task_state(row.get("state")),
        paused: row.get("paused"),
        context: row.get::<_, Option<String>>("context").map(raw),
        priority: row.get("priority"),
        tags: row.get("tags"),
        initiator: row.get("initiator"),
        source_system: row.get("source_system"),
        reason: row.get("reason"),
        correlation_id: row.get("correlation_id"),
        parent_correlation_id: row.get("parent_correlation_id"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        finished_at: row.get("finished_at"),
        steps: StepCounts {
            total: i64::from(row.get::<_, i32>("total_steps")),
            pending: row.get("pending"),
            waiting_for_retry: row.get("waiting_for_retry"),
            in_progress: row.get("in_progress"),
            done: row.get("done"),
            failed: row.get("failed"),
            cancelled: row.get("cancelled"),
            ready: row.get("ready"),
        },
    }
}

/// A row without a step stands for a task that has none.
fn read_step(task: TaskId, row: &Row) -> Option<Step> {
    let no: Option<i32> = row.get("no");
    let state = StepState::parse(row.get::<_, Option<&str>>("state")?).expect("a CHECK allows only known states");
    let result = row.get::<_, Option<String>>("result").map(raw);
    Some(Step {
        step: task.step(no?),
        template: [row.get("namespace"), row.get("template")],
        task_state: task_state(row.get("task_state")),
        created_at: row.get("created_at"),
        name: row.get("name"),
        state,
        attempt: row.get("attempt"),
        max_attempts: row.get("max_attempts"),
        parents: row.get("parents"),
        pending_parents: row.get("pending_parents"),
        tolerated: row.get("tolerated"),
        retry_at: row.get("retry_at"),
        retry_due: row.get("retry_due"),
        handed_over_at: row.get("handed_over_at"),
        started_at: row.get("started_at"),
        finished_at: row.get("finished_at"),
        result_omitted: result.is_none() && row.get::<_, i32>("result_bytes") > 0,
        result,
        answer: row.get::<_, Option<&str>>("outcome").map(|outcome| StepAnswer {
            failure: (outcome == "failure").then(|| read_failure(row.get("error"))),
            worker: row.get("worker"),
            metadata: row.get("metadata"),
            duration_ms: row.get("duration_ms"),
            answered_at: row.get("answered_at"),
        }),
        failed_at: row.get("failed_at"),
    })
}

/// A failure as it was recorded. One that an older version recorded otherwise is shown as it is.
fn read_failure(text: Option<&str>) -> Failure {
    let text = text.unwrap_or("null");
    serde_json::from_str(text).unwrap_or_else(|_| Failure::permanent("unknown", text))
}
