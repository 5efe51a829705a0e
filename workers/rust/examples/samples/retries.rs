//! Failures of a source. The template is `unreliable_source.yaml`.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_sdk::{PermanentError, RetryableError, StepContext, StepError, Worker};

pub fn register(worker: Worker) -> Worker {
    worker.handler("read_source", read_source)
}

/// Fails as often as the template says, and for good if it says so.
async fn read_source(context: StepContext) -> Result<Value, StepError> {
    if context.get_config("is_gone") == Some(json!(true)) {
        return Err(PermanentError::new("the source is gone").with_code("source_gone").into());
    }
    if context.retry_count() < context.config("fail_count")? {
        let error = RetryableError::new("the source does not answer").with_code("source_away");
        return Err(match context.get_config("retry_after").and_then(|seconds| seconds.as_u64()) {
            Some(seconds) => error.retry_after(Duration::from_secs(seconds)).into(),
            None => error.into(),
        });
    }
    Ok(json!({ "attempts_before_success": context.retry_count() + 1 }))
}
