//! Two ways to continue where the attempt before failed. The template is `batch_resumption.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_sdk::{Batches, PermanentError, RetryableError, StepContext, StepError, StepResult, Worker};

pub fn register(worker: Worker) -> Worker {
    worker.handler("analyze_dataset", analyze_dataset).handler("process_range", process_range)
}

/// Makes one batch of everything.
async fn analyze_dataset(context: StepContext) -> Result<Batches, PermanentError> {
    Batches::for_workers(context.input("dataset_size")?, 1)
}

/// Where each attempt began, and every item that was taken, as often as it was.
#[derive(Default, Deserialize, Serialize)]
struct Log {
    began_at: BTreeMap<i32, u64>,
    items: Vec<u64>,
}

/// Takes the items of its batch one by one, and fails once on the way.
async fn process_range(context: StepContext) -> Result<StepResult, StepError> {
    let batch = context.batch_inputs()?.range()?;
    let by_checkpoint = context.get_input("resume_by") == "checkpoint";
    let fails = attempt(&context) == context.config::<i32>("fail_on_attempt")?;
    let (fail_after, each): (u64, u64) = (context.config("fail_after_items")?, context.config("items_per_checkpoint")?);
    let resumed_at = if by_checkpoint { context.checkpoint_cursor() } else { failed_at(&context) };
    let mut position = resumed_at.as_u64().unwrap_or(batch.start);
    let mut log = log_so_far(&context);
    log.began_at.entry(attempt(&context)).or_insert(position);
    while position < batch.end {
        if fails && position == fail_after {
            // What the error gives as its context, the next attempt reads.
            let error = RetryableError::new(format!("the source is gone after {position} items")).with_code("simulated_failure");
            return Err(error.with_context(json!({ "position": position, "log": log })).into());
        }
        log.items.push(position);
        position += 1;
        if by_checkpoint && position.is_multiple_of(each) {
            return Ok(context.checkpoint_yield(position, position - batch.start, log));
        }
    }
    let result = json!({
        "total_processed": position - batch.start,
        "failed_at": failed_at(&context),
        "began_at": log.began_at,
        "items": log.items,
    });
    Ok(StepResult::success(result, ()))
}

fn attempt(context: &StepContext) -> i32 {
    context.retry_count() + 1
}

/// Where the attempt before said that it failed, or null in the first attempt.
fn failed_at(context: &StepContext) -> Value {
    said_by_failure(context)["position"].clone()
}

/// The log in the checkpoint, or if that is of an earlier attempt, in the failure of that attempt, which knows the items after the
/// checkpoint too.
fn log_so_far(context: &StepContext) -> Log {
    let stored: Log = serde_json::from_value(context.accumulated_results()).unwrap_or_default();
    if stored.began_at.contains_key(&attempt(context)) {
        return stored;
    }
    serde_json::from_value(said_by_failure(context)["log"].clone()).unwrap_or_default()
}

/// What the attempt before gave as the context of its failure.
fn said_by_failure(context: &StepContext) -> Value {
    context.last_failure().and_then(|failure| failure.context).unwrap_or_default()
}
