//! The registry of handlers, and the call of one.

use std::{collections::BTreeMap, pin::Pin, process::ExitCode, sync::Arc};

use futures::FutureExt;
use tasker_domain::{Outcome, RunStep, outcome::Failure};

use crate::{IntoOutcome, StepContext, StepError, run};

/// Says that a step still works.
pub type Heartbeat = Arc<dyn Fn() + Send + Sync>;

type Call = Box<dyn Fn(StepContext) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// Handlers by name.
#[derive(Default)]
pub struct Worker {
    handlers: BTreeMap<String, Call>,
}

impl Worker {
    /// No handlers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a handler under the name that templates call it by (`handler.callable`).
    ///
    /// # Panics
    /// When the name is taken: one of the two would never run.
    pub fn handler<F, Fut, T, E>(mut self, name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: IntoOutcome,
        E: Into<StepError>,
    {
        let name = name.into();
        let call: Call = Box::new(move |context| {
            let running = handler(context);
            Box::pin(async move {
                running.await.map_or_else(|error| Outcome::Failure(error.into().into_failure()), IntoOutcome::into_outcome)
            })
        });
        assert!(!self.handlers.contains_key(&name), "two handlers are registered as `{name}`");
        self.handlers.insert(name, call);
        self
    }

    /// The names of the handlers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }

    /// Runs the handler of a step. A panic is a retryable failure, an unknown handler a permanent one.
    pub async fn call(&self, step: Arc<RunStep>, heartbeat: Heartbeat) -> Outcome {
        let Some(handler) = self.find(&step) else { return self.not_found(&step) };
        let running = std::panic::AssertUnwindSafe(async { handler(StepContext::new(step, heartbeat)).await });
        running.catch_unwind().await.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            let message = format!("the handler panicked: {}", text.unwrap_or("without a message"));
            Outcome::Failure(Failure::retryable("handler_panicked", message))
        })
    }

    /// Serves the steps that come over the pipes of `tasker-worker` or `tasker-ctl dev`, until these close.
    ///
    /// Started by hand, it says how to start it and returns an error code.
    pub fn run(self) -> ExitCode {
        run::run(self)
    }

    /// A method other than `call` is a handler of its own, registered as `callable.method`.
    fn find(&self, step: &RunStep) -> Option<&Call> {
        match step.handler.method.as_str() {
            "call" => self.handlers.get(&step.handler.callable),
            _ => self.handlers.get(&wanted(step)),
        }
    }

    fn not_found(&self, step: &RunStep) -> Outcome {
        let names: Vec<&str> = self.names().collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let message = format!("no handler is registered as `{}`; registered here: {known}", wanted(step));
        Outcome::Failure(Failure::permanent("handler_not_found", message))
    }
}

fn wanted(step: &RunStep) -> String {
    match step.handler.method.as_str() {
        "call" => step.handler.callable.clone(),
        method => format!("{}.{method}", step.handler.callable),
    }
}
