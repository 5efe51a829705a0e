//! The operator actions.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{json, value::RawValue};
use tasker_domain::{dynamic::Redo, json as json_text};
use tasker_queue::Queue;
use tasker_store::{Change, Effect, Operation, Planned, StepRisks, StoreError};
use tasker_wire::{Failure, Fault, Faults, Outcome, StepId, StepNo, StepState, TaskId, ids::step_no, limits};
use uuid::Uuid;

use crate::{Engine, expand::decided, templates::LoadedTemplate, work::Work};

/// Who acts, and why. Both are written to the audit log.
#[derive(Debug, Clone)]
pub struct By {
    pub actor: String,
    pub reason: String,
    /// More data, as JSON. The audit log keeps it.
    pub metadata: Option<Box<RawValue>>,
}

/// An action on a task or a step.
#[derive(Debug, Clone)]
pub enum OperatorAction {
    /// Ends a running task. Has no effect on a cancelled one.
    CancelTask,
    /// Gives the cancelled steps of a cancelled or failed task a new budget, and goes on.
    ReopenTask,
    /// Ends a failed task without changing its steps.
    ResolveTask,
    /// Holds the dispatches of a running task.
    PauseTask,
    /// Dispatches what a pause of the task held.
    ResumeTask,
    /// Writes a line to the audit log, and does nothing.
    Note,
    /// Gives the failed and cancelled steps of a failed task a new budget, or the step of a running task that waits for its retry, and closes
    /// the entry about it.
    RecoverTask { entry: Uuid },
    /// Corrects what a defect made of the rows of a running task.
    RepairTask,
    /// Ends a running task as an error, if what made it stale is still so.
    ExpireTask {
        /// As in the function `expire_task`.
        stale: Box<RawValue>,
    },
    /// Resets the attempts of a step that failed, waits for a retry or was cancelled, and dispatches it.
    RetryStep {
        /// Its own inputs from now on. Without them its checkpoint is kept.
        inputs: Option<Box<RawValue>>,
    },
    /// Sets back a step and everything after it, and dispatches the step. What a decision or batch among them had made is deleted.
    RedoStep { inputs: Option<Box<RawValue>> },
    /// Resolves an unfinished or failed step. Its children receive `result`, or null. Of a decision or a batchable, the result says what is
    /// made; without an outcome in it, nothing is.
    ResolveStep { result: Option<Box<RawValue>> },
    /// The same with the result of a success under this lease, which came too late.
    ResolveStepAsLate { lease: i32 },
}

impl OperatorAction {
    /// The word for it in the audit log.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::CancelTask => "cancel_task",
            Self::ReopenTask => "reopen_task",
            Self::ResolveTask => "resolve_task",
            Self::PauseTask => "pause_task",
            Self::ResumeTask => "resume_task",
            Self::Note => "note",
            Self::RecoverTask { .. } => "recover_task",
            Self::RepairTask => "repair_task",
            Self::ExpireTask { .. } => "expire_task",
            Self::RetryStep { .. } => "retry_step",
            Self::RedoStep { .. } => "redo_step",
            Self::ResolveStep { .. } | Self::ResolveStepAsLate { .. } => "resolve_step",
        }
    }
}

/// On what condition an action is carried out.
#[derive(Debug, Clone, Default)]
pub struct Precondition {
    /// [`Effects::seen`] of the dry run that the caller decided by. If anything of it has changed, nothing is done.
    pub seen: Option<String>,
    /// Only says what would change.
    pub dry_run: bool,
}

/// What an action changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// The steps whose state or lease changes, ascending.
    pub steps: Vec<Effect>,
    /// A digest of what this was computed from.
    pub seen: String,
}

/// Why an action was rejected.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("not found")]
    NotFound,
    /// Its state does not allow the action.
    #[error("{} is {state}", step.map_or_else(|| "the task".to_owned(), |s| format!("step {s}")))]
    Conflict {
        /// The step whose state does not allow it. `None`: the task's state does not.
        step: Option<StepId>,
        state: String,
    },
    /// What the caller saw has changed. The effects are those that the action would have now.
    #[error("what the action would do has changed since the dry run")]
    Changed(Effects),
    /// The given result or inputs cannot be used.
    #[error("{0}")]
    Invalid(Faults),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The further arguments of the function `operate_v1`.
#[derive(Default, Serialize)]
struct Arguments<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<Uuid>,
}

/// The argument `p_plan` of the function `redo_step`.
#[derive(Serialize)]
struct RedoText<'a> {
    others: Vec<StepNo>,
    seen: Vec<(StepNo, i32)>,
    touched: Vec<StepNo>,
    reset: &'a [StepNo],
    deleted: &'a [StepNo],
    parents: Vec<EdgeText<'a>>,
}

#[derive(Serialize)]
struct EdgeText<'a> {
    no: StepNo,
    parents: &'a [StepNo],
}

impl<Q: Queue> Engine<Q> {
    /// Cancels a running task. Has no effect on a cancelled task; any other finished task is a conflict.
    pub async fn cancel_task(self: &Arc<Self>, task: TaskId, by: By) -> Result<(), OperatorError> {
        self.operate((task, None), OperatorAction::CancelTask, by, Precondition::default()).await.map(drop)
    }

    /// Resets the attempts of a step that failed, waits for a retry or was cancelled, and dispatches it.
    pub async fn retry_step(self: &Arc<Self>, step: StepId, by: By) -> Result<(), OperatorError> {
        self.operate((step.task, Some(step)), OperatorAction::RetryStep { inputs: None }, by, Precondition::default())
            .await
            .map(drop)
    }

    /// Resolves an unfinished or failed step. Its children receive `result`, or null.
    pub async fn resolve_step(
        self: &Arc<Self>,
        step: StepId,
        result: Option<Box<RawValue>>,
        by: By,
    ) -> Result<(), OperatorError> {
        self.operate((step.task, Some(step)), OperatorAction::ResolveStep { result }, by, Precondition::default()).await.map(drop)
    }

    /// Carries out an action on a task or one of its steps, or only says what it would do.
    pub async fn operate(
        self: &Arc<Self>,
        (task, step): (TaskId, Option<StepId>),
        action: OperatorAction,
        by: By,
        condition: Precondition,
    ) -> Result<Effects, OperatorError> {
        refuse_arguments(&action, &by)?;
        self.to_its_end(|engine| async move {
            let (action, by) = engine.with_late_result(step, action, by).await?;
            let changes = engine.ask(task, step, &action, &by, &condition).await?;
            let effects = effects(&changes);
            match changes.first() {
                Some(Change::Done(_)) => {}
                Some(Change::Changed) => return Err(OperatorError::Changed(effects)),
                Some(Change::Conflict(step, state)) => return Err(OperatorError::Conflict { step: *step, state: state.clone() }),
                Some(Change::TooMany(steps)) => return Err(too_many(*steps)),
                _ => return Err(OperatorError::NotFound),
            }
            if !condition.dry_run {
                engine.dispatch(Work::of(changes)).await?;
                engine.forget(task, &effects);
            }
            Ok(effects)
        })
        .await
    }

    /// Replaces the lease of a late success by its result. The audit log names the lease, unless it keeps other metadata.
    async fn with_late_result(
        &self,
        step: Option<StepId>,
        action: OperatorAction,
        mut by: By,
    ) -> Result<(OperatorAction, By), OperatorError> {
        let (Some(step), OperatorAction::ResolveStepAsLate { lease }) = (step, &action) else { return Ok((action, by)) };
        let refused = |message: String| OperatorError::Invalid(Fault::new("/result_of_lease", message).into());
        let template = self.template_of(step).await?;
        if step.position().is_some_and(|position| template.workflow.deciders().contains(&position)) {
            return Err(refused(
                "of a decision or batchable, only the result is kept and not what it makes; give `result`".into(),
            ));
        }
        let late = self.store.late_result(step, *lease).await?;
        let late = late.ok_or_else(|| refused(format!("no success under lease {lease} came too late")))?;
        let too_large = || refused(format!("the result under lease {lease} was too large to be kept; give `result`"));
        let result = Some(late.ok_or_else(too_large)?);
        let named = || serde_json::value::to_raw_value(&json!({ "result_of_lease": lease })).expect("a number serializes");
        by.metadata.get_or_insert_with(named);
        Ok((OperatorAction::ResolveStep { result }, by))
    }

    /// Facts that speak against another attempt of a step, as sentences. Empty for an action that starts none.
    pub async fn warnings(&self, step: StepId, action: &OperatorAction) -> Result<Vec<String>, StoreError> {
        if !matches!(action, OperatorAction::RetryStep { .. } | OperatorAction::RedoStep { .. }) {
            return Ok(Vec::new());
        }
        Ok(self.store.step_risks(step).await?.map(|risks| warnings(&risks)).unwrap_or_default())
    }

    /// Asks the database. Plans again until no decision of the task came between.
    async fn ask(
        &self,
        task: TaskId,
        step: Option<StepId>,
        action: &OperatorAction,
        by: &By,
        condition: &Precondition,
    ) -> Result<Vec<Change>, OperatorError> {
        loop {
            let arguments = self.arguments(step, action, by).await?;
            let operation = Operation {
                args: &serde_json::to_string(&arguments).expect("raw values and numbers serialize"),
                seen: condition.seen.as_deref(),
                dry_run: condition.dry_run,
                ..Operation::new(action.verb(), (task, step.map(|step| step.no)), (&by.actor, &by.reason))
            };
            let changes = self.store.operate(operation, self.dispatch_settings()).await?;
            if !matches!(changes[..], [Change::Again]) {
                return Ok(changes);
            }
        }
    }

    async fn arguments<'a>(
        &self,
        step: Option<StepId>,
        action: &'a OperatorAction,
        by: &'a By,
    ) -> Result<Arguments<'a>, OperatorError> {
        let mut arguments = Arguments { metadata: by.metadata.as_deref(), ..Arguments::default() };
        match (action, step) {
            (OperatorAction::RetryStep { inputs }, _) => arguments.inputs = inputs.as_deref(),
            (OperatorAction::RecoverTask { entry }, _) => arguments.entry = Some(*entry),
            (OperatorAction::ExpireTask { stale }, _) => arguments.stale = Some(&**stale),
            (OperatorAction::RedoStep { inputs }, Some(step)) => {
                arguments.inputs = inputs.as_deref();
                arguments.plan = Some(self.plan_redo(step).await?);
            }
            (OperatorAction::ResolveStep { result }, Some(step)) => {
                arguments.result = result.as_deref();
                arguments.plan = self.plan_resolve(step, result.as_deref()).await?;
            }
            _ => {}
        }
        Ok(arguments)
    }

    /// The steps that are set back or deleted with this one.
    async fn plan_redo(&self, step: StepId) -> Result<Box<RawValue>, OperatorError> {
        let template = self.template_of(step).await?;
        let workflow = &template.workflow;
        let others: Vec<StepNo> = workflow.deciders().iter().map(|&decider| step_no(decider)).collect();
        let seen = if others.is_empty() { Vec::new() } else { self.store.deciders(step.task, &others).await? };
        let Redo { reset, deleted, parents } = workflow.redo(&decided(workflow, &seen), step.no);
        let mut touched: Vec<StepNo> = [&reset[..], &deleted[..]].concat();
        touched.extend(parents.iter().flat_map(|(_, parents)| parents));
        let text = RedoText {
            others,
            seen: seen.iter().map(|decider| (decider.no, decider.lease)).collect(),
            touched,
            reset: &reset,
            deleted: &deleted,
            parents: parents.iter().map(|(no, parents)| EdgeText { no: *no, parents }).collect(),
        };
        Ok(serde_json::value::to_raw_value(&text).expect("numbers serialize"))
    }

    /// What a decision or batchable makes that is resolved with this result; `None` of another step.
    async fn plan_resolve(&self, step: StepId, result: Option<&RawValue>) -> Result<Option<Box<RawValue>>, OperatorError> {
        let template = self.template_of(step).await?;
        let workflow = &template.workflow;
        let Some(decider) = step.position().filter(|position| workflow.deciders().contains(position)) else { return Ok(None) };
        let outcome = Outcome::success(result.map_or_else(null, ToOwned::to_owned), None);
        let expansion = workflow.resolution(decider, &outcome).map_err(|failure| invalid_outcome(*failure))?;
        let (others, seen) = self.others(workflow, step.task, decider).await?;
        let growth = workflow.growth(&decided(workflow, &seen), decider, &expansion.created);
        let planned = Planned { workflow, decider, expansion: &expansion, growth: &growth, others: &others, seen: &seen };
        Ok(Some(RawValue::from_string(planned.text()).expect("it is JSON")))
    }

    async fn template_of(&self, step: StepId) -> Result<Arc<LoadedTemplate>, OperatorError> {
        let reference = self.store.template_of(step.task).await?.ok_or(OperatorError::NotFound)?;
        let template = self.templates.get(&self.store, &reference).await?;
        template.ok_or_else(|| StoreError::Bug(format!("the template {} of a task is missing", reference.template_id)).into())
    }

    /// Drops the messages of steps that no longer run from the queue of this process.
    fn forget(&self, task: TaskId, effects: &Effects) {
        let Some(queue) = &self.settings.in_process else { return };
        if effects.steps.iter().any(|effect| effect.state == Some(StepState::Cancelled)) {
            queue.forget(task);
        }
        let live = |effect: &&Effect| matches!(effect.was, Some(StepState::Enqueued | StepState::InProgress));
        effects.steps.iter().filter(live).filter_map(|effect| effect.lease).for_each(|lease| queue.forget_lease(lease));
    }
}

fn effects(changes: &[Change]) -> Effects {
    let mut effects = Effects::default();
    for change in changes {
        match change {
            Change::Effect(effect) => effects.steps.push(effect.clone()),
            Change::Seen(seen) => effects.seen.clone_from(seen),
            _ => {}
        }
    }
    effects
}

fn warnings(StepRisks { name, max_attempts, late_success }: &StepRisks) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some((lease, has_result)) = late_success {
        let remedy = match has_result {
            true => format!("resolve the step with result_of_lease {lease} to use that result instead"),
            false => "its result was too large to be kept".to_owned(),
        };
        warnings.push(format!(
            "step {name} succeeded under lease {lease}, too late to be applied, so its handler may act twice; {remedy}"
        ));
    }
    if *max_attempts == 1 {
        warnings.push(format!("step {name} allows one attempt (max_attempts 1), and this is a further one"));
    }
    warnings
}

fn refuse_arguments(action: &OperatorAction, by: &By) -> Result<(), OperatorError> {
    refuse("/metadata", by.metadata.as_deref(), limits::METADATA_BYTES)?;
    match action {
        OperatorAction::ResolveStep { result } => refuse("/result", result.as_deref(), limits::RESULT_BYTES),
        OperatorAction::RetryStep { inputs } | OperatorAction::RedoStep { inputs } => {
            refuse("/inputs", inputs.as_deref(), limits::CONTEXT_BYTES)
        }
        _ => Ok(()),
    }
}

/// Rejects a text that is too large or cannot be stored.
fn refuse(place: &str, text: Option<&RawValue>, bytes: usize) -> Result<(), OperatorError> {
    let Some(text) = text.map(RawValue::get) else { return Ok(()) };
    if text.len() > bytes {
        let message = format!("has {} bytes; at most {bytes} are kept", text.len());
        return Err(OperatorError::Invalid(Fault::new(place, message).into()));
    }
    json_text::check(text).map_err(|f| OperatorError::Invalid(Fault::new(format!("{place}{}", f.place), f.message).into()))
}

fn invalid_outcome(failure: Failure) -> OperatorError {
    OperatorError::Invalid(Fault::new("/result", failure.message).into())
}

fn too_many(steps: i64) -> OperatorError {
    let message = format!("would make more steps than a task may have, {}; it has {steps}", limits::TASK_STEPS);
    OperatorError::Invalid(Fault::new("/result", message).into())
}

fn null() -> Box<RawValue> {
    RawValue::from_string("null".into()).expect("null is JSON")
}
