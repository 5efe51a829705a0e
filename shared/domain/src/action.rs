//! Reads operator requests: the bodies of `PATCH` on a step and of `DELETE` on a task in Tasker's form, and those of the routes for actions
//! and pauses. All faults are reported at once.

use std::cell::RefCell;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::reader::{Findings, Members, Object, kind_of, members, refuse_line, refuse_name, refuse_namespace, refuse_prose};
use tasker_wire::{Fault, Faults, Json};

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

/// An action on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskVerb {
    Cancel,
    Reopen,
    Resolve,
    Pause,
    Resume,
    Note,
}

/// An action on a step.
#[derive(Debug)]
pub enum StepOperation {
    /// With its own new inputs, a JSON object, or the ones that it has.
    Retry(Option<Box<RawValue>>),
    /// The same, with everything after it.
    Redo(Option<Box<RawValue>>),
    Resolve(GivenResult),
    /// Resolves the step without a result.
    Skip,
    Note,
}

/// The result with which an operator resolves a step.
#[derive(Debug)]
pub enum GivenResult {
    Nothing,
    Value(Box<RawValue>),
    /// That of a success under this lease, which came too late to be applied.
    OfLease(i32),
}

/// The body of `POST` on the actions of a task or step.
#[derive(Debug)]
pub struct ActionRequest<A> {
    pub action: A,
    pub actor: String,
    pub reason: String,
    /// More data for the audit log.
    pub metadata: Option<Box<RawValue>>,
    /// What the dry run answered by which the caller decided.
    pub seen: Option<String>,
    pub dry_run: bool,
}

/// The body of `PUT` and `DELETE` on a pause.
#[derive(Debug, PartialEq, Eq)]
pub struct PauseRequest {
    pub actor: String,
    pub reason: String,
    /// What a dry run answered.
    pub seen: Option<String>,
    pub dry_run: bool,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StepWord {
    Retry,
    Redo,
    Resolve,
    Skip,
    Note,
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

/// Reads an action on a task.
pub fn parse_task_action(body: &[u8]) -> Result<ActionRequest<TaskVerb>, Faults> {
    read_action(body, |object| required_word(object, "cancel, reopen, resolve, pause, resume, note"))
}

/// Reads an action on a step, in our own form.
pub fn parse_step_operation(body: &[u8]) -> Result<ActionRequest<StepOperation>, Faults> {
    read_action(body, |object| {
        let word = required_word(object, "retry, redo, resolve, skip, note");
        let repeats = matches!(word, None | Some(StepWord::Retry | StepWord::Redo));
        let resolves = matches!(word, None | Some(StepWord::Resolve));
        let inputs =
            only_if(repeats, object, "inputs", "is for retry and redo only").and_then(|json| checked_inputs(object, json));
        let value = only_if(resolves, object, "result", "is for resolve only");
        let lease = match object.peek("result_of_lease") {
            Some(_) if resolves => object.number("result_of_lease", 1..=i32::MAX),
            _ => only_if(resolves, object, "result_of_lease", "is for resolve only").and(None),
        };
        if value.is_some() && lease.is_some() {
            object.fault("result_of_lease", "is another source of the result, which is also present");
        }
        let result = match (value, lease) {
            (Some(value), _) => GivenResult::Value(value.into()),
            (None, Some(lease)) => GivenResult::OfLease(lease),
            (None, None) => GivenResult::Nothing,
        };
        Some(match word? {
            StepWord::Retry => StepOperation::Retry(inputs),
            StepWord::Redo => StepOperation::Redo(inputs),
            StepWord::Resolve => StepOperation::Resolve(result),
            StepWord::Skip => StepOperation::Skip,
            StepWord::Note => StepOperation::Note,
        })
    })
}

/// Reads the body of a pause or of its end.
pub fn parse_pause(body: &[u8]) -> Result<PauseRequest, Faults> {
    let findings = RefCell::new(Findings::default());
    let mut object = Object::of_members(members(body, &findings)?, &findings);
    let actor = object.required_checked("actor", refuse_line);
    let reason = object.required_checked("reason", refuse_prose);
    let seen = object.checked("seen", refuse_line);
    let dry_run = object.flag("dry_run").unwrap_or_default();
    object.close();
    findings.into_inner().finish()?;
    Ok(PauseRequest { actor, reason, seen, dry_run })
}

/// The fault of what is not the name of a namespace, and of a template if there is one.
pub fn check_scope(namespace: &str, template: Option<&str>) -> Result<(), Faults> {
    let mut faults: Vec<Fault> =
        refuse_namespace(namespace).map(|message| Fault::new("namespace", message)).into_iter().collect();
    faults.extend(template.and_then(refuse_name).map(|message| Fault::new("template", message)));
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

/// Reads the keys that all actions have. `read` reads the others; where it returns `None` it has found a fault.
fn read_action<A>(body: &[u8], read: impl FnOnce(&mut Object) -> Option<A>) -> Result<ActionRequest<A>, Faults> {
    let findings = RefCell::new(Findings::default());
    let mut object = Object::of_members(members(body, &findings)?, &findings);
    let action = read(&mut object);
    let request = ActionRequest {
        action,
        actor: object.required_checked("actor", refuse_line),
        reason: object.required_checked("reason", refuse_prose),
        metadata: object.json("metadata").map(Into::into),
        seen: object.checked("seen", refuse_line),
        dry_run: object.flag("dry_run").unwrap_or_default(),
    };
    object.close();
    findings.into_inner().finish()?;
    let ActionRequest { action, actor, reason, metadata, seen, dry_run } = request;
    Ok(ActionRequest { action: action.expect("a fault was found"), actor, reason, metadata, seen, dry_run })
}

fn required_word<T: DeserializeOwned>(object: &mut Object, words: &str) -> Option<T> {
    if object.peek("action").is_none() {
        object.fault("action", format!("is missing; it must be one of {words}"));
    }
    object.word("action")
}

/// Takes out a value that only some actions have.
fn only_if(allowed: bool, object: &mut Object, key: &'static str, fault: &str) -> Option<Json> {
    let json = object.json(key);
    if !allowed && json.is_some() {
        object.fault(key, fault);
    }
    json.filter(|_| allowed)
}

fn checked_inputs(object: &Object, json: Json) -> Option<Box<RawValue>> {
    if !json.get().starts_with('{') {
        object.fault("inputs", format!("must be a map, not {}", kind_of(&json)));
        return None;
    }
    Some(json.into())
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
