//! Two teams' refunds of one name. The templates are `refund_payment.yaml` and `refund_request.yaml`.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("validate_payment_eligibility", validate_payment_eligibility)
        .handler("process_gateway_refund", process_gateway_refund)
        .handler("update_payment_records", update_payment_records)
        .handler("notify_customer", notify_customer)
        .handler("validate_refund_request", validate_refund_request)
        .handler("check_refund_policy", check_refund_policy)
        .handler("get_manager_approval", get_manager_approval)
        .handler("execute_refund_workflow", execute_refund_workflow)
        .handler("update_ticket_status", update_ticket_status)
}

/// Refuses what is no payment.
async fn validate_payment_eligibility(context: StepContext) -> Result<Value, PermanentError> {
    let payment: String = context.input("payment_id")?;
    if !payment.starts_with("pay_") {
        return Err(PermanentError::new(format!("{payment} is no payment")).with_code("unknown_payment"));
    }
    Ok(json!({ "payment_id": payment, "refund_amount": context.get_input("refund_amount") }))
}

/// Stands for the gateway. The step's id is what makes a repeated call one refund.
async fn process_gateway_refund(context: StepContext) -> Result<Value, PermanentError> {
    let amount = &context.get_dependency_result("validate_payment_eligibility")["refund_amount"];
    Ok(json!({ "refund_id": format!("refund-{}", context.step_uuid()), "amount": amount }))
}

/// Writes down what was refunded.
async fn update_payment_records(context: StepContext) -> Result<Value, PermanentError> {
    let payment = &context.get_dependency_result("validate_payment_eligibility")["payment_id"];
    let refunded = &context.get_dependency_result("process_gateway_refund")["amount"];
    Ok(json!({ "payment_id": payment, "refunded": refunded }))
}

/// Says what the customer is told.
async fn notify_customer(context: StepContext) -> Result<Value, PermanentError> {
    let records = context.get_dependency_result("update_payment_records");
    Ok(json!({ "message": format!("{} were refunded", records["refunded"]), "payment_id": records["payment_id"] }))
}

#[derive(Deserialize)]
struct Request {
    tier: String,
    refund_amount: u64,
}

/// Reads the customer's tier from the id.
async fn validate_refund_request(context: StepContext) -> Result<Value, PermanentError> {
    let customer: String = context.input("customer_id")?;
    let tier = ["gold", "premium"].into_iter().find(|tier| customer.contains(tier)).unwrap_or("standard");
    let [ticket, amount] = ["ticket_id", "refund_amount"].map(|key| context.get_input(key));
    Ok(json!({ "ticket_id": ticket, "tier": tier, "refund_amount": amount }))
}

/// Refuses more than the tier allows. Only the lowest tier needs an approval.
async fn check_refund_policy(context: StepContext) -> Result<Value, PermanentError> {
    let Request { tier, refund_amount } = context.dependency("validate_refund_request")?;
    let tiers: HashMap<String, u64> = context.config("tiers")?;
    let limit = tiers[&tier];
    if refund_amount > limit {
        let problem = format!("{refund_amount} is more than the {limit} of the tier {tier}");
        return Err(PermanentError::new(problem).with_code("above_the_limit"));
    }
    Ok(json!({ "limit": limit, "needs_approval": tier == "standard" }))
}

/// Stands for a manager, where one is needed.
async fn get_manager_approval(context: StepContext) -> Result<Value, PermanentError> {
    let is_needed = context.get_dependency_result("check_refund_policy")["needs_approval"] == true;
    Ok(json!({ "approved": true, "approved_by": if is_needed { "manager@example.com" } else { "policy" } }))
}

/// Stands for a task of the payments team.
async fn execute_refund_workflow(context: StepContext) -> Result<Value, PermanentError> {
    let amount = &context.get_dependency_result("validate_refund_request")["refund_amount"];
    let approved_by = &context.get_dependency_result("get_manager_approval")["approved_by"];
    Ok(json!({ "delegated_to": "payments", "amount": amount, "approved_by": approved_by }))
}

/// Closes the ticket.
async fn update_ticket_status(context: StepContext) -> Result<Value, PermanentError> {
    let ticket = &context.get_dependency_result("validate_refund_request")["ticket_id"];
    let approved_by = &context.get_dependency_result("execute_refund_workflow")["approved_by"];
    Ok(json!({ "ticket_id": ticket, "status": "resolved", "approved_by": approved_by }))
}
