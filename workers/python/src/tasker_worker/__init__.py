"""Write step handlers as plain functions, and run them.

    from tasker_worker import PermanentError, depends_on, inputs, run, step_handler

    @step_handler("charge_card")
    @depends_on(order="validate_order")
    @inputs("card")
    def charge_card(order, card):
        if card == "declined":
            raise PermanentError("the card was declined")
        return {"charged_cents": order["total_cents"]}

    if __name__ == "__main__":
        run()

A handler runs at least once for each step: use ``context.step_uuid`` as the idempotency key of actions that must not
happen twice. ``tasker-worker`` or ``tasker-ctl dev`` starts the program and talks to it over two pipes. It never sees
the database. ``print`` and ``logging`` work as usual: their output becomes log lines.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .context import StepContext
from .errors import PermanentError, RetryableError, TaskerError
from .functions import FunctionalHandler, step_handler
from .registry import depends_on, inputs
from .results import ErrorType, StepHandlerResult
from .runner import run
from .step_class import StepHandler
from .version import __version__

if TYPE_CHECKING:
    from .batchable import Batchable, BatchAggregationScenario, BatchWorkerConfig
    from .batches import (
        BatchAnalyzerOutcome,
        BatchConfig,
        BatchWorkerContext,
        BatchWorkerInputs,
        BatchWorkerOutcome,
        CursorConfig,
        FailureStrategy,
        batch_analyzer,
        batch_worker,
    )
    from .decisions import (
        Decision,
        DecisionHandler,
        DecisionMixin,
        DecisionPointOutcome,
        DecisionType,
        decision_handler,
    )

__all__ = [
    "BatchAggregationScenario",
    "BatchAnalyzerOutcome",
    "BatchConfig",
    "BatchWorkerConfig",
    "BatchWorkerContext",
    "BatchWorkerInputs",
    "BatchWorkerOutcome",
    "Batchable",
    "CursorConfig",
    "Decision",
    "DecisionHandler",
    "DecisionMixin",
    "DecisionPointOutcome",
    "DecisionType",
    "ErrorType",
    "FailureStrategy",
    "FunctionalHandler",
    "PermanentError",
    "RetryableError",
    "StepContext",
    "StepHandler",
    "StepHandlerResult",
    "TaskerError",
    "__version__",
    "batch_analyzer",
    "batch_worker",
    "decision_handler",
    "depends_on",
    "inputs",
    "run",
    "step_handler",
]

#: The modules of names that are imported when they are first used: most workers need none of them and start faster.
_LATER = {
    "Batchable": "batchable",
    "BatchAggregationScenario": "batchable",
    "BatchWorkerConfig": "batchable",
    "BatchAnalyzerOutcome": "batches",
    "BatchConfig": "batches",
    "BatchWorkerContext": "batches",
    "BatchWorkerInputs": "batches",
    "BatchWorkerOutcome": "batches",
    "CursorConfig": "batches",
    "FailureStrategy": "batches",
    "batch_analyzer": "batches",
    "batch_worker": "batches",
    "Decision": "decisions",
    "DecisionHandler": "decisions",
    "DecisionMixin": "decisions",
    "DecisionPointOutcome": "decisions",
    "DecisionType": "decisions",
    "decision_handler": "decisions",
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{module}", __name__), name)
