//! Decides what follows from an outcome. [`decide`] is the whole retry policy; the store applies its verdicts.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{backoff::Backoff, dynamic::Expansion, json};
use tasker_wire::{Failure, Outcome, limits};

/// A template's policy for the attempts of one step.
#[derive(Debug)]
pub struct Policy {
    /// At least 1.
    pub max_attempts: i32,
    /// Whether another attempt may follow a failed one.
    pub retryable: bool,
    pub backoff: Backoff,
    pub timeout_seconds: u32,
    pub result_schema: Option<jsonschema::Validator>,
    pub failure_effect: FailureEffect,
}

/// What a failure that no attempt follows means for the task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailureEffect {
    /// The steps after it cannot run.
    #[default]
    Blocks,
    /// Nothing: the step counts as a done parent.
    Tolerated,
    /// As [`FailureEffect::Blocks`], and the other workers of its batch are ended.
    EndsBatch,
}

/// The new state of a step after an outcome, with the data that is recorded.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// Done, with this result.
    Complete(&'a RawValue),
    /// As [`Verdict::Complete`], of a step that decides which steps exist. These are made.
    Expand(&'a RawValue, Box<Expansion>),
    /// Failed; the next attempt follows after this many milliseconds.
    Retry(u64, Failure),
    /// Failed; no attempt follows.
    Error { failure: Failure, effect: FailureEffect },
    /// Dispatched again under a new lease and the same attempt.
    DispatchAgain(Again),
    /// Running; its deadline is this many milliseconds from now.
    Started(u64),
    /// Waits for a callback, at most this many milliseconds.
    AwaitCallback(u64),
}

impl Verdict<'_> {
    /// Whether it is applied without others: it locks steps of its task before its own.
    pub fn goes_alone(&self) -> bool {
        matches!(self, Self::Expand(..) | Self::Error { effect: FailureEffect::EndsBatch, .. })
    }
}

/// Why a step is dispatched again without using an attempt.
#[derive(Debug)]
pub enum Again {
    /// The handler stored this progress, as JSON text.
    Checkpoint(Box<RawValue>),
    /// No worker ran the step.
    Released,
    WorkerLost,
}

/// Decides what follows from the outcome of an attempt.
///
/// `attempt` counts from 1. `jitter` is in 0..1 and spreads the backoff. An outcome that is invalid for its step is a permanent
/// failure of the step.
pub fn decide<'a>(outcome: &'a Outcome, policy: &Policy, attempt: i32, jitter: f64) -> Verdict<'a> {
    match outcome {
        Outcome::Success { result, .. } => match refuse_result(result, policy) {
            None => Verdict::Complete(result),
            Some(failure) => decide_failure(storable(&failure), policy, attempt, jitter),
        },
        Outcome::Failure(failure) => decide_failure(storable(failure), policy, attempt, jitter),
        Outcome::Checkpoint { .. } => match checkpoint_text(outcome) {
            Ok(text) => Verdict::DispatchAgain(Again::Checkpoint(text)),
            Err(failure) => decide_failure(storable(&failure), policy, attempt, jitter),
        },
        Outcome::PendingCallback { timeout_seconds } => {
            Verdict::AwaitCallback(u64::from((*timeout_seconds).clamp(1, limits::CALLBACK_SECONDS)) * 1000)
        }
        Outcome::Released {} => Verdict::DispatchAgain(Again::Released),
        Outcome::Started {} | Outcome::Heartbeat {} => {
            Verdict::Started(u64::from(policy.timeout_seconds + limits::SILENCE_SECONDS) * 1000)
        }
    }
}

/// Decides what follows when the worker of a started step was lost for the `losses`-th time under one attempt.
pub fn decide_lost(losses: i32, policy: &Policy, attempt: i32, jitter: f64) -> Verdict<'static> {
    if losses < limits::LOSSES {
        return Verdict::DispatchAgain(Again::WorkerLost);
    }
    let message = format!("its worker was lost {losses} times under attempt {attempt}");
    decide_failure(Failure::retryable("worker_crashed", message), policy, attempt, jitter)
}

/// Decides what follows from a failure, whose texts must be storable.
pub fn decide_failure(failure: Failure, policy: &Policy, attempt: i32, jitter: f64) -> Verdict<'static> {
    if failure.retryable && policy.retryable && attempt < policy.max_attempts {
        let delay = policy.backoff.delay_ms(attempt, failure.delay_seconds, jitter);
        return Verdict::Retry(delay, failure);
    }
    Verdict::Error { failure, effect: policy.failure_effect }
}

fn refuse_result(result: &RawValue, policy: &Policy) -> Option<Failure> {
    let text = result.get();
    if text.len() > limits::RESULT_BYTES {
        let message = format!(
            "the result has {} bytes; at most {} are kept. Store the data and return a reference to it",
            text.len(),
            limits::RESULT_BYTES
        );
        return Some(Failure::permanent("result_too_large", message));
    }
    if let Err(fault) = json::check(text) {
        return Some(Failure::permanent("invalid_result", format!("the result cannot be stored: {fault}")));
    }
    mismatches(result, policy).map(|faults| Failure::permanent("result_schema", format!("the result {faults}")))
}

/// What of a result is not as the step's `result_schema` says, as a sentence without its subject; `None`: it is, or there is no schema.
pub fn mismatches(result: &RawValue, policy: &Policy) -> Option<String> {
    let schema = policy.result_schema.as_ref()?;
    let value = serde_json::from_str(result.get()).ok()?;
    let place = |path: &str| if path.is_empty() { String::new() } else { format!("{path}: ") };
    let faults: Vec<String> =
        schema.iter_errors(&value).take(10).map(|e| format!("{}{e}", place(e.instance_path().as_str()))).collect();
    (!faults.is_empty()).then(|| format!("does not match result_schema: {}", faults.join("; ")))
}

/// Why a handler's metadata cannot be stored. It is left out then: what is only for operators fails no step.
pub fn refuse_metadata(metadata: &RawValue) -> Option<String> {
    let text = metadata.get();
    if text.len() > limits::METADATA_BYTES {
        return Some(format!("it has {} bytes; at most {} are kept", text.len(), limits::METADATA_BYTES));
    }
    json::check(text).err().map(|fault| fault.to_string())
}

fn checkpoint_text(outcome: &Outcome) -> Result<Box<RawValue>, Box<Failure>> {
    let Outcome::Checkpoint { cursor, items_processed, accumulated } = outcome else {
        unreachable!("called for checkpoints only");
    };
    #[derive(Serialize)]
    struct Stored<'a> {
        cursor: &'a RawValue,
        items_processed: u64,
        accumulated: Option<&'a RawValue>,
    }
    let stored = Stored { cursor, items_processed: *items_processed, accumulated: accumulated.as_deref() };
    let text = serde_json::value::to_raw_value(&stored).expect("raw values and a number serialize");
    if text.get().len() > limits::RESULT_BYTES {
        let message = format!("the checkpoint has {} bytes; at most {} are kept", text.get().len(), limits::RESULT_BYTES);
        return Err(Failure::permanent("checkpoint_too_large", message).into());
    }
    json::check(text.get())
        .map_err(|fault| Failure::permanent("invalid_checkpoint", format!("the checkpoint cannot be stored: {fault}")))?;
    Ok(text)
}

/// The failure with texts cut to their limits and without characters that PostgreSQL cannot store.
fn storable(failure: &Failure) -> Failure {
    let clean = |s: &str| s.chars().filter(|&c| c != '\0').take(limits::ERROR_CHARS).collect::<String>();
    let context = failure.context.as_ref().filter(|c| {
        let text = c.to_string();
        text.len() <= limits::METADATA_BYTES && json::check(&text).is_ok()
    });
    Failure {
        message: clean(&failure.message),
        error_type: clean(&failure.error_type),
        error_code: failure.error_code.as_deref().map(clean),
        context: context.cloned(),
        ..failure.clone()
    }
}
