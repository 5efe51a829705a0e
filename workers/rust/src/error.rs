//! How a handler fails.

use std::{any::Any, error::Error, time::Duration};

use serde_json::{Value, json};
use tasker_wire::outcome::Failure;

/// A failure that another attempt cannot cure: a declined card, a request that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PermanentError {
    /// What went wrong, for a person.
    pub message: String,
    /// An error code of the handler's own.
    pub error_code: Option<String>,
    /// Any JSON that helps an operator.
    pub context: Option<Value>,
}

impl PermanentError {
    /// A permanent failure without code and context.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), error_code: None, context: None }
    }

    /// Adds an error code.
    pub fn with_code(self, error_code: impl Into<String>) -> Self {
        Self { error_code: Some(error_code.into()), ..self }
    }

    /// Adds JSON that helps an operator.
    pub fn with_context(self, context: Value) -> Self {
        Self { context: Some(context), ..self }
    }
}

/// A failure that another attempt may cure: a gateway that does not answer, a lock that is held.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RetryableError {
    /// What went wrong, for a person.
    pub message: String,
    /// The next attempt begins no sooner than this. It can lengthen the template's backoff, never shorten it.
    pub retry_after: Option<Duration>,
    /// An error code of the handler's own.
    pub error_code: Option<String>,
    /// Any JSON that helps an operator.
    pub context: Option<Value>,
}

impl RetryableError {
    /// A retryable failure without pause, code and context.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None, error_code: None, context: None }
    }

    /// Sets the least pause before the next attempt.
    pub fn retry_after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }

    /// Adds an error code.
    pub fn with_code(self, error_code: impl Into<String>) -> Self {
        Self { error_code: Some(error_code.into()), ..self }
    }

    /// Adds JSON that helps an operator.
    pub fn with_context(self, context: Value) -> Self {
        Self { context: Some(context), ..self }
    }
}

/// The error of a handler. Every error becomes one with `?`; one that is neither [`PermanentError`] nor [`RetryableError`] is retryable.
#[derive(Debug)]
pub struct StepError(Failure);

impl StepError {
    /// A failure of which the handler sets every field, `error_type` included.
    pub fn new(failure: Failure) -> Self {
        Self(failure)
    }

    pub(crate) fn into_failure(self) -> Failure {
        self.0
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        if let Some(PermanentError { message, error_code, context }) = any.downcast_ref() {
            let failure = Failure::permanent("permanent_error", message);
            return Self(Failure { error_code: error_code.clone(), context: context.clone(), ..failure });
        }
        if let Some(RetryableError { message, retry_after, error_code, context }) = any.downcast_ref() {
            let failure = Failure::retryable("retryable_error", message);
            let delay_seconds = retry_after.map(|pause| pause.as_secs_f64());
            return Self(Failure { error_code: error_code.clone(), context: context.clone(), delay_seconds, ..failure });
        }
        let causes: Vec<String> =
            std::iter::successors(error.source(), |error| (*error).source()).map(ToString::to_string).collect();
        let context = (!causes.is_empty()).then(|| json!({ "causes": causes }));
        Self(Failure { context, ..Failure::retryable("handler_error", error.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_named_errors_keep_their_meaning_and_any_other_is_retryable() {
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
