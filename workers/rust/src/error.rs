//! The errors of a handler.

use std::{
    any::Any,
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};
use tasker_wire::outcome::Failure;

use crate::words::{json_of, text_of};

/// Causes of an error that are told.
const CAUSES: usize = 16;

/// A failure that another attempt cannot cure: a declined card, an invalid request.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PermanentError {
    /// A description for people.
    pub message: String,
    /// The handler's own error code.
    pub error_code: Option<String>,
    /// Any JSON, for operators.
    pub context: Option<Value>,
}

impl PermanentError {
    /// A permanent failure without an error code or context.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), error_code: None, context: None }
    }

    /// Adds an error code.
    pub fn with_code(self, error_code: impl Into<String>) -> Self {
        Self { error_code: Some(error_code.into()), ..self }
    }

    /// Adds JSON for operators. A value that does not serialize is replaced by a text that says why.
    pub fn with_context(self, context: impl Serialize) -> Self {
        Self { context: Some(json_of(&context)), ..self }
    }
}

/// A failure that another attempt may cure: a gateway that does not respond, a lock that is held.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RetryableError {
    /// A description for people.
    pub message: String,
    /// The shortest pause before the next attempt. It can only lengthen the template's backoff.
    pub retry_after: Option<Duration>,
    /// The handler's own error code.
    pub error_code: Option<String>,
    /// Any JSON, for operators.
    pub context: Option<Value>,
}

impl RetryableError {
    /// A retryable failure without a pause, error code or context.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None, error_code: None, context: None }
    }

    /// Sets the shortest pause before the next attempt.
    pub fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// Adds an error code.
    pub fn with_code(self, error_code: impl Into<String>) -> Self {
        Self { error_code: Some(error_code.into()), ..self }
    }

    /// Adds JSON for operators. A value that does not serialize is replaced by a text that says why.
    pub fn with_context(self, context: impl Serialize) -> Self {
        Self { context: Some(json_of(&context)), ..self }
    }
}

/// The error of a handler. `?` converts every error. One that is neither a [`PermanentError`] nor a [`RetryableError`] is retryable.
#[derive(Debug)]
pub struct StepError(Box<Failure>);

impl StepError {
    /// A failure with every field set by the handler, including `error_type`.
    pub fn new(failure: Failure) -> Self {
        Self(Box::new(failure))
    }

    pub(crate) fn into_failure(self) -> Failure {
        *self.0
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        if let Some(PermanentError { message, error_code, context }) = any.downcast_ref() {
            let failure = Failure::permanent("permanent_error", message);
            return Self::new(Failure { error_code: error_code.clone(), context: context.clone(), ..failure });
        }
        if let Some(RetryableError { message, retry_after, error_code, context }) = any.downcast_ref() {
            let failure = Failure::retryable("retryable_error", message);
            let delay_seconds = retry_after.map(|pause| pause.as_secs_f64());
            return Self::new(Failure { error_code: error_code.clone(), context: context.clone(), delay_seconds, ..failure });
        }
        let causes = causes(&error);
        let context = (!causes.is_empty()).then(|| json!({ "causes": causes }));
        let message = text_of(&error).unwrap_or_else(|| format!("a {} that has no text", std::any::type_name::<E>()));
        Self::new(Failure { context, ..Failure::retryable("handler_error", message) })
    }
}

/// The texts of an error's causes, of which there may be endlessly many.
fn causes(error: &dyn Error) -> Vec<String> {
    let causes = || std::iter::successors(error.source(), |error| (*error).source()).take(CAUSES);
    let texts = move || causes().map(|cause| text_of(&cause).unwrap_or_default()).collect();
    catch_unwind(AssertUnwindSafe(texts)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_and_retryable_errors_keep_their_kind_and_any_other_is_retryable() {
        let permanent = StepError::from(PermanentError::new("declined").with_code("card_declined")).into_failure();
        assert!(!permanent.retryable && permanent.error_type == "permanent_error");
        assert_eq!(permanent.error_code.as_deref(), Some("card_declined"));
        let retryable = StepError::from(RetryableError::new("busy").retry_after(Duration::from_millis(1500))).into_failure();
        assert!(retryable.retryable && retryable.error_type == "retryable_error");
        assert_eq!(retryable.delay_seconds, Some(1.5));
        let other = StepError::from("x".parse::<i32>().unwrap_err()).into_failure();
        assert!(other.retryable && other.error_type == "handler_error");
    }
}
