"""Handlers of Tasker Core are loaded as they are."""

import importlib
import unittest

from test_handlers import step

import tasker_worker
from tasker_worker import runner

CLASSES = """
from __future__ import annotations

from typing import TYPE_CHECKING

from tasker_core import StepHandler, StepHandlerResult
from tasker_core.batch_processing import Batchable
from tasker_core.errors import PermanentError, RetryableError
from tasker_core.step_handler import DecisionHandler
from tasker_core.types import ErrorType

if TYPE_CHECKING:
    from tasker_core.types import StepContext


class Worker(StepHandler, Batchable):
    handler_name = "family.step_handlers.Worker"

    def call(self, context: StepContext) -> StepHandlerResult:
        inputs = self.get_batch_worker_inputs(context)
        if inputs is None:
            return self.failure(message="no inputs", error_type=ErrorType.VALIDATION_ERROR, retryable=False)
        return self.checkpoint_yield(cursor=1, items_processed=1, accumulated_results={"a": 1})


class Router(DecisionHandler):
    handler_name = "family.step_handlers.Router"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.decision_success(["a"], routing_context={"path": "auto"})
"""

FUNCTIONS = """
from tasker_core.step_handler.functional import (
    BatchConfig,
    Decision,
    batch_analyzer,
    batch_worker,
    decision_handler,
    depends_on,
    inputs,
    step_handler,
)
from tasker_core.types import StepContext, StepHandlerResult


@batch_analyzer("family_dsl.step_handlers.analyze", worker_template="work")
@inputs("amount")
def analyze(amount, context):
    return BatchConfig(total_items=amount, batch_size=5)


@batch_worker("family_dsl.step_handlers.work")
def work(batch_context, context):
    return {"no_batch": batch_context is None}


@decision_handler("family_dsl.step_handlers.route")
@depends_on(parent="parent")
def route(parent, context):
    return Decision.skip("nothing", total=parent["total"])
"""


class Imports(unittest.TestCase):
    def test_classes_and_functions_run_unchanged(self):
        exec(compile(CLASSES, "classes.py", "exec"), {"__name__": "classes"})
        exec(compile(FUNCTIONS, "functions.py", "exec"), {"__name__": "functions"})
        inputs = {"cursor": {"batch_id": "001", "start_cursor": 0, "end_cursor": 5, "batch_size": 5}}
        for name, kind in [("Worker", "checkpoint"), ("Router", "success")]:
            outcome = runner.outcome_of(step(f"family.step_handlers.{name}", step_inputs=inputs))
            self.assertIn(kind, outcome)
        results = {
            name: runner.outcome_of(step(f"family_dsl.step_handlers.{name}"))["success"]["result"]
            for name in ("analyze", "work", "route")
        }
        self.assertEqual(results["analyze"]["worker_count"], 2)
        self.assertEqual(results["work"], {"no_batch": True})
        self.assertEqual(results["route"]["routing_context"], {"total": 3})

    def test_every_name_is_that_of_this_package(self):
        modules = [
            "",
            ".errors",
            ".types",
            ".batch_processing",
            ".batch_processing.batchable",
            ".step_handler",
            ".step_handler.base",
            ".step_handler.decision",
            ".step_handler.functional",
            ".step_handler.mixins",
        ]
        for module in modules:
            found = importlib.import_module(f"tasker_core{module}")
            for name in found.__all__:
                value = getattr(found, name)
                self.assertTrue(getattr(value, "__module__", "tasker_worker").startswith("tasker_worker"), name)
                if hasattr(tasker_worker, name):
                    self.assertIs(value, getattr(tasker_worker, name))


if __name__ == "__main__":
    unittest.main()
