//! The program `tasker-worker` as it is deployed, and just enough of AWS around it: the Runtime API of Lambda and a few queues.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod aws;
mod program;

pub use aws::Aws;
pub use program::Program;

use serde_json::{Value, json};
use tasker_wire::RunStep;

/// A message of the pool's queue that bears a step; its id is the step's number.
pub fn message(step: &RunStep) -> Value {
    raw_message(&format!("m{}", step.step_id.no), &serde_json::to_string(step).unwrap())
}

/// A message as an event has it.
pub fn raw_message(id: &str, body: &str) -> Value {
    json!({
        "messageId": id, "receiptHandle": format!("receipt of {id}"), "body": body, "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {}, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:t-worker-shop",
    })
}
