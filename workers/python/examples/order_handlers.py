"""The Python half of the order workflow.

The order itself says what goes wrong in which attempt, so that every run of the demo is the same.
"""

from __future__ import annotations

import time
from typing import Any

from tasker_worker import PermanentError, RetryableError, StepContext, depends_on, inputs, run, step_handler


def work(context: StepContext) -> None:
    """Simulates the duration of real work."""
    time.sleep(context.get_input_or("work_ms", 40) / 1000)


@step_handler("validate_order")
@inputs("order_id", "customer", "items")
def validate_order(
    order_id: str, customer: dict[str, Any], items: list[dict[str, Any]], context: StepContext
) -> dict[str, Any]:
    """Checks what the schema cannot check, and computes the total."""
    work(context)
    if "@" not in customer["email"]:
        raise PermanentError(f"{customer['email']!r} is not an e-mail address", error_code="bad_email")
    total_cents = sum(item["quantity"] * item["unit_price_cents"] for item in items)
    print(f"order {order_id}: {len(items)} items, {total_cents / 100:.2f} EUR")
    return {"order_id": order_id, "items": len(items), "total_cents": total_cents, "currency": "EUR"}


@step_handler("authorize_payment")
@depends_on(order="validate_order")
@inputs("payment")
def authorize_payment(order: dict[str, Any], payment: dict[str, Any], context: StepContext) -> dict[str, Any]:
    """Authorizes the payment at the gateway."""
    work(context)
    if context.retry_count < payment.get("gateway_hangs", 0):
        time.sleep(3600)
    if context.retry_count < payment.get("gateway_failures", 0):
        raise RetryableError("the payment gateway answers 502", error_code="gateway_unavailable")
    if payment.get("declined"):
        raise PermanentError(
            f"the bank declined card {payment['card'][-4:]}: {payment['declined']}; ask the customer for another card",
            error_code="card_declined",
            context={"card": payment["card"][-4:], "amount_cents": order["total_cents"]},
        )
    # The step's id is the idempotency key by which the gateway recognizes a repeated request.
    return {"authorization": f"A-{context.step_uuid}", "amount_cents": order["total_cents"]}


@step_handler("send_confirmation")
@depends_on(order="validate_order", shipment="create_shipment")
@inputs("customer", "notification")
def send_confirmation(
    order: dict[str, Any],
    shipment: dict[str, Any],
    customer: dict[str, Any],
    notification: dict[str, Any] | None,
    context: StepContext,
) -> dict[str, Any]:
    """Sends a mail to the customer."""
    work(context)
    if context.retry_count < (notification or {}).get("rate_limited", 0):
        raise RetryableError(
            "the mail service takes no more messages for now", retry_after=0.5, error_code="rate_limited"
        )
    subject = f"Order {order['order_id']} is on its way ({shipment['tracking']})"
    return {"to": customer["email"], "subject": subject}


if __name__ == "__main__":
    run()
