//! The operator actions.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use serde::Serialize;
use serde_json::{json, value::RawValue};
use tasker_domain::{decide::mismatches, dynamic::Redo, json as json_text};
use tasker_queue::Queue;
use tasker_store::{Change, Effect, Operation, Planned, StepRisks, StoreError};
use tasker_wire::{
    Fault, Faults, Outcome, StepId, StepNo, StepState, TaskId,
    ids::{is_worker, position, step_no},
    limits,
};
use uuid::Uuid;

use crate::{Engine, expand::decided, templates::LoadedTemplate, work::Work};

/// The steps about which an action warns.
const WARNED_STEPS: usize = 20;

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
    /// Resolves an unfinished, failed or cancelled step. Its children receive `result`, or null. Of a decision or a batchable, the result
    /// says what is made; without an outcome in it, nothing is.
    ResolveStep { result: Option<Box<RawValue>> },
    /// The same with the result of a success under this lease, which came too late.
    ResolveStepAsLate { lease: i32 },
}

impl OperatorAction {
    fn has_inputs(&self) -> bool {
        matches!(self, Self::RetryStep { inputs: Some(_) } | Self::RedoStep { inputs: Some(_) })
    }

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
    result: Option<Cow<'a, RawValue>>,
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

    /// Resolves an unfinished, failed or cancelled step. Its children receive `result`, or null.
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
        let template = self.template_of(step.task).await?;
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

    /// Facts that speak against the further attempts that an action starts, as sentences. Empty for an action that starts none.
    pub async fn warnings(
        &self,
        (task, step): (TaskId, Option<StepId>),
        action: &OperatorAction,
        effects: &Effects,
    ) -> Result<Vec<String>, OperatorError> {
        let begun: HashMap<StepNo, &Effect> = effects.steps.iter().filter(begins_anew).map(|e| (e.step.no, e)).collect();
        if begun.is_empty() {
            return Ok(Vec::new());
        }
        let template = self.template_of(task).await?;
        let mut numbers: Vec<StepNo> = begun.keys().copied().collect();
        numbers.sort_unstable();
        let about = step.map(|step| step.no);
        let risks = self.store.step_risks(task, numbers, about, WARNED_STEPS + 1).await?;
        let mut warnings = Vec::new();
        for risks in risks.iter().take(WARNED_STEPS) {
            let decides = position(risks.no).is_some_and(|position| template.workflow.deciders().contains(&position));
            warnings.extend(of_attempt(risks, begun[&risks.no], decides));
            if about == Some(risks.no) && action.has_inputs() {
                warnings.extend(of_inputs(risks, &begun[&risks.no].name));
            }
        }
        if risks.len() > WARNED_STEPS {
            warnings.push("there are such facts about further steps".into());
        }
        Ok(warnings)
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
                (arguments.plan, arguments.result) = self.plan_resolve(step, result.as_deref()).await?;
            }
            _ => {}
        }
        Ok(arguments)
    }

    /// The steps that are set back or deleted with this one.
    async fn plan_redo(&self, step: StepId) -> Result<Box<RawValue>, OperatorError> {
        let template = self.template_of(step.task).await?;
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

    /// What a decision or batchable makes that is resolved with this result, `None` of another step; and the result to store.
    async fn plan_resolve<'a>(
        &self,
        step: StepId,
        result: Option<&'a RawValue>,
    ) -> Result<(Option<Box<RawValue>>, Option<Cow<'a, RawValue>>), OperatorError> {
        let template = self.template_of(step.task).await?;
        let workflow = &template.workflow;
        let declared = step.position().and_then(|position| workflow.steps.get(position));
        if let Some(faults) = result.and_then(|result| mismatches(result, &declared?.policy)) {
            let message = format!("{faults}; give one that does, or none");
            return Err(OperatorError::Invalid(Fault::new("/result", message).into()));
        }
        let Some(decider) = step.position().filter(|position| workflow.deciders().contains(position)) else {
            return Ok((None, result.map(Cow::Borrowed)));
        };
        let outcome = Outcome::success(result.map_or_else(null, ToOwned::to_owned), None);
        let expansion = workflow.resolution(decider, &outcome).map_err(OperatorError::Invalid)?;
        let (others, seen) = self.others(workflow, step.task, decider).await?;
        let growth = workflow.growth(&decided(workflow, &seen), decider, &expansion.created);
        let planned = Planned { workflow, decider, expansion: &expansion, growth: &growth, others: &others, seen: &seen };
        let plan = RawValue::from_string(planned.text()).expect("it is JSON");
        Ok((Some(plan), expansion.result.map(Cow::Owned).or(result.map(Cow::Borrowed))))
    }

    async fn template_of(&self, task: TaskId) -> Result<Arc<LoadedTemplate>, OperatorError> {
        let reference = self.store.template_of(task).await?.ok_or(OperatorError::NotFound)?;
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

/// Whether a step that was dispatched before is set back, or deleted, so that what it did may be done again.
fn begins_anew(effect: &&Effect) -> bool {
    let is_back = matches!(effect.state, None | Some(StepState::Pending | StepState::Enqueued));
    is_back && !matches!(effect.was, None | Some(StepState::Pending))
}

fn of_attempt(risks: &StepRisks, Effect { name, was, state, .. }: &Effect, decides: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some((lease, has_result)) = &risks.late_success {
        let can_settle = risks.is_open && !matches!(was, Some(StepState::Complete | StepState::ResolvedManually));
        let remedy = match has_result {
            _ if state.is_none() || !can_settle => String::new(),
            _ if decides => "; resolve the step with a result that says what it makes to settle it instead".to_owned(),
            true => format!("; resolve the step with result_of_lease {lease} to use that result instead"),
            false => "; its result was too large to be kept".to_owned(),
        };
        let twice = "too late to be applied, so its handler may act twice";
        warnings.push(format!("step {name} succeeded under lease {lease}, {twice}{remedy}"));
    }
    if risks.once {
        warnings.push(format!("step {name} allows one attempt (max_attempts 1), and this is a further one"));
    }
    warnings
}

/// What new inputs of a step do away with.
fn of_inputs(risks: &StepRisks, name: &str) -> Vec<String> {
    let cursor = if is_worker(risks.no) { ", and its cursor with them" } else { "" };
    let replaced = format!("the inputs of step {name} are replaced as a whole{cursor}");
    let dropped = format!("the checkpoint of step {name} is dropped");
    risks.has_inputs.then_some(replaced).into_iter().chain(risks.has_checkpoint.then_some(dropped)).collect()
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

fn too_many(steps: i64) -> OperatorError {
    let most = limits::MADE_STEPS;
    let message = format!("would make more than {most} steps beside those that the template declares; the task has {steps}");
    OperatorError::Invalid(Fault::new("/result", message).into())
}

fn null() -> Box<RawValue> {
    RawValue::from_string("null".into()).expect("null is JSON")
}
