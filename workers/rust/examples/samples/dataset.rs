//! A batch that may have no work. The template is `large_dataset.yaml`.

use serde::Deserialize;
use serde_json::{Value, json};
use tasker_sdk::{Batches, PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    worker.handler("split_dataset", split_dataset).handler("count_batch", count_batch).handler("add_up_counts", add_up_counts)
}

/// Makes no more workers than the template allows, and none for a small data set.
async fn split_dataset(context: StepContext) -> Result<Batches, PermanentError> {
    let (size, batch_size): (u64, u64) = (context.input("dataset_size")?, context.config("batch_size")?);
    if size < batch_size {
        return Ok(Batches::none().with_result(json!({ "reason": "dataset_too_small", "dataset_size": size })));
    }
    Batches::for_workers(size, size.div_ceil(batch_size).min(context.config("max_workers")?))
}

/// Counts the items of its cursor, unless it stands for a batch without work.
async fn count_batch(context: StepContext) -> Result<Value, PermanentError> {
    let batch = context.batch_inputs()?;
    if batch.is_no_op {
        return Ok(batch.no_op_result());
    }
    let range = batch.range()?;
    Ok(json!({ "processed_count": range.end - range.start }))
}

#[derive(Deserialize)]
struct Count {
    processed_count: u64,
}

/// Fails if an item was lost or counted twice. A small data set is counted here.
async fn add_up_counts(context: StepContext) -> Result<Value, PermanentError> {
    let size: u64 = context.input("dataset_size")?;
    let workers: Vec<Count> = context.batch_results("count_batch")?;
    let total = if workers.is_empty() { size } else { workers.iter().map(|count| count.processed_count).sum() };
    if total != size {
        return Err(PermanentError::new(format!("the workers counted {total} of {size} items")).with_code("items_lost"));
    }
    Ok(json!({ "total_processed": total, "worker_count": workers.len() }))
}
