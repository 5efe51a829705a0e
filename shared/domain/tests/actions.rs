//! Reads operator actions.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use tasker_domain::action::*;

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
fn a_cancellation_may_have_an_empty_body() {
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
