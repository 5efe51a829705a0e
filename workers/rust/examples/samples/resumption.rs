//! Two ways to continue where the attempt before failed. The template is `batch_resumption.yaml`.

use serde_json::{Value, json};
use tasker_sdk::{Batches, PermanentError, RetryableError, StepContext, StepError, StepResult, Worker};

pub fn register(worker: Worker) -> Worker {
    worker.handler("analyze_dataset", analyze_dataset).handler("process_range", process_range)
}

/// Makes one batch of everything.
async fn analyze_dataset(context: StepContext) -> Result<Batches, PermanentError> {
    Batches::for_workers(context.input("dataset_size")?, 1)
}

/// Counts the items of its batch, and fails once on the way.
async fn process_range(context: StepContext) -> Result<StepResult, StepError> {
    let batch = context.batch_inputs()?.range()?;
    let by_checkpoint = context.get_input("resume_by") == "checkpoint";
    let fails = context.retry_count() + 1 == context.config::<i32>("fail_on_attempt")?;
    let (fail_after, each): (u64, u64) = (context.config("fail_after_items")?, context.config("items_per_checkpoint")?);
    let start = start(&context).unwrap_or(batch.start);
    let mut position = start;
    while position < batch.end {
        if fails && position == fail_after {
            // What the error gives as its context, the next attempt reads.
            let error = RetryableError::new(format!("the source is gone after {position} items")).with_code("simulated_failure");
            return Err(error.with_context(json!({ "position": position })).into());
        }
        position += 1;
        if by_checkpoint && position.is_multiple_of(each) {
            return Ok(context.checkpoint_yield(position, position - batch.start, ()));
        }
    }
    let result = json!({
        "total_processed": position - batch.start,
        "failed_at": failed_at(&context),
        "last_run_from": start,
        "attempts": context.retry_count() + 1,
    });
    Ok(StepResult::success(result, ()))
}

/// Where the attempt before said that it failed, or null in the first attempt.
fn failed_at(context: &StepContext) -> Value {
    context.last_failure().and_then(|failure| failure.context).map_or(Value::Null, |context| context["position"].clone())
}

/// Where to begin: at the last checkpoint, or else at the place of the failure.
fn start(context: &StepContext) -> Option<u64> {
    context.checkpoint_cursor().as_u64().or_else(|| failed_at(context).as_u64())
}
