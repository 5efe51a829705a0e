//! A worker that yields after every few items. The template is `checkpoint_yield.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_sdk::{Batches, PermanentError, RetryableError, StepContext, StepError, StepResult, Worker};

pub fn register(worker: Worker) -> Worker {
    worker.handler("analyze_items", analyze_items).handler("sum_items", sum_items).handler("aggregate_items", aggregate_items)
}

/// Makes one batch of all items.
async fn analyze_items(context: StepContext) -> Result<Batches, PermanentError> {
    Batches::for_workers(context.input("total_items")?, 1)
}

/// What a worker added up so far.
#[derive(Default, Deserialize, Serialize)]
struct Sums {
    running_total: u64,
    checkpoints_used: u64,
    /// Where each attempt began.
    began_at: BTreeMap<i32, u64>,
    /// The items that are in the sum.
    items: Vec<u64>,
}

/// Adds up the numbers from 1, some in each run: continues at the checkpoint, and ends at the next one.
async fn sum_items(context: StepContext) -> Result<StepResult, StepError> {
    let inputs = context.batch_inputs()?;
    if inputs.is_no_op {
        return Ok(StepResult::success(inputs.no_op_result(), ()));
    }
    let batch = inputs.range()?;
    let each = items_per_checkpoint(&context)?;
    let mut done = context.checkpoint_items_processed();
    let mut sums: Sums = serde_json::from_value(context.accumulated_results()).unwrap_or_default();
    let cursor = context.checkpoint_cursor().as_u64().unwrap_or(batch.start);
    sums.began_at.entry(context.retry_count() + 1).or_insert(cursor);
    for item in cursor..batch.end {
        injected_failure(&context, done)?;
        sums.running_total += item + 1;
        sums.items.push(item);
        done += 1;
        if done.is_multiple_of(each) && item + 1 < batch.end {
            sums.checkpoints_used += 1;
            return Ok(context.checkpoint_yield(item + 1, done, sums));
        }
    }
    Ok(StepResult::success(json!({ "items_processed": done, "batch_metadata": sums }), ()))
}

/// As the task's context says, or else the template.
fn items_per_checkpoint(context: &StepContext) -> Result<u64, PermanentError> {
    let given: Option<u64> = context.input("items_per_checkpoint")?;
    given.map_or_else(|| context.config("items_per_checkpoint"), Ok)
}

/// The failure that the task's context wants here, if any.
fn injected_failure(context: &StepContext, done: u64) -> Result<(), StepError> {
    let after: Option<u64> = context.input("fail_after_items")?;
    let attempt = context.input::<Option<i32>>("fail_on_attempt")?.unwrap_or(1);
    if after.is_none_or(|after| done < after) || context.retry_count() + 1 != attempt {
        return Ok(());
    }
    let message = format!("the work was told to fail after {done} items");
    Err(if context.get_input("permanent_failure") == true {
        PermanentError::new(message).into()
    } else {
        RetryableError::new(message).into()
    })
}

/// The result of a worker.
#[derive(Deserialize)]
struct Summed {
    items_processed: u64,
    batch_metadata: Sums,
}

/// Says what the workers added up. A worker without work is not among them.
async fn aggregate_items(context: StepContext) -> Result<Value, PermanentError> {
    let workers: Vec<Summed> = context.batch_results("sum_items")?;
    let total = |part: fn(&Summed) -> u64| workers.iter().map(part).sum::<u64>();
    Ok(json!({
        "total_processed": total(|worker| worker.items_processed),
        "running_total": total(|worker| worker.batch_metadata.running_total),
        "checkpoints_used": total(|worker| worker.batch_metadata.checkpoints_used),
        "worker_count": workers.len(),
        "scenario": if workers.is_empty() { "no_batches" } else { "with_batches" },
    }))
}
