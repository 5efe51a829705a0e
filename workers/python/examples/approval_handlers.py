"""A decision: the amount of a request decides who approves it. The template is ``approval_routing.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import Decision, PermanentError, StepContext, decision_handler, depends_on, inputs, step_handler


@step_handler("validate_request")
@inputs("amount", "requester", "purpose")
def validate_request(amount: float, requester: str, purpose: str) -> dict[str, Any]:
    """Checks what the schema cannot check."""
    if requester.strip() == "" or purpose.strip() == "":
        raise PermanentError("the request says neither who asks nor what for", error_code="validation_error")
    return {"amount": amount, "requester": requester, "purpose": purpose}


@decision_handler("routing_decision")
@depends_on(request="validate_request")
def routing_decision(request: dict[str, Any], context: StepContext) -> Decision:
    """Names the approvals that are needed. The others never exist."""
    amount = request["amount"]
    if amount < context.get_config("manager_from"):
        return Decision.route(["auto_approve"], approval_path="auto", amount=amount)
    if amount < context.get_config("finance_from"):
        return Decision.route(["manager_approval"], approval_path="manager", amount=amount)
    return Decision.route(["manager_approval", "finance_review"], approval_path="dual", amount=amount)


def approval(kind: str, approver: str, routing: dict[str, Any]) -> dict[str, Any]:
    """The result of an approval."""
    amount = routing["routing_context"]["amount"]
    return {"approved": True, "approval_type": kind, "approver": approver, "approved_amount": amount}


@step_handler("auto_approve")
@depends_on(routing="routing_decision")
def auto_approve(routing: dict[str, Any]) -> dict[str, Any]:
    """Approves a small amount."""
    return approval("auto", "system", routing)


@step_handler("manager_approval")
@depends_on(routing="routing_decision")
def manager_approval(routing: dict[str, Any]) -> dict[str, Any]:
    """Stands for a manager."""
    return approval("manager", "manager@example.com", routing)


@step_handler("finance_review")
@depends_on(routing="routing_decision")
def finance_review(routing: dict[str, Any]) -> dict[str, Any]:
    """Stands for the finance department."""
    return approval("finance", "finance@example.com", routing)


@step_handler("finalize_approval")
@depends_on(auto="auto_approve", manager="manager_approval", finance="finance_review")
def finalize_approval(
    auto: dict[str, Any] | None, manager: dict[str, Any] | None, finance: dict[str, Any] | None
) -> dict[str, Any]:
    """Lists the approvals. A step that was not chosen is ``None``."""
    given = [each for each in (auto, manager, finance) if each is not None]
    return {
        "final_status": "approved" if all(each["approved"] for each in given) else "rejected",
        "approval_count": len(given),
        "approvers": [each["approver"] for each in given],
    }
