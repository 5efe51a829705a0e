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
    /// Settles the step. Its children see this result, or null.
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
    let completion = members.remove("completion_data");
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
                object.value(key);
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
    let metadata = members.remove("metadata").filter(|m| m.get() != "null");
    let result = members.remove("result");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Vec<String> {
        parse_step_action(body.as_bytes()).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_actions_of_taskers_clients_are_read() {
        let reset =
            parse_step_action(br#"{"action_type":"reset_for_retry","reason":"db is back","reset_by":"cli-operator"}"#).unwrap();
        assert!(matches!(reset.verb, StepVerb::Retry));
        assert_eq!((reset.actor.as_str(), reset.reason.as_str()), ("cli-operator", "db is back"));
        let resolve = parse_step_action(br#"{"action_type":"resolve_manually","reason":"x","resolved_by":"y"}"#).unwrap();
        assert!(matches!(resolve.verb, StepVerb::Resolve(None)));
        let body = br#"{"action_type":"complete_manually","completion_data":{"result":{"n": 1.50},"metadata":{"k":1}},"reason":"x","completed_by":"y"}"#;
        let action = parse_step_action(body).unwrap();
        let StepVerb::Resolve(Some(result)) = action.verb else { panic!() };
        assert_eq!(result.get(), r#"{"n": 1.50}"#);
        assert_eq!(action.metadata.unwrap().get(), r#"{"k":1}"#);
    }

    #[test]
    fn all_faults_of_an_action_are_found_at_once() {
        let words = "it must be one of reset_for_retry, resolve_manually, complete_manually";
        for (body, expected) in [
            ("{}", vec![format!("/action_type: is missing; {words}"), "/reason: is missing".into()]),
            (r#"{"action_type": "skip", "reason": "x", "reset_by": "y"}"#, vec![format!("/action_type: is \"skip\"; {words}")]),
            (
                r#"{"action_type": "reset_for_retry", "reason": "\u001b", "resolved_by": 1, "completion_data": {}}"#,
                vec![
                    "/completion_data: is for complete_manually only".into(),
                    "/reason: contains the control character U+001B".into(),
                    "/reset_by: is missing".into(),
                    "/resolved_by: unknown key; the known keys are action_type, reason, reset_by".into(),
                ],
            ),
            (
                r#"{"action_type": "complete_manually", "reason": "x", "completed_by": "y", "completion_data": {"results": 1}}"#,
                vec![
                    "/completion_data/result: is missing".into(),
                    "/completion_data/results: unknown key; the known keys are result, metadata".into(),
                ],
            ),
            (
                r#"{"action_type": "complete_manually", "reason": "x", "completed_by": "y", "completion_data": {"result": "\u0000"}}"#,
                vec![r"/completion_data/result: contains \u0000, which cannot be stored".into()],
            ),
            ("[", vec!["1:1: EOF while parsing a list".into()]),
            ("[]", vec!["the body must be a JSON object".into()]),
        ] {
            assert_eq!(faults(body), expected, "{body}");
        }
    }

    #[test]
    fn a_cancellation_may_say_nothing() {
        let unknown = || "unknown".to_owned();
        assert_eq!(parse_cancellation(b""), Ok(Cancellation { actor: unknown(), reason: unknown() }));
        let said = parse_cancellation(br#"{"actor": "anna", "reason": "wrong\norder"}"#).unwrap();
        assert_eq!((said.actor.as_str(), said.reason.as_str()), ("anna", "wrong\norder"));
        let faults = parse_cancellation(br#"{"actor": 1, "because": "x"}"#).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "/actor: must be a string, not a number; /because: unknown key; the known keys are actor, reason"
        );
    }

    proptest::proptest! {
        #[test]
        fn junk_never_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = (parse_step_action(&body), parse_cancellation(&body));
        }
    }
}
