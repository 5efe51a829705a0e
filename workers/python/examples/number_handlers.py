"""The four number samples of ``config/templates``: ``linear``, ``diamond``, ``tree`` and ``mixed_dag``."""

from __future__ import annotations

from math import prod
from typing import Any

from tasker_worker import PermanentError, StepContext, run, step_handler

#: The largest integer that all JSON parsers read exactly.
EXACT = 2**53 - 1

#: A handler's name, and the steps whose results it multiplies and squares; without any it squares the input.
FACTORS = {
    "linear_step_1": [],
    "linear_step_2": ["linear_step_1"],
    "linear_step_3": ["linear_step_2"],
    "linear_step_4": ["linear_step_3"],
    "diamond_start": [],
    "diamond_branch_b": ["diamond_start"],
    "diamond_branch_c": ["diamond_start"],
    "diamond_end": ["diamond_branch_b", "diamond_branch_c"],
    "tree_root": [],
    "tree_branch_left": ["tree_root"],
    "tree_branch_right": ["tree_root"],
    "tree_leaf_d": ["tree_branch_left"],
    "tree_leaf_e": ["tree_branch_left"],
    "tree_leaf_f": ["tree_branch_right"],
    "tree_leaf_g": ["tree_branch_right"],
    "tree_final_convergence": ["tree_leaf_d", "tree_leaf_e", "tree_leaf_f", "tree_leaf_g"],
    "dag_init": [],
    "dag_process_left": ["dag_init"],
    "dag_process_right": ["dag_init"],
    "dag_validate": ["dag_process_left", "dag_process_right"],
    "dag_transform": ["dag_process_left"],
    "dag_analyze": ["dag_process_right"],
    "dag_finalize": ["dag_validate", "dag_transform", "dag_analyze"],
}


def register(name: str, steps: list[str]) -> None:
    """Registers a handler that multiplies the results of steps and squares the product."""

    @step_handler(name)
    def squared(context: StepContext) -> Any:
        numbers = [number(context.get_dependency_result(step), step) for step in steps]
        square = prod(numbers or [even_number(context)]) ** 2
        is_decimal = name.startswith(("tree_", "dag_")) or square > EXACT
        return str(square) if is_decimal else square


def even_number(context: StepContext) -> int:
    """The task's number."""
    n = context.get_input("even_number")
    if not isinstance(n, int) or n <= 0 or n % 2:
        raise PermanentError(f"even_number is {n!r}; it must be an even number above 0")
    return n


def number(result: Any, step: str) -> int:
    """The result of a step: what is no object is under ``result``, here a number or its digits."""
    try:
        return int(result["result"])
    except (TypeError, KeyError, ValueError) as error:
        raise PermanentError(f"the result of {step!r} is {result!r}, which is not a whole number") from error


for handler, factors in FACTORS.items():
    register(handler, factors)

if __name__ == "__main__":
    run()
