//! The main of a function: reads the settings, then serves one invocation at a time.

use std::{
    future::Future,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::BoxFuture;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tasker_process::{LAST_WORDS, Stream, begin_logs, flush, settings};
use tracing::level_filters::LevelFilter;

use crate::{
    Instance,
    events::{CheckedEvent, FunctionEvent},
};

/// The engine's debug lines about steps connect the logs of the functions.
const FOLLOWED: &[(&str, LevelFilter)] = &[("tasker_engine", LevelFilter::DEBUG)];
/// How long the logs of an invocation may take.
const TO_LOG: Duration = Duration::from_millis(200);

pub struct Invocation<E> {
    pub(crate) event: E,
    pub(crate) deadline: Deadline,
}

/// In milliseconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub fn time_left(self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(self.0).saturating_sub(now)
    }
}

/// Why an invocation failed as a whole. The platform returns it to the caller.
#[derive(Debug)]
pub struct Failed(pub(crate) String);

pub type InvocationResult = Result<Box<RawValue>, Failed>;

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl From<Failed> for Diagnostic {
    fn from(Failed(error_message): Failed) -> Self {
        Self { error_type: "InvocationFailed".into(), error_message }
    }
}

/// Serves invocations until the platform ends the process. Returns only on a failure outside an invocation.
pub async fn serve<E, F, Fut>(handler: F) -> ExitCode
where
    E: FunctionEvent,
    F: Fn(Instance, Invocation<E>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = InvocationResult> + Send + 'static,
{
    settings::forget_empty();
    let code = serve_until_failure(handler).await;
    flush(LAST_WORDS);
    code
}

async fn serve_until_failure<E, F, Fut>(handler: F) -> ExitCode
where
    E: FunctionEvent,
    F: Fn(Instance, Invocation<E>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = InvocationResult> + Send + 'static,
{
    if let Err(error) = begin_logs(Stream::Stdout, FOLLOWED) {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    if settings::path("AWS_LAMBDA_RUNTIME_API").is_none() {
        tracing::error!(
            "AWS_LAMBDA_RUNTIME_API is not set: this program is a Lambda function; start it with AWS Lambda or scripts/localstack"
        );
        return ExitCode::FAILURE;
    }
    let instance = match Instance::from_env().await {
        Ok(instance) => instance,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    instance.warm_up();
    let service = service_fn(move |event: LambdaEvent<CheckedEvent<E>>| -> BoxFuture<'static, InvocationResult> {
        let LambdaEvent { payload: CheckedEvent(event), context } = event;
        let handled = handler(instance.clone(), Invocation { event, deadline: Deadline(context.deadline) });
        // Boxed, because the compiler rejects the type of the whole future as too large.
        Box::pin(async move {
            let result = handled.await;
            // The process is frozen once the response is sent.
            flush(TO_LOG);
            result
        })
    });
    match lambda_runtime::run(service).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the Lambda runtime client failed; the function stops");
            ExitCode::FAILURE
        }
    }
}
