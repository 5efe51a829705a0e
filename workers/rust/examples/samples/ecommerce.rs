//! An order of a shop. The template is `order_processing.yaml`.

use serde::Deserialize;
use serde_json::{Value, json};
use tasker_sdk::{PermanentError, RetryableError, StepContext, StepError, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("validate_cart", validate_cart)
        .handler("process_payment", process_payment)
        .handler("update_inventory", update_inventory)
        .handler("create_order", create_order)
        .handler("send_order_confirmation", send_order_confirmation)
}

/// Number, name and price in cents.
const PRODUCTS: [(i64, &str, i64); 3] = [(1, "Widget", 2999), (2, "Gadget", 4999), (3, "Gizmo", 999)];

const TAX_PERCENT: i64 = 8;

#[derive(Deserialize)]
struct Item {
    product_id: i64,
    quantity: i64,
}

#[derive(Deserialize)]
struct Cart {
    validated_items: Vec<Item>,
    total: f64,
}

#[derive(Deserialize)]
struct Payment {
    token: String,
    amount: f64,
}

/// Cents as an amount of money.
fn amount(cents: i64) -> f64 {
    cents as f64 / 100.0
}

/// Of so many pieces, half a kilogram each.
fn shipping_cents(pieces: i64) -> i64 {
    match pieces {
        ..=4 => 599,
        5..=20 => 999,
        _ => 1499,
    }
}

/// Looks up the prices, and adds tax and shipping.
async fn validate_cart(context: StepContext) -> Result<Value, PermanentError> {
    let cart: Vec<Item> = context.input("cart_items")?;
    let (mut validated, mut subtotal) = (Vec::new(), 0);
    for Item { product_id, quantity } in &cart {
        let Some((_, name, cents)) = PRODUCTS.iter().find(|(id, ..)| id == product_id) else {
            return Err(PermanentError::new(format!("there is no product {product_id}")).with_code("unknown_product"));
        };
        let line = json!({"product_id": product_id, "name": name, "quantity": quantity, "line_total": amount(cents * quantity)});
        validated.push(line);
        subtotal += cents * quantity;
    }
    let tax = (subtotal * TAX_PERCENT + 50) / 100;
    let shipping = shipping_cents(cart.iter().map(|item| item.quantity).sum());
    Ok(json!({
        "validated_items": validated,
        "subtotal": amount(subtotal),
        "tax": amount(tax),
        "shipping": amount(shipping),
        "total": amount(subtotal + tax + shipping),
    }))
}

/// Charges the card, once for all attempts: by the step's id the gateway recognizes a repeated request.
async fn process_payment(context: StepContext) -> Result<Value, StepError> {
    let (payment, cart): (Payment, Cart) = (context.input("payment_info")?, context.dependency("validate_cart")?);
    let declined = |code| PermanentError::new(format!("the gateway declined the payment: {code}")).with_code(code);
    match payment.token.as_str() {
        "tok_test_declined" => return Err(declined("card_declined").into()),
        "tok_test_insufficient_funds" => return Err(declined("insufficient_funds").into()),
        "tok_test_network_error" => {
            return Err(RetryableError::new("the gateway does not respond").with_code("gateway_unavailable").into());
        }
        _ => {}
    }
    if (payment.amount - cart.total).abs() > 0.01 {
        let problem = format!("the payment is {}, but the order costs {}", payment.amount, cart.total);
        return Err(PermanentError::new(problem).with_code("amount_mismatch").into());
    }
    Ok(json!({ "payment_id": format!("pay_{}", context.step_uuid()), "amount_charged": cart.total }))
}

/// Takes the goods from the stock.
async fn update_inventory(context: StepContext) -> Result<Value, PermanentError> {
    let cart: Cart = context.dependency("validate_cart")?;
    let taken = |item: &Item| json!({ "product_id": item.product_id, "taken": item.quantity });
    Ok(json!({ "updated_products": cart.validated_items.iter().map(taken).collect::<Vec<_>>() }))
}

/// Writes the order.
async fn create_order(context: StepContext) -> Result<Value, PermanentError> {
    let updated = context.get_dependency_result("update_inventory");
    Ok(json!({
        "order_id": format!("order_{}", context.step_uuid()),
        "payment_id": context.get_dependency_result("process_payment")["payment_id"],
        "products": updated["updated_products"].as_array().map_or(0, Vec::len),
        "total": context.get_dependency_result("validate_cart")["total"],
    }))
}

/// Writes to the customer.
async fn send_order_confirmation(context: StepContext) -> Result<Value, PermanentError> {
    let customer = context.get_input("customer_info");
    let email = customer["email"].as_str().unwrap_or_default();
    if !email.contains('@') {
        return Err(PermanentError::new(format!("{email} is not an e-mail address")).with_code("bad_email"));
    }
    Ok(json!({ "to": email, "order_id": context.get_dependency_result("create_order")["order_id"] }))
}
