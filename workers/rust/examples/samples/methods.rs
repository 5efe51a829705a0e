//! One callable for several steps: a handler for each method, and one for the steps without. The templates are
//! `method_dispatch.yaml` and `resolver_hints.yaml`.

use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("payment_desk.validate", validate)
        .handler("payment_desk.process", process)
        .handler("payment_desk.refund", refund)
        .handler("payment_desk", call)
        .handler("action_desk.execute_action", execute_action)
        .handler("action_desk", call)
}

/// Refuses a payment without an amount.
async fn validate(context: StepContext) -> Result<Value, PermanentError> {
    match &context.get_input("data")["amount"] {
        Value::Null => Err(PermanentError::new("the context has no `data.amount`").with_code("validation_error")),
        amount => Ok(json!({ "invoked_method": "validate", "amount": amount })),
    }
}

/// Adds the fee of a tenth.
async fn process(context: StepContext) -> Result<Value, PermanentError> {
    let validated = context.get_dependency_result("validate_step");
    let amount = validated["amount"].as_f64().unwrap_or_default();
    let processed = (amount * 110.0).round() / 100.0;
    Ok(json!({ "invoked_method": "process", "original_amount": validated["amount"], "processed_amount": processed }))
}

/// Gives back what was processed.
async fn refund(context: StepContext) -> Result<Value, PermanentError> {
    let amount = &context.get_dependency_result("process_step")["processed_amount"];
    let data = context.get_input("data");
    let reason = data["reason"].as_str().unwrap_or("not_specified");
    Ok(json!({ "invoked_method": "refund", "refund_amount": amount, "refund_reason": reason }))
}

/// Says which action it was.
async fn execute_action(context: StepContext) -> Result<Value, PermanentError> {
    Ok(json!({ "invoked_method": "execute_action", "action_type": context.get_input("action_type") }))
}

/// Runs for a step without a method.
async fn call(_: StepContext) -> Result<Value, PermanentError> {
    Ok(json!({ "invoked_method": "call" }))
}
