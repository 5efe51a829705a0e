//! A decision: the amount of a request decides who approves it. The template is `approval_routing.yaml`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_sdk::{Decision, PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("validate_request", validate_request)
        .handler("routing_decision", routing_decision)
        .handler("auto_approve", |context| approve(context, "auto", "system"))
        .handler("manager_approval", |context| approve(context, "manager", "manager@example.com"))
        .handler("finance_review", |context| approve(context, "finance", "finance@example.com"))
        .handler("finalize_approval", finalize_approval)
}

#[derive(Deserialize, Serialize)]
struct Request {
    amount: f64,
    requester: String,
    purpose: String,
}

/// Checks what the schema cannot check.
async fn validate_request(context: StepContext) -> Result<Value, PermanentError> {
    let request: Request = context.input_data()?;
    if request.requester.trim().is_empty() || request.purpose.trim().is_empty() {
        return Err(PermanentError::new("the request says neither who asks nor what for").with_code("validation_error"));
    }
    Ok(json!({ "amount": context.get_input("amount"), "requester": request.requester, "purpose": request.purpose }))
}

/// Names the approvals that are needed. The others never exist.
async fn routing_decision(context: StepContext) -> Result<Decision, PermanentError> {
    let request: Request = context.dependency("validate_request")?;
    let (manager_from, finance_from): (f64, f64) = (context.config("manager_from")?, context.config("finance_from")?);
    let (path, approvals): (_, &[&str]) = match request.amount {
        amount if amount < manager_from => ("auto", &["auto_approve"]),
        amount if amount < finance_from => ("manager", &["manager_approval"]),
        _ => ("dual", &["manager_approval", "finance_review"]),
    };
    let amount = &context.get_dependency_result("validate_request")["amount"];
    let routing = json!({ "approval_path": path, "amount": amount });
    Ok(Decision::create(approvals.iter().copied()).with_result(json!({ "routing_context": routing })))
}

async fn approve(context: StepContext, kind: &str, approver: &str) -> Result<Value, PermanentError> {
    let amount = &context.get_dependency_result("routing_decision")["routing_context"]["amount"];
    Ok(json!({ "approved": true, "approval_type": kind, "approver": approver, "approved_amount": amount }))
}

#[derive(Deserialize)]
struct Approval {
    approved: bool,
    approver: String,
}

/// Lists the approvals. A step that was not chosen has no result.
async fn finalize_approval(context: StepContext) -> Result<Value, PermanentError> {
    let mut given = Vec::new();
    for step in ["auto_approve", "manager_approval", "finance_review"] {
        given.extend(context.dependency::<Option<Approval>>(step)?);
    }
    let approvers: Vec<&str> = given.iter().map(|approval| approval.approver.as_str()).collect();
    let status = if given.iter().all(|approval| approval.approved) { "approved" } else { "rejected" };
    Ok(json!({ "final_status": status, "approval_count": given.len(), "approvers": approvers }))
}
