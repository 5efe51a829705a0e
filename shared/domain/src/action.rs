//! Reads operator requests: the bodies of `PATCH` on a step and of `DELETE` on a task. All faults are reported at once.

use std::cell::RefCell;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::reader::{Findings, Members, Object, members, refuse_line, refuse_prose};
use tasker_wire::Faults;

#[derive(Debug)]
pub struct StepAction {
    pub verb: StepVerb,
    pub actor: String,
    pub reason: String,
    /// Given beside a result. The audit log keeps it; children of the step do not see it.
    pub metadata: Option<Box<RawValue>>,
}

#[derive(Debug)]
pub enum StepVerb {
    /// Resets the step's attempts.
    Retry,
    /// Resolves the step. Its children receive this result, or null.
    Resolve(Option<Box<RawValue>>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Cancellation {
    pub actor: String,
    pub reason: String,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionType {
    ResetForRetry,
    ResolveManually,
    CompleteManually,
}

/// Reads an action on a step, in the form that Tasker's clients send.
pub fn parse_step_action(body: &[u8]) -> Result<StepAction, Faults> {
    let findings = RefCell::new(Findings::default());
    let mut members = members(body, &findings)?;
    let completion = members.remove("completion_data").map(Into::into);
    let action = step_action(Object::of_members(members, &findings), completion, &findings);
    findings.into_inner().finish()?;
    Ok(action)
}

/// Reads the actor and the reason of a cancellation. The body may be empty.
pub fn parse_cancellation(body: &[u8]) -> Result<Cancellation, Faults> {
    let unknown = || "unknown".to_owned();
    if body.is_empty() {
        return Ok(Cancellation { actor: unknown(), reason: unknown() });
    }
    let findings = RefCell::new(Findings::default());
    let mut object = Object::of_members(members(body, &findings)?, &findings);
    let actor = object.checked("actor", refuse_line).unwrap_or_else(unknown);
    let reason = object.checked("reason", refuse_prose).unwrap_or_else(unknown);
    object.close();
    findings.into_inner().finish()?;
    Ok(Cancellation { actor, reason })
}

fn step_action(mut object: Object, completion: Option<Box<RawValue>>, findings: &RefCell<Findings>) -> StepAction {
    if object.peek("action_type").is_none() {
        object.fault("action_type", "is missing; it must be one of reset_for_retry, resolve_manually, complete_manually");
    }
    let action = object.word("action_type");
    let reason = object.required_checked("reason", refuse_prose);
    let actor = match action {
        Some(ActionType::ResetForRetry) => object.required_checked("reset_by", refuse_line),
        Some(ActionType::ResolveManually) => object.required_checked("resolved_by", refuse_line),
        Some(ActionType::CompleteManually) => object.required_checked("completed_by", refuse_line),
        None => {
            for key in ["reset_by", "resolved_by", "completed_by"] {
                object.json(key);
            }
            String::new()
        }
    };
    let (result, metadata) = match (action, completion) {
        (Some(ActionType::CompleteManually), completion) => completion_data(completion, &object, findings),
        (Some(_), Some(_)) => {
            object.fault("completion_data", "is for complete_manually only");
            (None, None)
        }
        _ => (None, None),
    };
    object.close();
    let verb = if action == Some(ActionType::ResetForRetry) { StepVerb::Retry } else { StepVerb::Resolve(result) };
    StepAction { verb, actor, reason, metadata }
}

/// The result and the metadata in `completion_data`, as raw JSON.
fn completion_data(
    completion: Option<Box<RawValue>>,
    object: &Object,
    findings: &RefCell<Findings>,
) -> (Option<Box<RawValue>>, Option<Box<RawValue>>) {
    let Some(completion) = completion.filter(|c| c.get() != "null") else {
        object.fault("completion_data", "is missing");
        return (None, None);
    };
    let Ok(mut members) = serde_json::from_str::<Members>(completion.get()) else {
        object.fault("completion_data", "must be a map");
        return (None, None);
    };
    let metadata = members.remove("metadata").filter(|m| m.get() != "null").map(Into::into);
    let result = members.remove("result").map(Into::into);
    for key in members.keys() {
        findings
            .borrow_mut()
            .fault(tasker_wire::fault::pointer("/completion_data", key), "unknown key; the known keys are result, metadata");
    }
    if result.is_none() {
        findings.borrow_mut().fault("/completion_data/result", "is missing");
    }
    (result, metadata)
}

/// An action on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOperation {
    Cancel,
    Reopen,
    Resolve,
    Pause,
    Resume,
    Note,
}

/// An action on a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOperation {
    Retry,
    Redo,
    Resolve,
    Skip,
    Note,
}

/// A request for an action, with its condition.
#[derive(Debug)]
pub struct Requested<T> {
    pub operation: T,
    pub actor: String,
    pub reason: String,
    /// New inputs of the step: a JSON object. Only of `retry` and `redo`.
    pub inputs: Option<Box<RawValue>>,
    /// The result of the step. Only of `resolve`.
    pub result: Option<Box<RawValue>>,
    /// The audit log keeps it.
    pub metadata: Option<Box<RawValue>>,
    /// What the caller decided by.
    pub seen: Option<String>,
    pub dry_run: bool,
}

/// The words of the actions on one kind of thing.
pub trait Operation: Copy + for<'de> Deserialize<'de> {
    const WORDS: &'static str;
    fn takes_inputs(self) -> bool;
    fn takes_result(self) -> bool;
}

impl Operation for TaskOperation {
    const WORDS: &'static str = "cancel, reopen, resolve, pause, resume, note";

    fn takes_inputs(self) -> bool {
        false
    }

    fn takes_result(self) -> bool {
        false
    }
}

impl Operation for StepOperation {
    const WORDS: &'static str = "retry, redo, resolve, skip, note";

    fn takes_inputs(self) -> bool {
        matches!(self, Self::Retry | Self::Redo)
    }

    fn takes_result(self) -> bool {
        self == Self::Resolve
    }
}

/// Reads a request for an action.
pub fn parse_operation<T: Operation>(body: &[u8]) -> Result<Requested<T>, Faults> {
    let findings = RefCell::new(Findings::default());
    let mut members = members(body, &findings)?;
    let [inputs, result, metadata] = ["inputs", "result", "metadata"]
        .map(|key| members.remove(key).map(Box::<RawValue>::from).filter(|value| key == "result" || value.get() != "null"));
    let mut object = Object::of_members(members, &findings);
    if object.peek("action").is_none() {
        object.fault("action", format!("is missing; it must be one of {}", T::WORDS));
    }
    let operation: Option<T> = object.word("action");
    let actor = object.required_checked("actor", refuse_line);
    let reason = object.required_checked("reason", refuse_prose);
    let seen = object.text("seen");
    let dry_run = object.flag("dry_run").unwrap_or(false);
    if inputs.is_some() && operation.is_some_and(|operation| !operation.takes_inputs()) {
        object.fault("inputs", "are for retry and redo only");
    } else if inputs.as_ref().is_some_and(|inputs| !inputs.get().starts_with('{')) {
        object.fault("inputs", "must be a map");
    }
    if result.is_some() && operation.is_some_and(|operation| !operation.takes_result()) {
        object.fault("result", "is for resolve only");
    }
    object.close();
    let requested = operation.map(|operation| Requested { operation, actor, reason, inputs, result, metadata, seen, dry_run });
    findings.into_inner().finish()?;
    Ok(requested.expect("without a fault there is an action"))
}
