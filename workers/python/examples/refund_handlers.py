"""Two teams' refunds of one name. The templates are ``refund_payment.yaml`` and ``refund_request.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import PermanentError, StepContext, depends_on, inputs, step_handler


@step_handler("validate_payment_eligibility")
@inputs("payment_id", "refund_amount")
def validate_payment_eligibility(payment_id: str, refund_amount: int) -> dict[str, Any]:
    """Refuses what is no payment."""
    if not payment_id.startswith("pay_"):
        raise PermanentError(f"{payment_id} is no payment", error_code="unknown_payment")
    return {"payment_id": payment_id, "refund_amount": refund_amount}


@step_handler("process_gateway_refund")
@depends_on(payment="validate_payment_eligibility")
def process_gateway_refund(payment: dict[str, Any], context: StepContext) -> dict[str, Any]:
    """Stands for the gateway. The step's id is what makes a repeated call one refund."""
    return {"refund_id": f"refund-{context.step_uuid}", "amount": payment["refund_amount"]}


@step_handler("update_payment_records")
@depends_on(payment="validate_payment_eligibility", refund="process_gateway_refund")
def update_payment_records(payment: dict[str, Any], refund: dict[str, Any]) -> dict[str, Any]:
    """Writes down what was refunded."""
    return {"payment_id": payment["payment_id"], "refunded": refund["amount"]}


@step_handler("notify_customer")
@depends_on(records="update_payment_records")
def notify_customer(records: dict[str, Any]) -> dict[str, Any]:
    """Says what the customer is told."""
    return {"message": f"{records['refunded']} were refunded", "payment_id": records["payment_id"]}


@step_handler("validate_refund_request")
@inputs("ticket_id", "customer_id", "refund_amount")
def validate_refund_request(ticket_id: str, customer_id: str, refund_amount: int) -> dict[str, Any]:
    """Reads the customer's tier from the id."""
    tier = next((tier for tier in ("gold", "premium") if tier in customer_id), "standard")
    return {"ticket_id": ticket_id, "tier": tier, "refund_amount": refund_amount}


@step_handler("check_refund_policy")
@depends_on(request="validate_refund_request")
def check_refund_policy(request: dict[str, Any], context: StepContext) -> dict[str, Any]:
    """Refuses more than the tier allows. Only the lowest tier needs an approval."""
    limit = context.get_config("tiers")[request["tier"]]
    if request["refund_amount"] > limit:
        problem = f"{request['refund_amount']} is more than the {limit} of the tier {request['tier']}"
        raise PermanentError(problem, error_code="above_the_limit")
    return {"limit": limit, "needs_approval": request["tier"] == "standard"}


@step_handler("get_manager_approval")
@depends_on(policy="check_refund_policy")
def get_manager_approval(policy: dict[str, Any]) -> dict[str, Any]:
    """Stands for a manager, where one is needed."""
    return {"approved": True, "approved_by": "manager@example.com" if policy["needs_approval"] else "policy"}


@step_handler("execute_refund_workflow")
@depends_on(request="validate_refund_request", approval="get_manager_approval")
def execute_refund_workflow(request: dict[str, Any], approval: dict[str, Any]) -> dict[str, Any]:
    """Stands for a task of the payments team."""
    return {"delegated_to": "payments", "amount": request["refund_amount"], "approved_by": approval["approved_by"]}


@step_handler("update_ticket_status")
@depends_on(request="validate_refund_request", refund="execute_refund_workflow")
def update_ticket_status(request: dict[str, Any], refund: dict[str, Any]) -> dict[str, Any]:
    """Closes the ticket."""
    return {"ticket_id": request["ticket_id"], "status": "resolved", "approved_by": refund["approved_by"]}
