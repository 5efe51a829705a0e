//! The main of a function: settings, the first poll, and one invocation after the other.

use std::{
    future::Future,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::BoxFuture;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tasker_process::{Stream, begin_logs, settings};
use tracing::level_filters::LevelFilter;

use crate::{
    Instance,
    events::{FunctionEvent, Given},
};

/// The engine's lines about steps are what ties the logs of the functions together.
const FOLLOWED: &[(&str, LevelFilter)] = &[("tasker_engine", LevelFilter::DEBUG)];

/// One invocation.
pub struct Invocation<E> {
    pub(crate) event: E,
    pub(crate) deadline: Deadline,
}

/// When an invocation must have answered, in milliseconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub fn time_left(self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(self.0).saturating_sub(now)
    }
}

/// Why an invocation failed as a whole. The platform returns it to the caller.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub(crate) String);

impl From<Failed> for Diagnostic {
    fn from(Failed(error_message): Failed) -> Self {
        Self { error_type: "InvocationFailed".into(), error_message }
    }
}

/// Serves invocations until the platform ends the process. Returns only when it cannot start.
pub async fn serve<E, F, Fut>(handler: F) -> ExitCode
where
    E: FunctionEvent,
    F: Fn(Instance, Invocation<E>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Box<RawValue>, Failed>> + Send + 'static,
{
    begin_logs(Stream::Stdout, FOLLOWED);
    if settings::path("AWS_LAMBDA_RUNTIME_API").is_none() {
        tracing::error!(
            "AWS_LAMBDA_RUNTIME_API is not set: this program is a function, which Lambda starts, or scripts/localstack"
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
    let invoked = service_fn(move |event: LambdaEvent<Given<E>>| {
        let (handler, instance) = (handler.clone(), instance.clone());
        // Boxed, because the whole future is too large a type for the compiler.
        let invoked: BoxFuture<'static, Result<Box<RawValue>, Failed>> = Box::pin(async move {
            let LambdaEvent { payload: Given(event), context } = event;
            handler(instance, Invocation { event, deadline: Deadline(context.deadline) }).await
        });
        invoked
    });
    match lambda_runtime::run(invoked).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the runtime of the function ended");
            ExitCode::FAILURE
        }
    }
}
