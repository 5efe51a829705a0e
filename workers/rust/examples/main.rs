//! Example handlers: Tasker's number samples, the Rust half of the order workflow, the samples of dynamic steps, two for measuring, and
//! one that blocks its thread.

mod numbers;
mod order;
mod samples;

use std::{convert::Infallible, path::PathBuf, process::ExitCode, thread, time::Duration};

use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

fn main() -> ExitCode {
    let worker = Worker::new().handler("noop", noop).handler("echo", echo).handler("block", block);
    samples::register(order::register(numbers::register(worker))).run()
}

/// Does nothing, as fast as can be.
async fn noop(_: StepContext) -> Result<Value, Infallible> {
    Ok(json!({}))
}

/// Returns the task's context.
async fn echo(context: StepContext) -> Result<Value, PermanentError> {
    context.input_data()
}

/// Marks that it began, then blocks its thread until the task's `gate` exists. A handler should not: see `tokio::task::spawn_blocking`.
async fn block(context: StepContext) -> Result<Value, PermanentError> {
    let [began, gate]: [PathBuf; 2] = [context.input("began")?, context.input("gate")?];
    std::fs::write(began, "").map_err(|error| PermanentError::new(error.to_string()))?;
    while !gate.exists() {
        thread::sleep(Duration::from_millis(10));
    }
    Ok(json!({}))
}
