//! Runs a handler once, with a message made by hand.

use std::sync::Arc;

use serde_json::{Value, json};
use tasker_wire::RunStep;

use crate::Worker;

/// The outcome of a step as JSON. `changes` are keys of its message.
pub(crate) async fn call(worker: Worker, callable: &str, changes: Value) -> Value {
    let id = uuid::Uuid::from_u128(1 << 64);
    let mut message = json!({
        "v": 1, "task_id": id, "step_id": id, "step_name": "a_step", "lease": 1, "attempt": 1, "max_attempts": 3,
        "token": "t", "timeout_seconds": 30, "correlation_id": id, "namespace": "default",
        "handler": {"callable": callable, "initialization": {"limit": 5}}, "context": {"amount": 7},
        "dependency_results": {"parent": {"total": 3}},
    });
    message.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let step: RunStep = serde_json::from_str(&message.to_string()).unwrap();
    serde_json::to_value(worker.call(Arc::new(step), Arc::new(|| {})).await).unwrap()
}
