//! The Rust handler that is measured: it looks at what it is given and answers about 110 bytes.

use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

fn main() -> std::process::ExitCode {
    Worker::new().handler("work", work).run()
}

async fn work(context: StepContext) -> Result<Value, PermanentError> {
    let order: String = context.input("order_id")?;
    Ok(json!({
        "order": order,
        "reference": context.step_uuid(),
        "status": "done",
    }))
}
