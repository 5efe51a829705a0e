//! What a handler is given.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tasker_wire::RunStep;
use uuid::Uuid;

use crate::{PermanentError, worker::Heartbeat};

/// One try of one step: its inputs, and the accessors that all SDKs share. Cheap to clone.
#[derive(Clone)]
pub struct StepContext {
    step: Arc<RunStep>,
    heartbeat: Heartbeat,
}

impl StepContext {
    pub(crate) fn new(step: Arc<RunStep>, heartbeat: Heartbeat) -> Self {
        Self { step, heartbeat }
    }

    /// The task.
    pub fn task_uuid(&self) -> Uuid {
        self.step.task_id.uuid()
    }

    /// The step; the same in every try, so a key for what must not happen twice.
    pub fn step_uuid(&self) -> Uuid {
        self.step.step_id.uuid()
    }

    /// The same in every step, log line and message of the task.
    pub fn correlation_id(&self) -> Uuid {
        self.step.correlation_id
    }

    /// The step's name in its template.
    pub fn step_name(&self) -> &str {
        &self.step.step_name
    }

    /// The name that the handler was registered under.
    pub fn handler_name(&self) -> &str {
        &self.step.handler.callable
    }

    /// The task's namespace.
    pub fn namespace(&self) -> &str {
        &self.step.namespace
    }

    /// The whole message.
    pub fn message(&self) -> &RunStep {
        &self.step
    }

    /// The task's context, as a type of yours. What does not fit is a permanent failure: another try brings the same.
    pub fn input_data<T: DeserializeOwned>(&self) -> Result<T, PermanentError> {
        parse(self.step.context.get(), "the task's context")
    }

    /// One key of the task's context; null when it is not there.
    pub fn get_input(&self, key: &str) -> Value {
        field(self.step.context.get(), key)
    }

    /// One key of the task's context as a type of yours.
    pub fn input<T: DeserializeOwned>(&self, key: &str) -> Result<T, PermanentError> {
        from_value(self.get_input(key), || format!("the input `{key}`"))
    }

    /// Inputs of this step alone, such as a batch cursor; null when it has none.
    pub fn step_inputs(&self) -> Value {
        self.step.step_inputs.as_ref().map_or(Value::Null, |inputs| value(inputs.get()))
    }

    /// The template's settings for the handler.
    pub fn step_config(&self) -> &serde_json::Map<String, Value> {
        &self.step.handler.initialization
    }

    /// One of the template's settings for the handler.
    pub fn get_config(&self, key: &str) -> Option<&Value> {
        self.step.handler.initialization.get(key)
    }

    /// The names of the steps whose results came along.
    pub fn dependency_results(&self) -> impl Iterator<Item = &str> {
        self.step.dependency_results.keys().map(String::as_str)
    }

    /// The result of a parent or near ancestor; null when that step was not created or is none.
    pub fn get_dependency_result(&self, step: &str) -> Value {
        self.step.dependency_results.get(step).map_or(Value::Null, |result| value(result.get()))
    }

    /// The same as a type of yours.
    pub fn dependency<T: DeserializeOwned>(&self, step: &str) -> Result<T, PermanentError> {
        let text = self.step.dependency_results.get(step).map_or("null", |result| result.get());
        serde_json::from_str(text)
            .map_err(|error| PermanentError::new(format!("the result of `{step}` is not as expected: {error}")))
    }

    /// Tries before this one: 0 at first.
    pub fn retry_count(&self) -> i32 {
        self.step.attempt - 1
    }

    /// Tries in all.
    pub fn max_retries(&self) -> i32 {
        self.step.max_attempts
    }

    /// Whether there was a try before.
    pub fn is_retry(&self) -> bool {
        self.step.attempt > 1
    }

    /// Whether there will be no other try.
    pub fn is_last_retry(&self) -> bool {
        self.step.attempt >= self.step.max_attempts
    }

    /// What this try stored with its last checkpoint: `{cursor, items_processed, accumulated}`.
    pub fn checkpoint(&self) -> Option<Value> {
        self.step.checkpoint.as_ref().map(|text| value(text.get()))
    }

    /// Whether this try stored a checkpoint.
    pub fn has_checkpoint(&self) -> bool {
        self.step.checkpoint.is_some()
    }

    /// Where to go on; null without a checkpoint.
    pub fn checkpoint_cursor(&self) -> Value {
        self.checkpoint_field("cursor")
    }

    /// How much was done by the last checkpoint.
    pub fn checkpoint_items_processed(&self) -> u64 {
        self.checkpoint_field("items_processed").as_u64().unwrap_or(0)
    }

    /// What was gathered by the last checkpoint; null without one.
    pub fn accumulated_results(&self) -> Value {
        self.checkpoint_field("accumulated")
    }

    fn checkpoint_field(&self, key: &str) -> Value {
        self.step.checkpoint.as_ref().map_or(Value::Null, |text| field(text.get(), key))
    }

    /// Says that the handler still works. It does not extend the step's time.
    pub fn heartbeat(&self) {
        (self.heartbeat)();
    }
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn field(text: &str, key: &str) -> Value {
    match value(text) {
        Value::Object(mut fields) => fields.remove(key).unwrap_or_default(),
        _ => Value::Null,
    }
}

fn parse<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, PermanentError> {
    serde_json::from_str(text).map_err(|error| PermanentError::new(format!("{what} is not as expected: {error}")))
}

fn from_value<T: DeserializeOwned>(value: Value, what: impl FnOnce() -> String) -> Result<T, PermanentError> {
    serde_json::from_value(value).map_err(|error| PermanentError::new(format!("{} is not as expected: {error}", what())))
}
