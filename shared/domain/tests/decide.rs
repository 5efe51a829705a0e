//! Decides what follows from an outcome.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use serde_json::value::RawValue;
use tasker_domain::{
    FailureEffect,
    backoff::{Backoff, BackoffKind},
    decide::*,
};
use tasker_wire::{Outcome, limits, outcome::Failure};

fn policy(max_attempts: i32) -> Policy {
    let backoff = Backoff { kind: BackoffKind::Exponential, base_ms: 1000, max_ms: 30_000 };
    Policy {
        max_attempts,
        retryable: true,
        backoff,
        timeout_seconds: 30,
        result_schema: None,
        failure_effect: FailureEffect::Blocks,
    }
}

fn success(text: &str) -> Outcome {
    Outcome::success(RawValue::from_string(text.into()).unwrap(), None)
}

#[test]
fn a_failure_is_retried_while_budget_remains() {
    let failure = Outcome::Failure(Failure::retryable("x", "y"));
    assert!(matches!(decide(&failure, &policy(2), 1, 0.5), Verdict::Retry(1000, _)));
    assert!(matches!(decide(&failure, &policy(2), 2, 0.5), Verdict::Error { effect: FailureEffect::Blocks, .. }));
}

#[test]
fn a_step_that_is_not_retryable_or_an_outcome_that_is_not_ends_at_once() {
    let stubborn = Policy { retryable: false, ..policy(3) };
    assert!(matches!(decide(&Outcome::Failure(Failure::retryable("x", "y")), &stubborn, 1, 0.5), Verdict::Error { .. }));
    assert!(matches!(decide(&Outcome::Failure(Failure::permanent("x", "y")), &policy(3), 1, 0.5), Verdict::Error { .. }));
}

#[test]
fn a_result_that_cannot_be_kept_is_a_permanent_failure() {
    for (text, word) in [
        (format!("\"{}\"", "x".repeat(limits::RESULT_BYTES)), "result_too_large"),
        (r#"{"a": "\u0000"}"#.to_owned(), "invalid_result"),
        (r#"{"a": 1, "a": 2}"#.to_owned(), "invalid_result"),
    ] {
        let Verdict::Error { failure, .. } = decide(&success(&text), &policy(3), 1, 0.5) else { panic!("{word}") };
        assert_eq!(failure.error_type, word);
    }
}

#[test]
fn a_result_against_its_schema_is_a_permanent_failure_that_names_the_place() {
    let schema = serde_json::json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let policy = Policy { result_schema: Some(jsonschema::validator_for(&schema).unwrap()), ..policy(3) };
    assert!(matches!(decide(&success(r#"{"n": 1}"#), &policy, 1, 0.5), Verdict::Complete(_)));
    let Verdict::Error { failure, .. } = decide(&success(r#"{"n": "one"}"#), &policy, 1, 0.5) else { panic!() };
    assert!(failure.message.contains("/n"), "{}", failure.message);
}

#[test]
fn text_that_postgresql_cannot_store_is_left_out_of_errors() {
    let failure = Outcome::Failure(Failure::permanent("x", "a\0b"));
    let Verdict::Error { failure, .. } = decide(&failure, &policy(1), 1, 0.5) else { panic!() };
    assert_eq!(failure.message, "ab");
}

#[test]
fn the_third_loss_under_one_attempt_uses_it() {
    assert!(matches!(decide_lost(2, &policy(3), 1, 0.5), Verdict::DispatchAgain(Again::WorkerLost)));
    assert!(matches!(decide_lost(3, &policy(3), 1, 0.5), Verdict::Retry(..)));
    assert!(matches!(decide_lost(3, &policy(1), 1, 0.5), Verdict::Error { .. }));
}
