//! The results of a handler.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tasker_wire::{Outcome, outcome::Failure};

use crate::words::metadata_of;

/// A result that is more than a value: one with metadata, a checkpoint, or a failure with every field.
#[derive(Debug)]
pub struct StepResult(Outcome);

impl StepResult {
    /// A success with metadata, which operators see and children of the step do not. Metadata that does not serialize is replaced by a
    /// text that says why, and it is cut to 256 KiB.
    pub fn success(result: impl Serialize, metadata: impl Serialize) -> Self {
        let outcome = match to_raw_value(&result) {
            Ok(result) => Outcome::success(result, Some(metadata_of(&metadata))),
            Err(error) => not_json(&error),
        };
        Self(outcome)
    }

    /// Stores progress, and dispatches the step again under the same attempt; see [`crate::StepContext::checkpoint_cursor`].
    pub fn checkpoint(cursor: impl Serialize, items_processed: u64, accumulated: impl Serialize) -> Self {
        let outcome = match (to_raw_value(&cursor), to_raw_value(&accumulated)) {
            (Ok(cursor), Ok(accumulated)) => Outcome::Checkpoint { cursor, items_processed, accumulated: Some(accumulated) },
            (Err(error), _) | (_, Err(error)) => not_json(&error),
        };
        Self(outcome)
    }

    /// A failure with every field set by the handler.
    pub fn failure(failure: Failure) -> Self {
        Self(Outcome::Failure(failure))
    }
}

/// What a handler may return: any value that serializes to JSON, a [`StepResult`], a [`Decision`](crate::Decision), or
/// [`Batches`](crate::Batches).
pub trait IntoOutcome {
    /// Converts the value to the outcome of the attempt.
    fn into_outcome(self) -> Outcome;
}

impl<T: Serialize> IntoOutcome for T {
    fn into_outcome(self) -> Outcome {
        match to_raw_value(&self) {
            Ok(result) => Outcome::success(nothing_as_object(result), None),
            Err(error) => not_json(&error),
        }
    }
}

impl IntoOutcome for StepResult {
    fn into_outcome(self) -> Outcome {
        self.0
    }
}

/// A handler that returns nothing has the result `{}`, as in all SDKs.
fn nothing_as_object(result: Box<RawValue>) -> Box<RawValue> {
    if result.get() == "null" { RawValue::from_string("{}".into()).expect("an empty object is JSON") } else { result }
}

pub(crate) fn not_json(error: &serde_json::Error) -> Outcome {
    Outcome::Failure(Failure::permanent("invalid_result", format!("the handler's result is not JSON: {error}")))
}
