"""A pipeline over three sources. The template is ``analytics_pipeline.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import depends_on, step_handler

#: Stands for a database: orders, stock and customers.
SALES = [(1, "Laptop", 129_900), (2, "Mouse", 2_500), (3, "Laptop", 129_900), (4, "Desk", 45_000), (5, "Mouse", 2_500)]
INVENTORY = [("Laptop", 40, 20), ("Mouse", 300, 100), ("Desk", 8, 10), ("Chair", 60, 15), ("Lamp", 92, 30)]
CUSTOMERS = [
    (1, "premium", 1_200_000),
    (2, "standard", 80_000),
    (3, "premium", 900_000),
    (4, "free", 0),
    (5, "free", 0),
]


@step_handler("extract_sales_data")
def extract_sales_data() -> dict[str, Any]:
    """Reads the orders."""
    return {"records": [{"order_id": no, "product": name, "cents": cents} for no, name, cents in SALES]}


@step_handler("extract_inventory_data")
def extract_inventory_data() -> dict[str, Any]:
    """Reads the stock."""
    return {"records": [{"product": name, "on_hand": pieces, "reorder_at": least} for name, pieces, least in INVENTORY]}


@step_handler("extract_customer_data")
def extract_customer_data() -> dict[str, Any]:
    """Reads the customers."""
    return {"records": [{"customer_id": no, "tier": tier, "value_cents": cents} for no, tier, cents in CUSTOMERS]}


@step_handler("transform_sales")
@depends_on(sales="extract_sales_data")
def transform_sales(sales: dict[str, Any]) -> dict[str, Any]:
    """Adds up the orders by product."""
    by_product: dict[str, int] = {}
    for order in sales["records"]:
        by_product[order["product"]] = by_product.get(order["product"], 0) + order["cents"]
    return {
        "revenue_cents": sum(by_product.values()),
        "order_count": len(sales["records"]),
        "cents_by_product": by_product,
    }


@step_handler("transform_inventory")
@depends_on(inventory="extract_inventory_data")
def transform_inventory(inventory: dict[str, Any]) -> dict[str, Any]:
    """Finds what must be ordered again."""
    records = inventory["records"]
    low = [record["product"] for record in records if record["on_hand"] < record["reorder_at"]]
    return {"pieces": sum(record["on_hand"] for record in records), "reorder": low}


@step_handler("transform_customers")
@depends_on(customers="extract_customer_data")
def transform_customers(customers: dict[str, Any]) -> dict[str, Any]:
    """Counts the customers by tier."""
    by_tier: dict[str, int] = {}
    for customer in customers["records"]:
        by_tier[customer["tier"]] = by_tier.get(customer["tier"], 0) + 1
    return {
        "customers": len(customers["records"]),
        "value_cents": sum(customer["value_cents"] for customer in customers["records"]),
        "by_tier": by_tier,
    }


@step_handler("aggregate_metrics")
@depends_on(sales="transform_sales", inventory="transform_inventory", customers="transform_customers")
def aggregate_metrics(sales: dict[str, Any], inventory: dict[str, Any], customers: dict[str, Any]) -> dict[str, Any]:
    """Puts the figures together."""
    return {
        "revenue_cents": sales["revenue_cents"],
        "cents_per_customer": sales["revenue_cents"] // customers["customers"],
        "reorder": inventory["reorder"],
        "paying_percent": 100
        * (customers["customers"] - customers["by_tier"].get("free", 0))
        // customers["customers"],
    }


@step_handler("generate_insights")
@depends_on(metrics="aggregate_metrics")
def generate_insights(metrics: dict[str, Any]) -> dict[str, Any]:
    """Says what the figures mean."""
    insights = [f"a customer brings {metrics['cents_per_customer']} cents"]
    insights += [f"order {product} again" for product in metrics["reorder"]]
    score = min(metrics["paying_percent"], 60) + (40 if not metrics["reorder"] else 20)
    return {"insights": insights, "health_score": score}
