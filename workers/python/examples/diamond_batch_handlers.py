"""A diamond, a decision and batches in one task. The template is ``diamond_decision_batch.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import (
    BatchConfig,
    BatchWorkerContext,
    Decision,
    StepContext,
    batch_analyzer,
    batch_worker,
    decision_handler,
    depends_on,
    inputs,
    step_handler,
)

#: The numbers of a branch.
Branch = dict[str, list[int]]


@step_handler("ddb_start")
@inputs("numbers")
def ddb_start(numbers: list[int]) -> dict[str, Any]:
    """Takes the numbers from the task."""
    return {"numbers": numbers, "count": len(numbers)}


@step_handler("branch_evens")
@depends_on(start="ddb_start")
def branch_evens(start: Branch) -> Branch:
    """Picks the even numbers."""
    return {"numbers": [number for number in start["numbers"] if number % 2 == 0]}


@step_handler("branch_odds")
@depends_on(start="ddb_start")
def branch_odds(start: Branch) -> Branch:
    """Picks the odd numbers."""
    return {"numbers": [number for number in start["numbers"] if number % 2 == 1]}


@decision_handler("ddb_routing_decision")
@depends_on(evens="branch_evens", odds="branch_odds")
def ddb_routing_decision(evens: Branch, odds: Branch) -> Decision:
    """Takes the longer branch, the even one if both are as long."""
    even, odd = len(evens["numbers"]), len(odds["numbers"])
    chosen = "even_batch_analyzer" if even >= odd else "odd_batch_analyzer"
    return Decision.route([chosen], even_count=even, odd_count=odd)


def register(parity: str) -> None:
    """Registers the handlers of one branch. Analyzer and workers read the branch's result, beyond the decision."""

    @batch_analyzer(f"{parity}_batch_analyzer", worker_template=f"process_{parity}_batch")
    @depends_on(branch=f"branch_{parity}s")
    def analyze(branch: Branch, context: StepContext) -> BatchConfig:
        return BatchConfig(len(branch["numbers"]), context.get_config("batch_size"))

    @batch_worker(f"process_{parity}_batch")
    @depends_on(branch=f"branch_{parity}s")
    def process(branch: Branch, batch_context: BatchWorkerContext) -> dict[str, int]:
        numbers = branch["numbers"][batch_context.start_cursor : batch_context.end_cursor]
        return {"processed_count": len(numbers), "batch_sum": sum(numbers)}

    @step_handler(f"aggregate_{parity}_results")
    def aggregate(context: StepContext) -> dict[str, Any]:
        batches = context.get_all_dependency_results(f"process_{parity}_batch_")
        return {
            "total_processed": sum(batch["processed_count"] for batch in batches),
            "total_sum": sum(batch["batch_sum"] for batch in batches),
            "batch_count": len(batches),
        }


for name in ("even", "odd"):
    register(name)
