//! Submit: creates a task with all its steps from a request. The task is durable when the verb returns.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use semver::Version;
use tasker_domain::{
    did_you_mean,
    request::{TaskRequest, key_identity, message_identity, strict_identity},
    template::IdentityStrategy,
    token::TemplateRef,
};
use tasker_process::Batcher;
use tasker_queue::{InProcess, Outgoing, Queue};
use tasker_store::{DispatchSettings, InsertedTask as Inserted, NewTask, Store, StoreError, StoredTemplate, TaskHeader};
use tasker_wire::{Fault, Faults, StepNo, TaskId, TaskState, message::Lease};
use uuid::Uuid;

use crate::{Engine, React, Reaction, templates::LoadedTemplate, wait::Waiter, work::Work};

/// The number of tries of an insert while the database does not answer.
const TRIES: usize = 2;
/// A try that failed later than this is the last one: its caller waits.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Names among which a near one is searched.
const NAMES: i64 = 1_000;
/// Concurrent inserts. More would share the same connections in smaller batches.
const STATEMENTS: usize = 2;
/// The rows of one insert, tasks and steps together. A larger task is inserted alone.
const ROWS: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    pub task: TaskId,
    /// Whether this request created it.
    pub created: bool,
    /// The steps that it began with.
    pub steps: usize,
}

/// Why a request created no task.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("Task template not found: {namespace}/{name}{}{hint}", version.as_ref().map(|v| format!(" {v}")).unwrap_or_default())]
    UnknownTemplate {
        namespace: String,
        name: String,
        version: Option<String>,
        /// The registered versions.
        known: Vec<String>,
        /// A near name, as the end of a sentence; empty without one.
        hint: String,
    },
    /// The template rejects the request.
    #[error("{0}")]
    Invalid(Faults),
    #[error("a task of the same identity exists: {task} is {state}")]
    Duplicate { task: TaskId, state: TaskState },
    /// Too many steps wait for workers.
    #[error("too many steps wait for workers")]
    Full,
    /// The database did not answer. The task may have been created.
    #[error("the database did not confirm the task {task}; it may exist")]
    Unconfirmed { task: TaskId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tasks of concurrent requests are inserted by one statement, with one commit.
pub(crate) type Submits = Batcher<Arc<NewTask>, Result<Inserted, StoreError>>;

pub(crate) fn together() -> Arc<Submits> {
    Batcher::new(STATEMENTS, ROWS, |new| 1 + new.rows.no.len())
}

impl<Q: Queue> Engine<Q> {
    /// Creates a task and dispatches its roots. The task is durable when this returns.
    pub async fn submit(self: &Arc<Self>, request: TaskRequest, traceparent: Option<String>) -> Result<Submitted, SubmitError> {
        Ok(self.submit_watched(request, traceparent).await?.0)
    }

    /// The same, with a waiter that was registered before the roots were dispatched: see [`Engine::wait_for`].
    pub async fn submit_watched(
        self: &Arc<Self>,
        request: TaskRequest,
        traceparent: Option<String>,
    ) -> Result<(Submitted, Waiter), SubmitError> {
        if self.settings.in_process.as_ref().is_some_and(InProcess::is_full) {
            return Err(SubmitError::Full);
        }
        self.to_its_end(|engine| async move {
            let template = engine.template_for(&request).await?;
            let identity = identity(&request, &template)?;
            let mut new = Arc::new(new_task(request, traceparent, &template, identity));
            let (mut tries, mut unanswered, begun) = (0, false, Instant::now());
            loop {
                // Before the dispatch, because the task may finish immediately after it.
                let waiter = engine.waiters.enter(new.task);
                let (store, settings) = (engine.store.clone(), engine.dispatch_settings());
                let inserted = engine.submits.call(new.clone(), move |tasks| insert(store.clone(), tasks, settings)).await;
                // `None` if the batch panicked. Its tasks may have been inserted.
                let row = match inserted.unwrap_or_else(|| Err(StoreError::Unanswered("the batch panicked".into()))) {
                    Ok(row) => row,
                    Err(error) => {
                        tries += 1;
                        unanswered |= matches!(error, StoreError::Unanswered(_));
                        let again = matches!(error, StoreError::Unanswered(_) | StoreError::Unavailable(_));
                        match again && tries < TRIES && begun.elapsed() < AT_ONCE {
                            true => continue,
                            // An answer that is not lost says that nothing was inserted; a lost one says nothing.
                            false if unanswered => return Err(SubmitError::Unconfirmed { task: new.task }),
                            false => return Err(error.into()),
                        }
                    }
                };
                if !row.created && row.task == new.task && !unanswered {
                    // Another task has this random id: draw another one.
                    new = Arc::new(NewTask { task: fresh_task(), ..NewTask::clone(&new) });
                    continue;
                }
                if row.task != new.task {
                    return Err(SubmitError::Duplicate { task: row.task, state: row.state });
                }
                tracing::debug!(
                    task_id = %new.task,
                    template = new.rows.identity[1],
                    correlation_id = %new.correlation_id,
                    traceparent = new.traceparent,
                    "task accepted"
                );
                if row.dispatched {
                    engine.dispatch(Work::to_send(engine.roots(&new, template))).await?;
                } else if !row.created {
                    // The row is from an unanswered try of ours, and its roots may not have been sent.
                    engine.recover_soon();
                }
                if row.state.is_finished() {
                    engine.waiters.wake(row.task);
                }
                return Ok((Submitted { task: row.task, created: true, steps: new.rows.no.len() }, waiter));
            }
        })
        .await
    }

    async fn template_for(&self, request: &TaskRequest) -> Result<Arc<LoadedTemplate>, SubmitError> {
        let revisions = self.templates.revisions(&self.store, &request.namespace, &request.name).await?;
        if let Some(revision) = choose(&revisions, request.version.as_ref()) {
            let reference = TemplateRef { template_id: revision.template_id, environment: self.settings.environment.clone() };
            if let Some(template) = self.templates.get(&self.store, &reference).await? {
                return Ok(template);
            }
        }
        let version = request.version.as_ref().map(Version::to_string);
        let known: Vec<String> = revisions.iter().map(|r| r.version.clone()).collect();
        let hint = match &version {
            Some(version) if !known.is_empty() => did_you_mean(version, known.iter().map(String::as_str)),
            None if !known.is_empty() => String::new(),
            _ => self.near_template(&request.namespace, &request.name).await?,
        };
        let (namespace, name) = (request.namespace.clone(), request.name.clone());
        Err(SubmitError::UnknownTemplate { namespace, name, version, known, hint })
    }

    /// The template that an unknown name probably means, as the end of a sentence: one of a near name, or one of this name elsewhere.
    pub async fn near_template(&self, namespace: &str, name: &str) -> Result<String, StoreError> {
        let names = self.store.template_names(NAMES).await?;
        let whole: Vec<String> = names.iter().map(|[namespace, name]| format!("{namespace}/{name}")).collect();
        let hint = did_you_mean(&format!("{namespace}/{name}"), whole.iter().map(String::as_str));
        let elsewhere = || names.iter().zip(&whole).find(|([_, other], _)| other == name).map(|(_, whole)| whole);
        Ok(match hint.is_empty() {
            true => elsewhere().map(|whole| format!("; did you mean {whole}?")).unwrap_or_default(),
            false => hint,
        })
    }

    /// The messages of a new task's roots, made from the request without a read.
    fn roots(&self, new: &NewTask, template: Arc<LoadedTemplate>) -> Vec<Outgoing> {
        let header = TaskHeader {
            task: new.task,
            template: new.rows.template.clone(),
            correlation_id: new.correlation_id,
            traceparent: new.traceparent.clone(),
            context: new.context.clone(),
        };
        let task = (header, template);
        let roots = new.rows.no.iter().zip(&new.rows.parents).filter(|(_, parents)| *parents == "{}");
        let message = |(&no, _): (&StepNo, _)| {
            let lease = Lease { step: new.task.step(no), number: 1 };
            let step = task.1.step(lease.step)?;
            Some(self.to_pool(step, self.run_step(&task, step, lease, 1)))
        };
        roots.filter_map(message).collect()
    }
}

fn new_task(request: TaskRequest, traceparent: Option<String>, template: &LoadedTemplate, identity: Option<[u8; 32]>) -> NewTask {
    NewTask {
        task: fresh_task(),
        rows: template.rows.clone(),
        identity,
        context: request.context.into(),
        priority: request.priority,
        tags: request.tags,
        initiator: request.initiator,
        source_system: request.source_system,
        reason: request.reason,
        correlation_id: request.correlation_id.unwrap_or_else(Uuid::now_v7),
        parent_correlation_id: request.parent_correlation_id,
        traceparent,
    }
}

/// Inserts the tasks of concurrent requests. Returns one answer per task.
async fn insert(store: Store, tasks: Vec<Arc<NewTask>>, settings: DispatchSettings) -> Vec<Result<Inserted, StoreError>> {
    let error = match store.submit(&tasks, settings).await {
        Ok(rows) if rows.len() == tasks.len() => return rows.into_iter().map(Ok).collect(),
        Ok(rows) => StoreError::Bug(format!("submit answered {} rows for {} tasks", rows.len(), tasks.len())),
        Err(error) => error,
    };
    if tasks.len() == 1 || error.reaction() == Reaction::Later {
        return tasks.iter().map(|_| Err(error.clone())).collect();
    }
    // A task that cannot be stored must not affect the others.
    let mut answers = Vec::with_capacity(tasks.len());
    for task in &tasks {
        let alone = store.submit(std::slice::from_ref(task), settings).await;
        answers.push(
            alone.and_then(|rows| rows.into_iter().next().ok_or_else(|| StoreError::Bug("submit answered nothing".into()))),
        );
    }
    answers
}

/// The named version, or the highest one that is not a pre-release.
fn choose<'a>(revisions: &'a [StoredTemplate], version: Option<&Version>) -> Option<&'a StoredTemplate> {
    match version {
        Some(version) => {
            let version = version.to_string();
            revisions.iter().find(|r| r.version == version)
        }
        None => revisions
            .iter()
            .filter_map(|r| Version::parse(&r.version).ok().filter(|v| v.pre.is_empty()).map(|v| (v, r)))
            .max_by(|(a, _), (b, _)| a.cmp(b))
            .map(|(_, r)| r),
    }
}

/// The identity of a request's task. Checks the context against the template's schema first.
fn identity(request: &TaskRequest, template: &LoadedTemplate) -> Result<Option<[u8; 32]>, SubmitError> {
    let workflow = &template.workflow;
    if workflow.input_schema.is_some() {
        let context = serde_json::from_str(request.context.get()).map_err(|e| invalid("/context", e.to_string()))?;
        let faults = workflow.refuse_context(&context);
        if !faults.is_empty() {
            return Err(SubmitError::Invalid(Faults(faults)));
        }
    }
    if let Some(key) = &request.idempotency_key {
        return Ok(Some(key_identity(&workflow.namespace, &workflow.name, key)));
    }
    match workflow.identity_strategy {
        IdentityStrategy::Strict => {
            Ok(Some(strict_identity(&workflow.namespace, &workflow.name, &workflow.version, request.context.get())))
        }
        // Each message is a task of its own, but each delivery of it is not.
        IdentityStrategy::AlwaysUnique => {
            Ok(request.message_id.as_ref().map(|id| message_identity(&workflow.namespace, &workflow.name, id)))
        }
        IdentityStrategy::CallerProvided => {
            Err(invalid("/idempotency_key", "the template's identity_strategy is caller_provided: give a key".into()))
        }
    }
}

fn invalid(place: &str, message: String) -> SubmitError {
    SubmitError::Invalid(Fault::new(place, message).into())
}

fn fresh_task() -> TaskId {
    TaskId::from_fresh(Uuid::now_v7())
}
