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

fn task_faults(body: &str) -> Vec<String> {
    parse_task_action(body.as_bytes()).unwrap_err().0.iter().map(ToString::to_string).collect()
}

fn step_faults(body: &str) -> Vec<String> {
    parse_step_operation(body.as_bytes()).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn every_action_on_a_task_is_read() {
    use TaskVerb::*;
    for (word, verb) in
        [("cancel", Cancel), ("reopen", Reopen), ("resolve", Resolve), ("pause", Pause), ("resume", Resume), ("note", Note)]
    {
        let body = format!(
            r#"{{"action": "{word}", "actor": "anna", "reason": "two\nlines", "seen": "abc", "dry_run": true, "metadata": {{"n": 1.50}}}}"#
        );
        let ActionRequest { action, actor, reason, metadata, seen, dry_run } = parse_task_action(body.as_bytes()).unwrap();
        assert_eq!((action, actor.as_str(), reason.as_str()), (verb, "anna", "two\nlines"));
        assert_eq!((metadata.unwrap().get(), seen.as_deref(), dry_run), (r#"{"n": 1.50}"#, Some("abc"), true));
        let least = parse_task_action(format!(r#"{{"action": "{word}", "actor": "a", "reason": "r"}}"#).as_bytes()).unwrap();
        assert!(least.metadata.is_none() && least.seen.is_none() && !least.dry_run);
    }
}

#[test]
fn every_action_on_a_step_is_read() {
    let read =
        |more: &str| parse_step_operation(format!(r#"{{"actor": "a", "reason": "r", {more}}}"#).as_bytes()).unwrap().action;
    let StepOperation::Retry(Some(inputs)) = read(r#""action": "retry", "inputs": {"n": 1.50}"#) else { panic!() };
    assert_eq!(inputs.get(), r#"{"n": 1.50}"#);
    assert!(matches!(read(r#""action": "retry", "inputs": null"#), StepOperation::Retry(None)));
    assert!(matches!(read(r#""action": "redo""#), StepOperation::Redo(None)));
    let StepOperation::Resolve(GivenResult::Value(result)) = read(r#""action": "resolve", "result": [1.50]"#) else { panic!() };
    assert_eq!(result.get(), "[1.50]");
    assert!(matches!(read(r#""action": "resolve", "result_of_lease": 3"#), StepOperation::Resolve(GivenResult::OfLease(3))));
    assert!(matches!(read(r#""action": "resolve""#), StepOperation::Resolve(GivenResult::Nothing)));
    assert!(matches!(read(r#""action": "skip""#), StepOperation::Skip));
    assert!(matches!(read(r#""action": "note""#), StepOperation::Note));
}

#[test]
fn all_faults_of_an_action_in_our_form_are_found_at_once() {
    let words = "it must be one of cancel, reopen, resolve, pause, resume, note";
    for (body, expected) in [
        ("{}", vec![format!("/action: is missing; {words}"), "/actor: is missing".into(), "/reason: is missing".into()]),
        (
            r#"{"action": "resmue", "actor": "a", "reason": "r"}"#,
            vec![format!(r#"/action: is "resmue"; {words}; did you mean resume?"#)],
        ),
        (
            r#"{"action": "cancel", "actor": "a\nb", "reason": "", "dry_rnu": true, "inputs": {}}"#,
            vec![
                "/actor: contains the control character U+000A".into(),
                "/dry_rnu: unknown key; did you mean dry_run?".into(),
                "/inputs: unknown key; the known keys are action, actor, reason, metadata, seen, dry_run".into(),
                "/reason: must not be empty".into(),
            ],
        ),
        ("[]", vec!["the body must be a JSON object".into()]),
    ] {
        assert_eq!(task_faults(body), expected, "{body}");
    }
    let words = "it must be one of retry, redo, resolve, skip, note";
    for (body, expected) in [
        (r#"{"actor": "a", "reason": "r"}"#, vec![format!("/action: is missing; {words}")]),
        // Of a wrong word, no key is too much.
        (
            r#"{"action": "retyr", "actor": "a", "reason": "r", "inputs": {}, "result": 1}"#,
            vec![format!(r#"/action: is "retyr"; {words}; did you mean retry?"#)],
        ),
        (
            r#"{"action": "retry", "actor": "a", "reason": "r", "inputs": [], "result": 1, "result_of_lease": 1}"#,
            vec![
                "/inputs: must be a map, not a list".into(),
                "/result: is for resolve only".into(),
                "/result_of_lease: is for resolve only".into(),
            ],
        ),
        (
            r#"{"action": "skip", "actor": "a", "reason": "r", "inputs": {}, "result": 1}"#,
            vec!["/inputs: is for retry and redo only".into(), "/result: is for resolve only".into()],
        ),
        (
            r#"{"action": "resolve", "actor": "a", "reason": "r", "result": 1, "result_of_lease": 1}"#,
            vec!["/result_of_lease: is another source of the result, which is also present".into()],
        ),
        (
            r#"{"action": "resolve", "actor": "a", "reason": "r", "result_of_lease": 0}"#,
            vec!["/result_of_lease: is 0; it must be 1 to 2147483647".into()],
        ),
    ] {
        assert_eq!(step_faults(body), expected, "{body}");
    }
}

#[test]
fn a_pause_needs_an_actor_a_reason_and_the_names_of_what_it_pauses() {
    let read = parse_pause(br#"{"actor": "anna", "reason": "r"}"#).unwrap();
    assert_eq!(read, PauseRequest { actor: "anna".into(), reason: "r".into(), seen: None, dry_run: false });
    let faults = parse_pause(br#"{"actor": "anna", "dry_run": 1}"#).unwrap_err();
    assert_eq!(faults.to_string(), "/dry_run: must be true or false, not a number; /reason: is missing");
    assert_eq!((check_scope("shop", None), check_scope("shop", Some("order v2"))), (Ok(()), Ok(())));
    let faults = check_scope("Shop", Some("")).unwrap_err();
    assert_eq!(
        faults.to_string(),
        r#"namespace: is "Shop"; it must be 1 to 29 of a-z, 0-9, _ and -; template: must not be empty"#
    );
}

proptest::proptest! {
    #[test]
    fn a_body_with_any_values_is_read_or_has_faults(keys in proptest::collection::btree_map(
        proptest::sample::select(vec!["action", "actor", "reason", "inputs", "result", "result_of_lease", "metadata", "seen", "dry_run", "x"]),
        proptest::sample::select(vec!["null", "1", "\"retry\"", "\"resolve\"", "\"cancel\"", "{}", "[]", "true", "\"\"", "1e9", "-1"]),
        0..10,
    )) {
        let members: Vec<String> = keys.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        let body = format!("{{{}}}", members.join(", "));
        let _ = (parse_task_action(body.as_bytes()), parse_step_operation(body.as_bytes()), parse_pause(body.as_bytes()));
    }

    #[test]
    fn junk_never_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = (parse_step_action(&body), parse_cancellation(&body), parse_task_action(&body), parse_step_operation(&body), parse_pause(&body));
    }
}
