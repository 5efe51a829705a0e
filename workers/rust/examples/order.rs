//! The Rust half of the order workflow. The order itself says what goes wrong in which attempt, so that every run of the demo is the
//! same.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tasker_sdk::{PermanentError, RetryableError, StepContext, StepError, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("reserve_inventory", reserve_inventory)
        .handler("assess_risk", assess_risk)
        .handler("create_shipment", create_shipment)
}

#[derive(Deserialize)]
struct Item {
    sku: String,
    quantity: u32,
    unit_price_cents: u64,
}

/// What goes wrong in the warehouse.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Inventory {
    lock_contention: i32,
    out_of_stock: Vec<String>,
}

/// What goes wrong at the carrier.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shipping {
    express: bool,
    carrier_failures: i32,
    crashes: i32,
}

/// What the order says under `key`; nothing goes wrong by default.
fn plan<T: Default + serde::de::DeserializeOwned>(context: &StepContext, key: &str) -> Result<T, PermanentError> {
    context.input::<Option<T>>(key).map(Option::unwrap_or_default)
}

/// Simulates the duration of real work.
async fn work(context: &StepContext) {
    let work_ms = context.get_input("work_ms").as_u64().unwrap_or(40);
    tokio::time::sleep(Duration::from_millis(work_ms)).await;
}

async fn reserve_inventory(context: StepContext) -> Result<Value, StepError> {
    work(&context).await;
    let plan: Inventory = plan(&context, "inventory")?;
    if context.retry_count() < plan.lock_contention {
        return Err(RetryableError::new("the stock is locked by another order").with_code("stock_locked").into());
    }
    let items: Vec<Item> = context.input("items")?;
    if let Some(item) = items.iter().find(|item| plan.out_of_stock.contains(&item.sku)) {
        let message = format!("{} is out of stock; cancel the order or wait for the next delivery", item.sku);
        return Err(PermanentError::new(message).with_code("out_of_stock").into());
    }
    let pieces: u32 = items.iter().map(|item| item.quantity).sum();
    Ok(json!({ "reservation": format!("R-{}", context.step_uuid()), "warehouse": "north", "pieces": pieces }))
}

async fn assess_risk(context: StepContext) -> Result<Value, StepError> {
    work(&context).await;
    let items: Vec<Item> = context.input("items")?;
    let total_cents: u64 = items.iter().map(|item| u64::from(item.quantity) * item.unit_price_cents).sum();
    let score = (total_cents / 10_000).min(100);
    Ok(json!({ "score": score, "review": score > 50 }))
}

async fn create_shipment(context: StepContext) -> Result<Value, StepError> {
    work(&context).await;
    let plan: Shipping = plan(&context, "shipping")?;
    if context.retry_count() < plan.crashes {
        eprintln!("the carrier's library ends the whole process");
        std::process::exit(70);
    }
    if context.retry_count() < plan.carrier_failures {
        let error = RetryableError::new("the carrier's service answers 503").with_code("carrier_unavailable");
        return Err(error.retry_after(Duration::from_millis(300)).into());
    }
    let reserved = context.get_dependency_result("reserve_inventory");
    let paid = context.get_dependency_result("authorize_payment");
    Ok(json!({
        "tracking": format!("T-{}", context.task_uuid()),
        "from": reserved["warehouse"],
        "authorization": paid["authorization"],
        "service": if plan.express { "express" } else { "standard" },
    }))
}
