"""Handlers that are functions."""

from tasker_worker import (
    BatchConfig,
    Decision,
    FunctionalHandler,
    batch_analyzer,
    batch_worker,
    decision_handler,
    depends_on,
    inputs,
    step_handler,
)

__all__ = [
    "BatchConfig",
    "Decision",
    "FunctionalHandler",
    "batch_analyzer",
    "batch_worker",
    "decision_handler",
    "depends_on",
    "inputs",
    "step_handler",
]
