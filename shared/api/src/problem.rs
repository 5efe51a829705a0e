//! The response to a failed request: `{"error": {"code", "message", "details"?}}`, with Tasker's codes.

use std::time::{Duration, Instant};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use tasker_domain::request::RequestError;
use tasker_engine::{OperatorError, React, Reaction, RegisterError, SubmitError};
use tasker_store::StoreError;
use tasker_wire::{
    Fault, Faults, StepId,
    rest::{ActionResponse, ErrorBody, ErrorDetails, ErrorWords, PauseResponse, RecoverResponse},
};

/// `Retry-After` while the database is unavailable, in seconds: long enough for a restart, short enough for a person.
const RETRY_AFTER_SECONDS: u32 = 2;
/// `Retry-After` of an overload, in seconds: long enough that rejections cost little.
const BUSY_SECONDS: u32 = 1;
/// How long the result of a change is read again, and the pause before.
const TO_SHOW: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(200);
/// Faults in the message. The details contain all of them.
const FAULTS_IN_MESSAGE: usize = 3;

/// A failed request. The constructors distinguish what the caller can do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    words: ErrorWords,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let words = ErrorWords { code: code.into(), details: None, message: message.into(), retry_after_seconds: None };
        Self { status, words }
    }

    pub fn not_found(what: &str) -> Self {
        Self::not_found_near(what, "")
    }

    /// `hint` suggests another name, as the end of the sentence.
    pub fn not_found_near(what: &str, hint: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("{what} not found{hint}"))
    }

    pub fn malformed(faults: Faults) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", "").with_faults(faults)
    }

    /// The body is above a limit.
    pub fn too_large(fault: Fault) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "").with_faults(fault.into())
    }

    /// A bug in the orchestrator. Only the log describes it.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "the server failed; see its log for the reason")
    }

    /// The infrastructure fails.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message).retry_after(RETRY_AFTER_SECONDS)
    }

    /// Nobody knows whether the request had an effect.
    pub fn unconfirmed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "UNCONFIRMED", message)
    }

    /// A change was made, and the database cannot show its result now.
    fn done_not_shown(self, what: &str, route: &str) -> Self {
        match self.status.is_server_error() {
            true => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "UNCONFIRMED",
                format!("{what}, but the database cannot show the result now: GET {route}"),
            ),
            false => self,
        }
    }

    /// The database ended the statement.
    fn locked() -> Self {
        let message = "the request waited too long for the database, probably for a lock of another session (GET /health/ready names \
            them); it had no effect, send it again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "DATABASE_LOCKED", message).retry_after(RETRY_AFTER_SECONDS)
    }

    /// The action would no longer do what its caller saw.
    pub fn changed(now: ActionResponse) -> Self {
        Self::otherwise("action", ErrorDetails::Changed(now.into()))
    }

    pub fn changed_recovery(now: RecoverResponse) -> Self {
        Self::otherwise("recovery", ErrorDetails::ChangedRecovery(now.into()))
    }

    pub fn changed_pause(now: PauseResponse) -> Self {
        Self::otherwise(if now.action == "resume" { "end of the pause" } else { "pause" }, ErrorDetails::ChangedPause(now.into()))
    }

    fn otherwise(what: &str, now: ErrorDetails) -> Self {
        let message = format!("what the {what} would do has changed since the dry run; nothing was done");
        Self::new(StatusCode::CONFLICT, "CHANGED", message).with_details(now)
    }

    /// The process runs, and should get no requests. All problems are in the message and in the details.
    pub fn unready(problems: Vec<String>) -> Self {
        Self::unavailable(problems.join("; ")).with_details(ErrorDetails::Problems { problems })
    }

    /// The server is at a limit. It rejects immediately, so the caller loses no time.
    pub fn overloaded(what: &str) -> Self {
        let message = format!("too busy: {what}; the request had no effect, send it again later");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "BACKPRESSURE", message).retry_after(BUSY_SECONDS)
    }

    pub fn with_code(mut self, code: &'static str) -> Self {
        self.words.code = code.into();
        self
    }

    /// `hint` is the end of the sentence.
    pub fn with_hint(mut self, hint: &str) -> Self {
        self.words.message.push_str(hint);
        self
    }

    fn with_details(mut self, details: ErrorDetails) -> Self {
        self.words.details = Some(details);
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.words.retry_after_seconds = Some(seconds);
        self
    }

    fn with_faults(mut self, Faults(faults): Faults) -> Self {
        let mut message: Vec<String> = faults.iter().take(FAULTS_IN_MESSAGE).map(ToString::to_string).collect();
        if faults.len() > FAULTS_IN_MESSAGE {
            message.push(format!("and {} more in details.faults", faults.len() - FAULTS_IN_MESSAGE));
        }
        self.words.message = message.join("; ");
        self.with_details(ErrorDetails::Faults { faults })
    }
}

/// Reads the result of a change. While the database cannot show it, for a few seconds again: the change itself is no refusal any more.
pub(crate) async fn result_of<T, F>(what: &str, route: &str, read: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let until = Instant::now() + TO_SHOW;
    loop {
        match read().await {
            Err(problem) if problem.status.is_server_error() && Instant::now() < until => tokio::time::sleep(AGAIN).await,
            Err(problem) => return Err(problem.done_not_shown(what, route)),
            shown => return shown,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let retry_after = self.words.retry_after_seconds;
        let mut response = (self.status, Json(ErrorBody { error: self.words })).into_response();
        if let Some(seconds) = retry_after {
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
            // The reasons name hosts and users: they are for the log.
            Reaction::Later if matches!(error, StoreError::TimedOut(_)) => Self::locked(),
            Reaction::Later if matches!(error, StoreError::Unanswered(_)) => {
                Self::unconfirmed("the database did not answer; the request may have taken effect")
            }
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
            SubmitError::UnknownTemplate { known, .. } => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
                .with_details(ErrorDetails::Versions { registered_versions: known }),
            SubmitError::Invalid(faults) => Self::malformed(faults),
            SubmitError::Duplicate { task, state } => Self::new(StatusCode::CONFLICT, "CONFLICT", message)
                .with_details(ErrorDetails::Task { status: state.to_string(), task_uuid: task.uuid() }),
            SubmitError::Full => Self::overloaded("too many steps are waiting for workers"),
            SubmitError::Unconfirmed { task } => {
                let message =
                    format!("{message}: GET /v1/tasks/{task} tells, and sending the request again may create a second task");
                Self::unconfirmed(message)
            }
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
                    .with_details(ErrorDetails::Step { status: state, step_uuid: step.map(StepId::uuid) })
            }
            OperatorError::Changed(_) => Self::new(StatusCode::CONFLICT, "CHANGED", message),
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
                Self::new(StatusCode::CONFLICT, "CONFLICT", message).with_details(ErrorDetails::Differs { diff, version })
            }
            RegisterError::Store(error) => error.into(),
        }
    }
}
