//! The Rust handlers that are measured: one looks at what it is given and answers about 110 bytes, one makes 10,000 batches.

use serde_json::{Value, json};
use tasker_sdk::{Batches, PermanentError, StepContext, Worker};

fn main() -> std::process::ExitCode {
    Worker::new().handler("work", work).handler("split", split).run()
}

async fn split(_: StepContext) -> Result<Batches, PermanentError> {
    Batches::of_size(10_000, 1)
}

async fn work(context: StepContext) -> Result<Value, PermanentError> {
    let order: String = context.input("order_id")?;
    Ok(json!({
        "order": order,
        "reference": context.step_uuid(),
        "status": "done",
    }))
}
