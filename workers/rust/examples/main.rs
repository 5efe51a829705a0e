//! Example handlers: Tasker's number samples, the Rust half of the order workflow, and two for measuring.

mod numbers;
mod order;

use std::{convert::Infallible, process::ExitCode};

use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

fn main() -> ExitCode {
    let worker = Worker::new().handler("noop", noop).handler("echo", echo);
    order::register(numbers::register(worker)).run()
}

/// Does nothing, as fast as can be.
async fn noop(_: StepContext) -> Result<Value, Infallible> {
    Ok(json!({}))
}

/// Returns the task's context.
async fn echo(context: StepContext) -> Result<Value, PermanentError> {
    context.input_data()
}
