//! The input of a handler.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tasker_wire::{Failure, RunStep};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{PermanentError, StepResult, worker::Heartbeat};

/// Whether the step is no longer wanted. The sender is dropped when the step is answered.
pub(crate) type Stop = watch::Receiver<bool>;

/// One attempt of one step: its inputs, by the accessors that the SDKs of all languages share. A clone is cheap.
#[derive(Clone)]
pub struct StepContext {
    step: Arc<RunStep>,
    heartbeat: Heartbeat,
    stop: Stop,
}

impl StepContext {
    pub(crate) fn new(step: Arc<RunStep>, heartbeat: Heartbeat, stop: Stop) -> Self {
        Self { step, heartbeat, stop }
    }

    /// The id of the task that the step belongs to.
    pub fn task_uuid(&self) -> Uuid {
        self.step.task_id.uuid()
    }

    /// The id of the step. It is the same in every attempt: use it as the idempotency key of an action that must not happen twice.
    pub fn step_uuid(&self) -> Uuid {
        self.step.step_id.uuid()
    }

    /// The id that every step, message and log line of the task carries.
    pub fn correlation_id(&self) -> Uuid {
        self.step.correlation_id
    }

    /// The step's name in its template.
    pub fn step_name(&self) -> &str {
        &self.step.step_name
    }

    /// The name that the handler is registered under, as in `handler.callable` of the template.
    pub fn handler_name(&self) -> &str {
        &self.step.handler.callable
    }

    /// The method that the template selects, as in `handler.method`; `call` by default. A handler that is registered as
    /// `callable.method` need not look at it.
    pub fn method(&self) -> &str {
        &self.step.handler.method
    }

    /// The namespace of the task's template.
    pub fn namespace(&self) -> &str {
        &self.step.namespace
    }

    /// The message that dispatched the step, for fields without an accessor.
    pub fn message(&self) -> &RunStep {
        &self.step
    }

    /// The task's context, deserialized. A mismatch is a permanent failure, because every attempt receives the same context.
    ///
    /// A [`Value`] holds 64-bit integers and doubles only, here and in all accessors. A type that reads more, such as `u128` or
    /// `Box<RawValue>`, gets every digit of a number.
    pub fn input_data<T: DeserializeOwned>(&self) -> Result<T, PermanentError> {
        parse(self.step.context.get(), "the task's context")
    }

    /// The value of one key of the step's own inputs, else of the task's context, or null if neither has it.
    pub fn get_input(&self, key: &str) -> Value {
        value(&self.input_text(key))
    }

    /// The value of one key of the step's own inputs, else of the task's context, deserialized. A missing key reads as null.
    pub fn input<T: DeserializeOwned>(&self, key: &str) -> Result<T, PermanentError> {
        parse(&self.input_text(key), format_args!("the input `{key}`"))
    }

    fn input_text(&self, key: &str) -> String {
        let own = self.step.step_inputs.as_ref().and_then(|inputs| field(inputs.get(), key));
        own.or_else(|| field(self.step.context.get(), key)).unwrap_or_else(null)
    }

    /// Inputs of this step only, such as the cursor of a batch (see [`batch_inputs`](Self::batch_inputs)) or what an operator's retry
    /// gave, or null.
    pub fn step_inputs(&self) -> Value {
        self.step.step_inputs.as_ref().map_or(Value::Null, |inputs| value(inputs.get()))
    }

    /// The settings of the handler, from `handler.initialization` of the template.
    pub fn step_config(&self) -> serde_json::Map<String, Value> {
        self.step.handler.initialization.iter().map(|(key, setting)| (key.clone(), setting.value())).collect()
    }

    /// One setting of the handler, or `None` if the template does not have it.
    pub fn get_config(&self, key: &str) -> Option<Value> {
        self.step.handler.initialization.get(key).map(|setting| setting.value())
    }

    /// One setting of the handler, deserialized. A missing one reads as null.
    pub fn config<T: DeserializeOwned>(&self, key: &str) -> Result<T, PermanentError> {
        let text = self.step.handler.initialization.get(key).map_or("null", |setting| setting.get());
        parse(text, format_args!("the setting `{key}`"))
    }

    /// The names of the steps whose results this step receives: all parents, and the nearest ancestors beyond them.
    pub fn dependency_results(&self) -> impl Iterator<Item = &str> {
        self.step.dependency_results.keys().map(String::as_str)
    }

    /// The result of a parent or near ancestor, or null if that step was not created or is not an ancestor.
    pub fn get_dependency_result(&self, step: &str) -> Value {
        self.step.dependency_results.get(step).map_or(Value::Null, |result| value(result.get()))
    }

    /// The result of a parent or near ancestor, deserialized. A mismatch is a permanent failure.
    pub fn dependency<T: DeserializeOwned>(&self, step: &str) -> Result<T, PermanentError> {
        let text = self.step.dependency_results.get(step).map_or("null", |result| result.get());
        parse(text, format_args!("the result of `{step}`"))
    }

    /// The brief failures, by step name, of parents whose failure the template tolerates. Their result is null.
    pub fn dependency_errors(&self) -> BTreeMap<&str, Failure> {
        let errors = self.step.dependency_errors.iter();
        errors.filter_map(|(name, text)| Some((name.as_str(), serde_json::from_str(text.get()).ok()?))).collect()
    }

    /// Why the attempt before failed, with the context that its error gave unless that is large. `None` in the first attempt.
    pub fn last_failure(&self) -> Option<Failure> {
        serde_json::from_str(self.step.last_failure.as_ref()?.get()).ok()
    }

    /// The number of earlier attempts: 0 in the first one.
    pub fn retry_count(&self) -> i32 {
        self.step.attempt - 1
    }

    /// The maximum number of attempts of the step.
    pub fn max_retries(&self) -> i32 {
        self.step.max_attempts
    }

    /// Whether this is not the first attempt.
    pub fn is_retry(&self) -> bool {
        self.step.attempt > 1
    }

    /// Whether this is the last attempt, whose failure is final.
    pub fn is_last_retry(&self) -> bool {
        self.step.attempt >= self.step.max_attempts
    }

    /// Stores progress and ends this run. Return it: the step is dispatched again under the same attempt, and finds the three values in
    /// [`checkpoint_cursor`](Self::checkpoint_cursor), [`checkpoint_items_processed`](Self::checkpoint_items_processed) and
    /// [`accumulated_results`](Self::accumulated_results).
    pub fn checkpoint_yield(&self, cursor: impl Serialize, items_processed: u64, accumulated: impl Serialize) -> StepResult {
        StepResult::checkpoint(cursor, items_processed, accumulated)
    }

    /// What [`checkpoint_yield`](Self::checkpoint_yield) stored last, in any attempt: `{cursor, items_processed, accumulated}`, the last
    /// one also as `accumulated_results`.
    pub fn checkpoint(&self) -> Option<Value> {
        let mut stored = value(self.step.checkpoint.as_ref()?.get());
        if let Some(fields) = stored.as_object_mut() {
            let accumulated = fields.get("accumulated").cloned().unwrap_or_default();
            fields.insert("accumulated_results".to_owned(), accumulated);
        }
        Some(stored)
    }

    /// Whether the step stored a checkpoint to continue from, in this attempt or an earlier one.
    pub fn has_checkpoint(&self) -> bool {
        self.step.checkpoint.is_some()
    }

    /// The cursor of the last checkpoint, or null.
    pub fn checkpoint_cursor(&self) -> Value {
        self.checkpoint_field("cursor")
    }

    /// The number of processed items at the last checkpoint, or 0.
    pub fn checkpoint_items_processed(&self) -> u64 {
        self.checkpoint_field("items_processed").as_u64().unwrap_or(0)
    }

    /// The accumulated results at the last checkpoint, or null.
    pub fn accumulated_results(&self) -> Value {
        self.checkpoint_field("accumulated")
    }

    fn checkpoint_field(&self, key: &str) -> Value {
        self.step.checkpoint.as_ref().and_then(|text| field(text.get(), key)).map_or(Value::Null, |text| value(&text))
    }

    /// Reports that the handler is still running, and returns whether it should go on: `!is_cancelled()`. This does not extend the
    /// step's timeout.
    pub fn heartbeat(&self) -> bool {
        (self.heartbeat)();
        !self.is_cancelled()
    }

    /// Whether the step is no longer wanted, so that its outcome will be ignored. The handler's future is dropped at its next `.await`;
    /// this is for what it runs elsewhere, such as in `tokio::task::spawn_blocking`.
    pub fn is_cancelled(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the step is no longer wanted, or until it is answered. This is for tasks that the handler spawns.
    pub async fn cancelled(&self) {
        // An error says that the step is answered.
        let _ = self.stop.clone().wait_for(|stopped| *stopped).await;
    }
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn null() -> String {
    "null".to_owned()
}

/// The JSON of one key of an object, if the object has it.
fn field(text: &str, key: &str) -> Option<String> {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    fields.get(key).map(|json| json.get().to_owned())
}

pub(crate) fn parse<T: DeserializeOwned>(text: &str, what: impl Display) -> Result<T, PermanentError> {
    serde_json::from_str(text).map_err(|error| PermanentError::new(format!("{what} is not as expected: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{StepError, Worker, testing::call};

    /// The result of a handler that looks at its context.
    async fn seen<F>(look: F, changes: Value) -> Value
    where
        F: Fn(&StepContext) -> Value + Send + Sync + Copy + 'static,
    {
        let worker = Worker::new().handler("look", move |context| async move { Ok::<_, StepError>(look(&context)) });
        call(worker, "look", changes).await["success"]["result"].clone()
    }

    #[tokio::test]
    async fn an_input_of_the_step_is_found_before_the_one_of_the_task() {
        let look = |context: &StepContext| {
            let typed: Option<u64> = context.input("amount").unwrap();
            json!([context.get_input("amount"), context.get_input("more"), context.get_input("nothing"), typed])
        };
        let own = json!({"step_inputs": {"amount": 8, "more": [1]}});
        assert_eq!(seen(look, own).await, json!([8, [1], null, 8]));
        assert_eq!(
            seen(look, json!({"step_inputs": {"amount": null}})).await,
            json!([null, null, null, null]),
            "null is an input"
        );
        assert_eq!(seen(look, json!({"step_inputs": [1]})).await, json!([7, null, null, 7]));
        assert_eq!(seen(look, json!({})).await, json!([7, null, null, 7]));
    }

    #[tokio::test]
    async fn the_failure_of_a_tolerated_parent_is_beside_its_missing_result() {
        let look = |context: &StepContext| {
            let errors: Vec<_> =
                context.dependency_errors().into_iter().map(|(name, failure)| json!([name, failure.error_code])).collect();
            json!([context.get_dependency_result("part"), errors])
        };
        let failure = json!({"message": "no", "error_type": "permanent_error", "error_code": "E1", "retryable": false});
        let changes = json!({"dependency_results": {"part": null}, "dependency_errors": {"part": failure}});
        assert_eq!(seen(look, changes).await, json!([null, [["part", "E1"]]]));
        assert_eq!(seen(look, json!({})).await, json!([null, []]));
    }

    #[tokio::test]
    async fn a_later_attempt_reads_what_the_failed_one_gave_as_context() {
        let worker = || {
            Worker::new().handler("resume", |context: StepContext| async move {
                match context.last_failure() {
                    Some(failure) => Ok(failure.context.unwrap()["position"].clone()),
                    None => Err(PermanentError::new("broken").with_context(json!({"position": 50}))),
                }
            })
        };
        let first = call(worker(), "resume", json!({})).await;
        let second = call(worker(), "resume", json!({"attempt": 2, "last_failure": first["failure"]})).await;
        assert_eq!(second, json!({"success": {"result": 50}}));
    }

    #[tokio::test]
    async fn the_next_run_finds_what_the_last_one_stored() {
        let worker = || {
            Worker::new().handler("count", |context: StepContext| async move {
                let (start, done) = (context.checkpoint_cursor().as_u64().unwrap_or(0), context.checkpoint_items_processed());
                let total = context.accumulated_results().as_u64().unwrap_or(0) + start;
                Ok::<_, StepError>(match start {
                    0..3 => context.checkpoint_yield(start + 1, done + 1, total),
                    _ => StepResult::success(json!({"total": total, "runs": done + 1}), ()),
                })
            })
        };
        let mut outcome = call(worker(), "count", json!({})).await;
        assert_eq!(outcome, json!({"checkpoint": {"cursor": 1, "items_processed": 1, "accumulated": 0}}));
        while outcome.get("checkpoint").is_some() {
            outcome = call(worker(), "count", outcome).await;
        }
        assert_eq!(outcome["success"]["result"], json!({"total": 6, "runs": 4}));
    }

    #[tokio::test]
    async fn a_checkpoint_has_its_accumulated_results_under_both_names() {
        let look = |context: &StepContext| json!([context.checkpoint()]);
        let stored = json!({"cursor": 1, "items_processed": 1, "accumulated": [5]});
        let seen_by_the_handler = json!({"cursor": 1, "items_processed": 1, "accumulated": [5], "accumulated_results": [5]});
        assert_eq!(seen(look, json!({"checkpoint": stored})).await, json!([seen_by_the_handler]));
        assert_eq!(seen(look, json!({})).await, json!([null]));
    }
}
