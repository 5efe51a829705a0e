//! What a caller is told when a request fails: `{"error": {"code", "message", "details"?}}`, in Tasker's codes.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tasker_domain::request::RequestError;
use tasker_engine::{OperatorError, React, Reaction, RegisterError, SubmitError};
use tasker_store::StoreError;
use tasker_wire::{Fault, Faults};

/// Seconds after which a caller may try again when the database is away: long enough for a restart, short enough for a person.
const RETRY_AFTER_SECONDS: u32 = 2;
/// Seconds after which a caller that was refused may try again: long enough that refusing costs little beside working.
const BUSY_SECONDS: u32 = 1;
/// Faults that the message itself names; all of them are in the details.
const FAULTS_IN_MESSAGE: usize = 3;

/// A request that failed, by what the caller can do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Option<Value>,
    retry_after: Option<u32>,
}

impl Problem {
    /// A problem without details.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None, retry_after: None }
    }

    /// There is no such task, step or template.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("{what} not found"))
    }

    /// The request says something wrong, at these places.
    pub fn malformed(faults: Faults) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", "").with_faults(faults)
    }

    /// The body is larger than what is read or kept.
    pub fn too_large(fault: Fault) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "").with_faults(fault.into())
    }

    /// We are wrong; the log says how.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "the server failed; its log says why")
    }

    /// The world is unwell.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..problem }
    }

    /// We have enough to do. Said at once, so that a caller loses no time with it.
    pub fn overloaded(what: &str) -> Self {
        let message = format!("too busy: {what}; nothing of the request was done, send it again later");
        Self { retry_after: Some(BUSY_SECONDS), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "BACKPRESSURE", message) }
    }

    /// The same with another code.
    pub fn with_code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    fn with_details(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }

    fn with_faults(self, faults: Faults) -> Self {
        let mut message: Vec<String> = faults.0.iter().take(FAULTS_IN_MESSAGE).map(ToString::to_string).collect();
        if faults.0.len() > FAULTS_IN_MESSAGE {
            message.push(format!("and {} more in details.faults", faults.0.len() - FAULTS_IN_MESSAGE));
        }
        Self { message: message.join("; "), ..self }.with_details(json!({ "faults": faults }))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(details) = self.details {
            error["details"] = details;
        }
        if let Some(seconds) = self.retry_after {
            error["retry_after_seconds"] = seconds.into();
        }
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Self {
        Self::malformed(faults)
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Malformed(faults) => Self::malformed(faults),
            RequestError::TooLarge(fault) => Self::too_large(fault),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error.reaction() {
            // The reason names hosts and users: it is for the log.
            Reaction::Later => Self::unavailable("the database is not available; try again"),
            Reaction::CallersFault => Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", error.to_string()),
            Reaction::OurDefect => Self::internal().with_code("DATABASE_ERROR"),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::UnknownTemplate { known, .. } => {
                Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).with_details(json!({ "registered_versions": known }))
            }
            SubmitError::Invalid(faults) => Self::malformed(faults),
            SubmitError::Duplicate { task, state } => {
                Self::new(StatusCode::CONFLICT, "CONFLICT", message).with_details(json!({"task_uuid": task, "status": state}))
            }
            SubmitError::Full => Self::overloaded("too many steps wait for workers already"),
            SubmitError::Store(error) => error.into(),
        }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let message = error.to_string();
        match error {
            OperatorError::NotFound => Self::not_found("task or step"),
            OperatorError::Conflict { step, state } => {
                Self::new(StatusCode::CONFLICT, "CONFLICT", format!("not possible: {message}"))
                    .with_details(json!({"step_uuid": step, "status": state}))
            }
            OperatorError::Invalid(faults) => Self::malformed(faults),
            OperatorError::Store(error) => error.into(),
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        let message = error.to_string();
        match error {
            RegisterError::Invalid(faults) => Self::malformed(faults),
            RegisterError::Differs { version, diff } => {
                Self::new(StatusCode::CONFLICT, "CONFLICT", message).with_details(json!({"version": version, "diff": diff}))
            }
            RegisterError::Store(error) => error.into(),
        }
    }
}
