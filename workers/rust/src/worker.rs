//! The registry of handlers.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
};

use futures::FutureExt;
use tasker_wire::{Outcome, RunStep, outcome::Failure};
use tokio::sync::watch;

use crate::{IntoOutcome, StepContext, StepError, context::Stop, run, words::text_of};

/// Reports that the handler of a step is still running.
pub type Heartbeat = Arc<dyn Fn() + Send + Sync>;

type Call = Box<dyn Fn(StepContext) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// Handlers by name, and the loop that runs them.
#[derive(Default)]
pub struct Worker {
    handlers: BTreeMap<String, Call>,
}

impl Worker {
    /// A worker without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a handler under the name that templates use (`handler.callable`).
    ///
    /// # Panics
    /// If the name is taken, because one of the two handlers would never run.
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

    /// The names of the registered handlers, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }

    /// Runs the handler of a step. A panic is a retryable failure; an unknown handler is a permanent one.
    pub async fn call(&self, step: Arc<RunStep>, heartbeat: Heartbeat) -> Outcome {
        let (_sender, stop) = watch::channel(false);
        self.call_until(step, heartbeat, stop).await
    }

    /// Runs the handler of a step until it ends or the step is no longer wanted; then the handler's future is dropped.
    pub(crate) async fn call_until(&self, step: Arc<RunStep>, heartbeat: Heartbeat, stop: Stop) -> Outcome {
        let Some(handler) = self.find(&step) else { return self.not_found(&step) };
        if *stop.borrow() {
            return Outcome::Released {};
        }
        // Its destructors may panic too, so it is dropped in here.
        let running = AssertUnwindSafe(async {
            let mut stopped = stop.clone();
            tokio::select! {
                biased;
                outcome = async { handler(StepContext::new(step, heartbeat, stop)).await } => outcome,
                Ok(()) = async { stopped.wait_for(|stopped| *stopped).await.map(drop) } => Outcome::Released {},
            }
        });
        match running.catch_unwind().await.unwrap_or_else(panicked) {
            Outcome::Failure(failure) => Outcome::Failure(failure.kept()),
            outcome => outcome,
        }
    }

    /// Runs the steps from the pipes of `tasker-worker` or `tasker-ctl dev` until the pipes close.
    ///
    /// If started without pipes, it prints how to start it and returns an error code.
    pub fn run(self) -> ExitCode {
        run::run(self)
    }

    /// The handler that is registered as `callable.method`, or else as `callable`.
    fn find(&self, step: &RunStep) -> Option<&Call> {
        self.handlers.get(&wanted(step)).or_else(|| self.handlers.get(&step.handler.callable))
    }

    fn not_found(&self, step: &RunStep) -> Outcome {
        let names: Vec<&str> = self.names().collect();
        let name = wanted(step);
        let near = nearest(&name, &names).or_else(|| nearest(&step.handler.callable, &names));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let message = format!("no handler is registered as `{name}`{hint}; registered here: {known}");
        Outcome::Failure(Failure::permanent("handler_not_found", message).kept())
    }
}

fn wanted(step: &RunStep) -> String {
    match step.handler.method.as_str() {
        "call" => step.handler.callable.clone(),
        method => format!("{}.{method}", step.handler.callable),
    }
}

/// The name that differs from `name` in the fewest characters, if these are no more than a third.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let distances = names.iter().map(|known| (distance(name, known), *known));
    distances.filter(|(distance, _)| 3 * distance <= name.chars().count()).min().map(|(_, known)| known)
}

/// How many characters are inserted, deleted or replaced between two names.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (no, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[no + 1];
            row[no + 1] = replaced.min(row[no] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The failure of a handler that panicked.
fn panicked(payload: Box<dyn Any + Send>) -> Outcome {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.and_then(|text| text_of(&text)).unwrap_or_else(|| "without a message".into());
    let outcome = Outcome::Failure(Failure::retryable("handler_panicked", format!("the handler panicked: {text}")));
    // Anything may be thrown, also what panics when it is dropped.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use serde_json::{
        Value, json,
        value::{RawValue, to_raw_value},
    };

    use super::*;
    use crate::{PermanentError, RetryableError, StepResult, testing::call};

    #[tokio::test]
    async fn a_handler_sees_its_inputs_and_its_value_is_the_result() {
        let worker = Worker::new().handler("add", |context: StepContext| async move {
            let (amount, parent): (u64, Value) = (context.input("amount")?, context.dependency("parent")?);
            let limit = context.get_config("limit");
            Ok::<_, PermanentError>(json!({ "sum": amount + parent["total"].as_u64().unwrap(), "limit": limit }))
        });
        let outcome = call(worker, "add", json!({})).await;
        assert_eq!(outcome, json!({"success": {"result": {"sum": 10, "limit": 5}}}));
    }

    #[tokio::test]
    async fn a_type_that_reads_more_than_a_double_gets_every_digit() {
        let worker = Worker::new().handler("digits", |context: StepContext| async move {
            let (amount, limit): (u128, Box<RawValue>) = (context.input("amount")?, context.config("limit")?);
            let total: Box<RawValue> = context.dependency("parent")?;
            Ok::<_, PermanentError>(vec![to_raw_value(&(amount + 1)).unwrap(), limit, total])
        });
        let text = |digits: &str| RawValue::from_string(digits.into()).unwrap();
        let step = json!({
            "v": 1, "task_id": uuid::Uuid::from_u128(1 << 64), "step_id": uuid::Uuid::from_u128(1 << 64), "step_name": "s", "lease": 1,
            "attempt": 1, "max_attempts": 3, "token": "t", "timeout_seconds": 30, "correlation_id": uuid::Uuid::nil(),
            "namespace": "default", "context": {}, "handler": {"callable": "digits"},
            "dependency_results": {},
        });
        let mut step: RunStep = serde_json::from_value(step).unwrap();
        step.context = text(r#"{"amount": 1000000000000000000000}"#).into();
        step.handler.initialization.insert("limit".into(), text("0.1000000000000000055511151231257827").into());
        step.dependency_results.insert("parent".into(), text("-12345678901234567890123"));
        let outcome = serde_json::to_string(&worker.call(Arc::new(step), Arc::new(|| {})).await).unwrap();
        let result = "[1000000000000000000001,0.1000000000000000055511151231257827,-12345678901234567890123]";
        assert_eq!(outcome, format!(r#"{{"success":{{"result":{result}}}}}"#));
    }

    #[tokio::test]
    async fn a_handler_sees_its_attempts_and_its_checkpoint() {
        let worker = Worker::new().handler("attempts", |context: StepContext| async move {
            assert!(context.is_retry() && context.is_last_retry() && context.has_checkpoint());
            assert_eq!((context.retry_count(), context.max_retries(), context.checkpoint_items_processed()), (2, 3, 4));
            assert_eq!((context.checkpoint_cursor(), context.accumulated_results()), (json!(9), json!([1])));
            Ok::<_, StepError>(StepResult::checkpoint(10, 5, json!([1, 2])))
        });
        let changes = json!({"attempt": 3, "checkpoint": {"cursor": 9, "items_processed": 4, "accumulated": [1]}});
        let outcome = call(worker, "attempts", changes).await;
        assert_eq!(outcome, json!({"checkpoint": {"cursor": 10, "items_processed": 5, "accumulated": [1, 2]}}));
    }

    #[tokio::test]
    async fn nothing_is_an_empty_object_and_metadata_stays_beside_the_result() {
        let nothing = Worker::new().handler("f", |_| async { Ok::<_, StepError>(()) });
        assert_eq!(call(nothing, "f", json!({})).await, json!({"success": {"result": {}}}));
        let more = Worker::new().handler("f", |_| async { Ok::<_, StepError>(StepResult::success(1, json!({"took": 2}))) });
        assert_eq!(call(more, "f", json!({})).await, json!({"success": {"result": 1, "metadata": {"took": 2}}}));
    }

    #[tokio::test]
    async fn an_input_that_does_not_fit_is_permanent_and_a_retryable_error_stays_retryable() {
        let worker = Worker::new().handler("f", |context: StepContext| async move { context.input::<String>("amount") });
        let failure = &call(worker, "f", json!({})).await["failure"];
        assert_eq!(failure["retryable"], json!(false));
        assert!(failure["message"].to_string().contains("the input `amount` is not as expected"), "{failure}");
        let worker = Worker::new().handler("f", |_| async { Err::<(), _>(RetryableError::new("busy")) });
        assert_eq!(call(worker, "f", json!({})).await["failure"]["error_type"], json!("retryable_error"));
    }

    #[tokio::test]
    async fn a_panic_is_a_retryable_failure_even_before_the_first_await() {
        let later = Worker::new().handler("f", |_| async { panic!("no {}", "way") as Result<(), StepError> });
        let at_once = Worker::new().handler("f", |_| -> std::future::Ready<Result<(), StepError>> { panic!("no way") });
        for worker in [later, at_once] {
            let failure = &call(worker, "f", json!({})).await["failure"];
            assert_eq!((&failure["error_type"], &failure["retryable"]), (&json!("handler_panicked"), &json!(true)));
            assert_eq!(failure["message"], json!("the handler panicked: no way"));
        }
    }

    #[tokio::test]
    async fn another_method_is_a_handler_of_its_own_or_else_the_callable_s_which_sees_it() {
        for (method, expected) in [("refund", "own: refund"), ("void", "payments: void"), ("call", "payments: call")] {
            let said = |name: &'static str| {
                move |context: StepContext| async move { Ok::<_, StepError>(format!("{name}: {}", context.method())) }
            };
            let worker = Worker::new().handler("payments", said("payments")).handler("payments.refund", said("own"));
            let outcome = call(worker, "", json!({"handler": {"callable": "payments", "method": method}})).await;
            assert_eq!(outcome, json!({"success": {"result": expected}}));
        }
    }

    #[tokio::test]
    async fn a_handler_that_is_not_registered_is_told_with_the_nearest_name() {
        let nothing = |_| async { Ok::<_, StepError>(()) };
        for (callable, method, near) in [
            ("chrage_card", "call", Some("charge_card")),
            ("charge_crad", "void", Some("charge_card")),
            ("refund_al", "dry", Some("refund_all.dry")),
            ("ship", "call", None),
        ] {
            let worker = Worker::new().handler("charge_card", nothing).handler("refund_all.dry", nothing);
            let outcome = call(worker, "", json!({"handler": {"callable": callable, "method": method}})).await;
            let message = outcome["failure"]["message"].as_str().unwrap();
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            assert!(message.contains(&format!("`{hint}; registered here: charge_card, refund_all.dry")), "{message}");
        }
    }

    #[test]
    #[should_panic(expected = "two handlers are registered as `f`")]
    fn two_handlers_under_one_name_are_refused() {
        let handler = |_| async { Ok::<_, StepError>(()) };
        let _ = Worker::new().handler("f", handler).handler("f", handler);
    }
}
