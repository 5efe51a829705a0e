"""One class for several steps. The templates are ``method_dispatch.yaml`` and ``resolver_hints.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import PermanentError, StepContext, StepHandler


class PaymentDesk(StepHandler):
    """The method that the template names runs, and ``call`` where it names none."""

    handler_name = "payment_desk"

    def validate(self, context: StepContext) -> dict[str, Any]:
        """Refuses a payment without an amount."""
        amount = (context.get_input("data") or {}).get("amount")
        if amount is None:
            raise PermanentError("the context has no `data.amount`", error_code="validation_error")
        return {"invoked_method": "validate", "amount": amount}

    def process(self, context: StepContext) -> dict[str, Any]:
        """Adds the fee of a tenth."""
        amount = context.get_dependency_result("validate_step")["amount"]
        return {"invoked_method": "process", "original_amount": amount, "processed_amount": round(amount * 1.1, 2)}

    def refund(self, context: StepContext) -> dict[str, Any]:
        """Gives back what was processed."""
        amount = context.get_dependency_result("process_step")["processed_amount"]
        reason = context.get_input("data").get("reason", "not_specified")
        return {"invoked_method": "refund", "refund_amount": amount, "refund_reason": reason}

    def call(self, context: StepContext) -> dict[str, Any]:
        """Runs for a step without a method."""
        return {"invoked_method": "call"}


class ActionDesk(StepHandler):
    """Does what the task asks for, where the template names the method for that."""

    handler_name = "action_desk"

    def execute_action(self, context: StepContext) -> dict[str, Any]:
        """Says which action it was."""
        return {"invoked_method": "execute_action", "action_type": context.get_input("action_type")}

    def call(self, context: StepContext) -> dict[str, Any]:
        """Runs for a step without a method."""
        return {"invoked_method": "call"}
