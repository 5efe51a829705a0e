"""An order of a shop. The template is ``order_processing.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import PermanentError, RetryableError, StepContext, depends_on, inputs, step_handler

#: Name and price in cents by the number of the product.
PRODUCTS = {1: ("Widget", 2999), 2: ("Gadget", 4999), 3: ("Gizmo", 999)}

#: Shipping in cents up to so many pieces; of half a kilogram each.
SHIPPING_CENTS = ((4, 599), (20, 999))
HEAVY_SHIPPING_CENTS = 1499

TAX_PERCENT = 8

#: Tokens with which the gateway fails for good.
DECLINED = {"tok_test_declined": "card_declined", "tok_test_insufficient_funds": "insufficient_funds"}


def amount(cents: int) -> float:
    """Cents as an amount of money."""
    return cents / 100


@step_handler("validate_cart")
@inputs("cart_items")
def validate_cart(cart_items: list[dict[str, Any]]) -> dict[str, Any]:
    """Looks up the prices, and adds tax and shipping."""
    validated = [priced(item["product_id"], item["quantity"]) for item in cart_items]
    pieces = sum(item["quantity"] for item in cart_items)
    subtotal = sum(PRODUCTS[item["product_id"]][1] * item["quantity"] for item in cart_items)
    tax = (subtotal * TAX_PERCENT + 50) // 100
    shipping = next((cents for most, cents in SHIPPING_CENTS if pieces <= most), HEAVY_SHIPPING_CENTS)
    return {
        "validated_items": validated,
        "subtotal": amount(subtotal),
        "tax": amount(tax),
        "shipping": amount(shipping),
        "total": amount(subtotal + tax + shipping),
    }


def priced(product_id: int, quantity: int) -> dict[str, Any]:
    """A line of the cart with its price."""
    if product_id not in PRODUCTS:
        raise PermanentError(f"there is no product {product_id}", error_code="unknown_product")
    name, cents = PRODUCTS[product_id]
    return {"product_id": product_id, "name": name, "quantity": quantity, "line_total": amount(cents * quantity)}


@step_handler("process_payment")
@depends_on(cart="validate_cart")
@inputs("payment_info")
def process_payment(cart: dict[str, Any], payment_info: dict[str, Any], context: StepContext) -> dict[str, Any]:
    """Charges the card, once for all attempts: by the step's id the gateway recognizes a repeated request."""
    token = payment_info["token"]
    if token in DECLINED:
        raise PermanentError(f"the gateway declined the payment: {DECLINED[token]}", error_code=DECLINED[token])
    if token == "tok_test_network_error":
        raise RetryableError("the gateway does not respond", error_code="gateway_unavailable")
    if abs(payment_info["amount"] - cart["total"]) > 0.01:
        problem = f"the payment is {payment_info['amount']}, but the order costs {cart['total']}"
        raise PermanentError(problem, error_code="amount_mismatch")
    return {"payment_id": f"pay_{context.step_uuid}", "amount_charged": cart["total"]}


@step_handler("update_inventory")
@depends_on(cart="validate_cart")
def update_inventory(cart: dict[str, Any]) -> dict[str, Any]:
    """Takes the goods from the stock."""
    taken = [{"product_id": item["product_id"], "taken": item["quantity"]} for item in cart["validated_items"]]
    return {"updated_products": taken}


@step_handler("create_order")
@depends_on(cart="validate_cart", payment="process_payment", inventory="update_inventory")
def create_order(
    cart: dict[str, Any], payment: dict[str, Any], inventory: dict[str, Any], context: StepContext
) -> dict[str, Any]:
    """Writes the order."""
    return {
        "order_id": f"order_{context.step_uuid}",
        "payment_id": payment["payment_id"],
        "products": len(inventory["updated_products"]),
        "total": cart["total"],
    }


@step_handler("send_order_confirmation")
@depends_on(order="create_order")
@inputs("customer_info")
def send_order_confirmation(order: dict[str, Any], customer_info: dict[str, Any]) -> dict[str, Any]:
    """Writes to the customer."""
    email = customer_info["email"]
    if "@" not in email:
        raise PermanentError(f"{email} is not an e-mail address", error_code="bad_email")
    return {"to": email, "order_id": order["order_id"]}
