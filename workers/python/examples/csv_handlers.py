"""Batches: a CSV file is added up by several workers. The template is ``product_inventory.yaml``."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from tasker_worker import (
    BatchConfig,
    BatchWorkerContext,
    PermanentError,
    StepContext,
    batch_analyzer,
    batch_worker,
    inputs,
    step_handler,
)

#: What a worker found in a batch, or a convergence in all of them.
Stock = dict[str, Any]


def rows(path: str) -> Iterator[dict[str, str]]:
    """The rows of a file by the names in its first line."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except FileNotFoundError as error:
        raise PermanentError(f"there is no file {path}", error_code="file_not_found") from error


@batch_analyzer("analyze_csv", worker_template="process_csv_batch")
@inputs("csv_file_path")
def analyze_csv(csv_file_path: str, context: StepContext) -> BatchConfig:
    """Counts the rows. Without any there is no work."""
    total = sum(1 for _ in rows(csv_file_path))
    return BatchConfig(total, context.get_config("batch_size"), {"csv_file_path": csv_file_path})


@batch_worker("process_csv_batch")
@inputs("csv_file_path")
def process_csv_batch(csv_file_path: str, batch_context: BatchWorkerContext) -> Stock:
    """Adds up the rows of its batch."""
    stock = nothing()
    for row in islice(rows(csv_file_path), batch_context.start_cursor, batch_context.end_cursor):
        add(stock, stock_of(row))
    return stock


@step_handler("aggregate_csv_results")
def aggregate_csv_results(context: StepContext) -> dict[str, Any]:
    """Puts the batches together. One without work adds nothing, and does not count."""
    total, workers = nothing(), 0
    for stock in context.get_all_dependency_results("process_csv_batch_"):
        workers += stock["processed"] > 0
        add(total, stock)
    return {**total, "worker_count": workers}


def nothing() -> Stock:
    """An empty stock."""
    return {"processed": 0, "inventory_cents": 0, "category_counts": {}, "dearest": None}


def stock_of(row: dict[str, str]) -> Stock:
    """The stock of one product."""
    price = int(row["price_cents"])
    return {
        "processed": 1,
        "inventory_cents": price * int(row["stock"]),
        "category_counts": {row["category"]: 1},
        "dearest": {"title": row["title"], "price_cents": price},
    }


def add(total: Stock, part: Stock) -> None:
    """Adds one stock to another. Of two that are as dear, the first stays the dearest."""
    total["processed"] += part["processed"]
    total["inventory_cents"] += part["inventory_cents"]
    total["category_counts"] = dict(Counter(total["category_counts"]) + Counter(part["category_counts"]))
    candidates = [stock["dearest"] for stock in (total, part) if stock["dearest"] is not None]
    total["dearest"] = max(candidates, key=lambda product: product["price_cents"], default=None)
