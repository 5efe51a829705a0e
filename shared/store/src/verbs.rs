//! The calls that move tasks. Each is one statement.

use std::{borrow::Borrow, sync::Arc};

use jiff::Timestamp;
use serde_json::value::RawValue;
use tasker_domain::{Verdict, decide::Again, token::TemplateRef};
use tasker_wire::{StepNo, TaskId, TaskState, message::Lease, outcome::Failure};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    Change, Store, StoreError,
    change::{task_id, task_state},
};

/// The steps of a template in an environment, as rows; made once and inserted for every task of it.
#[derive(Debug)]
pub struct TemplateRows {
    /// Which template and environment.
    pub plan: TemplateRef,
    /// The template's namespace, name and version.
    pub identity: [String; 3],
    /// Of each step, in topological order.
    pub no: Vec<StepNo>,
    /// Of each step.
    pub name: Vec<String>,
    /// Of each step.
    pub max_attempts: Vec<i32>,
    /// Of each step: the numbers of its parents, as a PostgreSQL array literal.
    pub parents: Vec<String>,
    /// Of each step, likewise.
    pub children: Vec<String>,
    /// Of each step, likewise.
    pub further_ancestors: Vec<String>,
    /// Steps without parents.
    pub roots: i32,
}

/// A task to be inserted.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its id, drawn by the caller.
    pub task: TaskId,
    /// Its steps.
    pub plan: Arc<TemplateRows>,
    /// What makes it the same as another one; none: it is always its own.
    pub identity: Option<[u8; 32]>,
    /// JSON text.
    pub context: Arc<RawValue>,
    /// For operators.
    pub priority: Option<i32>,
    /// For operators.
    pub tags: Vec<String>,
    /// Who asked.
    pub initiator: String,
    /// From where.
    pub source_system: String,
    /// Why.
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
    /// Its state.
    pub state: TaskState,
    /// It was inserted by this very call.
    pub created: bool,
    /// Its roots are handed over (not held by a pause).
    pub handed_over: bool,
    /// When it was inserted.
    pub created_at: Timestamp,
}

/// A verdict on the step that was dispatched under a lease. It borrows a result from the message that brought it.
#[derive(Debug)]
pub struct Completion<'a> {
    pub key: Lease,
    /// As the signed token has it.
    pub attempt: i32,
    pub verdict: Verdict<'a>,
    /// What the handler said beside its result, as JSON text.
    pub metadata: Option<&'a RawValue>,
    /// Of the outcome: tells the same one sent twice from another one.
    pub digest: i64,
    pub worker: String,
    /// Milliseconds that the handler ran.
    pub duration_ms: i64,
    /// Apply it only if the step's deadline has passed still.
    pub if_due: bool,
}

impl<'a> Completion<'a> {
    /// What the orchestrator itself says of a step that no worker answers for.
    pub fn by_orchestrator(key: Lease, attempt: i32, verdict: Verdict<'a>) -> Self {
        Self { key, attempt, verdict, metadata: None, digest: 0, worker: "tasker".into(), duration_ms: 0, if_due: false }
    }
}

/// What every call that hands steps over needs to know.
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
            .call(
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
                handed_over: row.get("handed_over"),
                created_at: row.get("created_at"),
            })
            .collect())
    }

    /// Applies verdicts; they must be ascending by step, one a step.
    pub async fn complete(&self, batch: &[Completion<'_>], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        debug_assert!(batch.is_sorted_by(|a, b| a.key.step < b.key.step));
        let applied: Vec<Columns> = batch.iter().map(|c| columns(&c.verdict)).collect();
        let rows = self
            .advance(
                include_str!("../sql/complete.sql"),
                &[
                    (&batch.iter().map(|c| c.key.step.task.uuid()).collect::<Vec<_>>(), Type::UUID_ARRAY),
                    (&batch.iter().map(|c| c.key.step.no).collect::<Vec<_>>(), Type::INT4_ARRAY),
                    (&batch.iter().map(|c| c.key.number).collect::<Vec<_>>(), Type::INT4_ARRAY),
                    (&batch.iter().map(|c| c.attempt).collect::<Vec<_>>(), Type::INT4_ARRAY),
                    (&applied.iter().map(|c| c.word).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&applied.iter().map(|c| c.delay_ms).collect::<Vec<_>>(), Type::INT8_ARRAY),
                    (&applied.iter().map(|c| c.body).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&applied.iter().map(|c| c.error.as_deref()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&batch.iter().map(|c| c.metadata.map(RawValue::get)).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&batch.iter().map(|c| c.digest).collect::<Vec<_>>(), Type::INT8_ARRAY),
                    (&batch.iter().map(|c| c.worker.as_str()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
                    (&batch.iter().map(|c| c.duration_ms).collect::<Vec<_>>(), Type::INT8_ARRAY),
                    (&batch.iter().map(|c| c.if_due).collect::<Vec<_>>(), Type::BOOL_ARRAY),
                    (&settings.send_ms, Type::INT8),
                    (&settings.bodies, Type::INT4),
                    (&settings.input_bytes, Type::INT8),
                ],
            )
            .await?;
        Ok(rows.iter().map(Change::read).collect())
    }

    /// Hands over steps whose retry is due under these leases.
    pub async fn hand_over(&self, keys: &[Lease], settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let keys = Keys::sorted(keys);
        let rows = self
            .advance(
                include_str!("../sql/hand_over.sql"),
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
        Ok(rows.iter().map(Change::read).collect())
    }

    /// Takes up at most `rows` steps whose time has passed.
    pub async fn sweep(&self, rows: i64, settings: DispatchSettings) -> Result<Vec<Change>, StoreError> {
        let rows = self
            .advance(
                include_str!("../sql/sweep.sql"),
                &[
                    (&rows, Type::INT8),
                    (&settings.send_ms, Type::INT8),
                    (&settings.bodies, Type::INT4),
                    (&settings.input_bytes, Type::INT8),
                ],
            )
            .await?;
        Ok(rows.iter().map(Change::read).collect())
    }

    /// Loads the messages of steps that are handed over still; in no order.
    pub async fn messages(&self, keys: &[Lease], input_bytes: i64) -> Result<Vec<Change>, StoreError> {
        let keys = Keys::sorted(keys);
        let params = [(&keys.tasks as _, Type::UUID_ARRAY), (&keys.nos as _, Type::INT4_ARRAY), (&input_bytes as _, Type::INT8)];
        let rows = self.advance_unprepared(include_str!("../sql/messages.sql"), &params).await?;
        Ok(rows.iter().map(Change::read).collect())
    }

    /// The queue accepted these hand-overs: the sweep looks at each again only after its milliseconds.
    pub async fn sent(&self, sent: &[(Lease, i64)]) -> Result<(), StoreError> {
        let sent = latest(sent, |(key, _)| *key);
        let keys = Keys::sorted(&sent.iter().map(|(k, _)| *k).collect::<Vec<_>>());
        let ms: Vec<i64> = sent.iter().map(|(_, ms)| *ms).collect();
        let params = [
            (&keys.tasks as _, Type::UUID_ARRAY),
            (&keys.nos as _, Type::INT4_ARRAY),
            (&keys.leases as _, Type::INT4_ARRAY),
            (&ms as _, Type::INT8_ARRAY),
        ];
        self.advance_unprepared(include_str!("../sql/sent.sql"), &params).await.map(drop)
    }

    /// A page of the hand-overs that only a queue inside this process knows of, after `last`.
    pub async fn unsent(&self, last: Option<Lease>, rows: i64) -> Result<Vec<Lease>, StoreError> {
        let (task, no) = last.map_or((Uuid::nil(), -1), |k| (k.step.task.uuid(), k.step.no));
        let params = [(&task as _, Type::UUID), (&no as _, Type::INT4), (&rows as _, Type::INT8)];
        let rows = self.advance_unprepared(include_str!("../sql/unsent.sql"), &params).await?;
        Ok(rows.iter().map(|r| Lease { step: task_id(r.get(0)).step(r.get(1)), number: r.get(2) }).collect())
    }

    /// Returns what a predecessor of this process had under way to the hand-overs that only this process knows of.
    pub async fn return_started(&self) -> Result<(), StoreError> {
        self.advance_unprepared(include_str!("../sql/return_started.sql"), &[]).await.map(drop)
    }

    /// Where a task stands; none when there is no such task.
    pub async fn task_state(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        let rows = self.query(include_str!("../sql/task_state.sql"), &[(&task.uuid(), Type::UUID)]).await?;
        Ok(rows.first().map(|r| task_state(r.get("state"))))
    }

    /// Ends a running task.
    pub async fn cancel_task(&self, task: TaskId, actor: &str, reason: &str) -> Result<Vec<Change>, StoreError> {
        let params = [(&task.uuid() as _, Type::UUID), (&actor as _, Type::TEXT), (&reason as _, Type::TEXT)];
        let rows = self.query(include_str!("../sql/cancel_task.sql"), &params).await?;
        Ok(rows.iter().map(Change::read).collect())
    }

    /// Gives a step a new budget.
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
        let rows = self.query(include_str!("../sql/retry_step.sql"), &params).await?;
        Ok(rows.iter().map(Change::read).collect())
    }

    /// Settles a step; `result` and `metadata` are JSON texts or none.
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
        let rows = self.query(include_str!("../sql/resolve_step.sql"), &params).await?;
        Ok(rows.iter().map(Change::read).collect())
    }
}

/// Hand-overs as columns, ascending by step: the order in which rows are locked everywhere.
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

/// A verdict as `complete_v1` takes it.
struct Columns<'a> {
    word: &'static str,
    delay_ms: i64,
    body: Option<&'a str>,
    error: Option<String>,
}

fn columns<'a>(verdict: &'a Verdict<'_>) -> Columns<'a> {
    let none = Columns { word: "", delay_ms: 0, body: None, error: None };
    let json = |f: &Failure| Some(serde_json::to_string(f).expect("a failure serializes"));
    match verdict {
        Verdict::Complete(result) => Columns { word: "complete", body: Some(result.get()), ..none },
        Verdict::Retry(delay, failure) => Columns { word: "retry", delay_ms: *delay as i64, error: json(failure), ..none },
        Verdict::Error { failure, tolerated: false } => Columns { word: "error", error: json(failure), ..none },
        Verdict::Error { failure, tolerated: true } => Columns { word: "tolerated", error: json(failure), ..none },
        Verdict::DispatchAgain(Again::Checkpoint(text)) => Columns { word: "checkpoint", body: Some(text.get()), ..none },
        Verdict::DispatchAgain(Again::Released) => Columns { word: "released", ..none },
        Verdict::DispatchAgain(Again::WorkerLost) => Columns { word: "lost", ..none },
        Verdict::Started(delay) => Columns { word: "started", delay_ms: *delay as i64, ..none },
        Verdict::AwaitCallback(delay) => Columns { word: "callback", delay_ms: *delay as i64, ..none },
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
