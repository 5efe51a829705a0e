//! A pipeline over three sources. The template is `analytics_pipeline.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    worker
        .handler("extract_sales_data", |_| extract(sales()))
        .handler("extract_inventory_data", |_| extract(inventory()))
        .handler("extract_customer_data", |_| extract(customers()))
        .handler("transform_sales", transform_sales)
        .handler("transform_inventory", transform_inventory)
        .handler("transform_customers", transform_customers)
        .handler("aggregate_metrics", aggregate_metrics)
        .handler("generate_insights", generate_insights)
}

#[derive(Deserialize, Serialize)]
struct Records<T> {
    records: Vec<T>,
}

#[derive(Deserialize, Serialize)]
struct Sale {
    order_id: u64,
    product: String,
    cents: u64,
}

#[derive(Deserialize, Serialize)]
struct Stock {
    product: String,
    on_hand: u64,
    reorder_at: u64,
}

#[derive(Deserialize, Serialize)]
struct Customer {
    customer_id: u64,
    tier: String,
    value_cents: u64,
}

/// Stands for a database of orders.
fn sales() -> [Sale; 5] {
    [(1, "Laptop", 129_900), (2, "Mouse", 2_500), (3, "Laptop", 129_900), (4, "Desk", 45_000), (5, "Mouse", 2_500)]
        .map(|(order_id, product, cents)| Sale { order_id, product: product.into(), cents })
}

/// Stands for a database of goods.
fn inventory() -> [Stock; 5] {
    [("Laptop", 40, 20), ("Mouse", 300, 100), ("Desk", 8, 10), ("Chair", 60, 15), ("Lamp", 92, 30)]
        .map(|(product, on_hand, reorder_at)| Stock { product: product.into(), on_hand, reorder_at })
}

/// Stands for a database of customers.
fn customers() -> [Customer; 5] {
    [(1, "premium", 1_200_000), (2, "standard", 80_000), (3, "premium", 900_000), (4, "free", 0), (5, "free", 0)]
        .map(|(customer_id, tier, value_cents)| Customer { customer_id, tier: tier.into(), value_cents })
}

/// Reads a source.
async fn extract<T>(records: [T; 5]) -> Result<Records<T>, PermanentError> {
    Ok(Records { records: records.into() })
}

/// Adds up the orders by product.
async fn transform_sales(context: StepContext) -> Result<Value, PermanentError> {
    let Records { records } = context.dependency::<Records<Sale>>("extract_sales_data")?;
    let mut by_product = BTreeMap::<&str, u64>::new();
    for sale in &records {
        *by_product.entry(&sale.product).or_default() += sale.cents;
    }
    let revenue: u64 = by_product.values().sum();
    Ok(json!({ "revenue_cents": revenue, "order_count": records.len(), "cents_by_product": by_product }))
}

/// Finds what must be ordered again.
async fn transform_inventory(context: StepContext) -> Result<Value, PermanentError> {
    let Records { records } = context.dependency::<Records<Stock>>("extract_inventory_data")?;
    let low = records.iter().filter(|stock| stock.on_hand < stock.reorder_at).map(|stock| &stock.product);
    let pieces: u64 = records.iter().map(|stock| stock.on_hand).sum();
    Ok(json!({ "pieces": pieces, "reorder": low.collect::<Vec<_>>() }))
}

/// Counts the customers by tier.
async fn transform_customers(context: StepContext) -> Result<Value, PermanentError> {
    let Records { records } = context.dependency::<Records<Customer>>("extract_customer_data")?;
    let mut by_tier = BTreeMap::<&str, u64>::new();
    for customer in &records {
        *by_tier.entry(&customer.tier).or_default() += 1;
    }
    let value: u64 = records.iter().map(|customer| customer.value_cents).sum();
    Ok(json!({ "customers": records.len(), "value_cents": value, "by_tier": by_tier }))
}

#[derive(Deserialize)]
struct Sales {
    revenue_cents: u64,
}

#[derive(Deserialize)]
struct Inventory {
    reorder: Vec<String>,
}

#[derive(Deserialize)]
struct Customers {
    customers: u64,
    by_tier: BTreeMap<String, u64>,
}

#[derive(Deserialize, Serialize)]
struct Metrics {
    revenue_cents: u64,
    cents_per_customer: u64,
    reorder: Vec<String>,
    paying_percent: u64,
}

/// Puts the figures together.
async fn aggregate_metrics(context: StepContext) -> Result<Metrics, PermanentError> {
    let (sales, inventory): (Sales, Inventory) =
        (context.dependency("transform_sales")?, context.dependency("transform_inventory")?);
    let Customers { customers, by_tier } = context.dependency("transform_customers")?;
    let free = by_tier.get("free").copied().unwrap_or(0);
    Ok(Metrics {
        revenue_cents: sales.revenue_cents,
        cents_per_customer: sales.revenue_cents / customers,
        reorder: inventory.reorder,
        paying_percent: 100 * (customers - free) / customers,
    })
}

/// Says what the figures mean.
async fn generate_insights(context: StepContext) -> Result<Value, PermanentError> {
    let metrics: Metrics = context.dependency("aggregate_metrics")?;
    let mut insights = vec![format!("a customer brings {} cents", metrics.cents_per_customer)];
    insights.extend(metrics.reorder.iter().map(|product| format!("order {product} again")));
    let score = metrics.paying_percent.min(60) + if metrics.reorder.is_empty() { 40 } else { 20 };
    Ok(json!({ "insights": insights, "health_score": score }))
}
