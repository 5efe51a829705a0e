//! A step for unit tests of the library and the program.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tasker_wire::{RunStep, StepId, message};

/// The first attempt of a step that runs `callable`.
pub fn step(step_id: StepId, callable: &str) -> RunStep {
    RunStep {
        v: message::VERSION,
        task_id: step_id.task,
        step_id,
        step_name: callable.into(),
        lease: 1,
        attempt: 1,
        max_attempts: 3,
        token: "t".into(),
        timeout_seconds: 30,
        report_start: false,
        correlation_id: uuid::Uuid::nil(),
        traceparent: None,
        namespace: "default".into(),
        handler: message::Handler {
            callable: callable.into(),
            method: "call".into(),
            resolver: None,
            initialization: BTreeMap::new(),
        },
        context: RawValue::from_string("{}".into()).unwrap().into(),
        dependency_results: [].into(),
        dependency_errors: [].into(),
        step_inputs: None,
        checkpoint: None,
        last_failure: None,
        resend: 0,
    }
}
