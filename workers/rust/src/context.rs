//! The input of a handler.

use std::{collections::HashMap, fmt::Display, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};
use tasker_wire::RunStep;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{PermanentError, worker::Heartbeat};

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

    /// The value of one key of the task's context, or null if the key is missing.
    pub fn get_input(&self, key: &str) -> Value {
        value(&field(self.step.context.get(), key))
    }

    /// The value of one key of the task's context, deserialized. A missing key reads as null.
    pub fn input<T: DeserializeOwned>(&self, key: &str) -> Result<T, PermanentError> {
        parse(&field(self.step.context.get(), key), format_args!("the input `{key}`"))
    }

    /// Inputs of this step only, such as a batch cursor, or null.
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

    /// The last checkpoint of this attempt: `{cursor, items_processed, accumulated}`.
    pub fn checkpoint(&self) -> Option<Value> {
        self.step.checkpoint.as_ref().map(|text| value(text.get()))
    }

    /// Whether this attempt stored a checkpoint to continue from.
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
        self.step.checkpoint.as_ref().map_or(Value::Null, |text| value(&field(text.get(), key)))
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

/// The JSON of one key of an object, or null.
fn field(text: &str, key: &str) -> String {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    fields.get(key).map_or_else(|| "null".to_owned(), |json| json.get().to_owned())
}

fn parse<T: DeserializeOwned>(text: &str, what: impl Display) -> Result<T, PermanentError> {
    serde_json::from_str(text).map_err(|error| PermanentError::new(format!("{what} is not as expected: {error}")))
}
