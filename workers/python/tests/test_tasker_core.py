"""Handlers of Tasker Core are loaded as they are."""

import asyncio
import importlib
import pathlib
import subprocess
import sys
import unittest

from test_handlers import run_once, step

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


#: Written as handlers write them, each run in an interpreter of its own.
IMPORTS = [
    "from tasker_core.step_handler import step_handler, depends_on, inputs, decision_handler, batch_analyzer, "
    "batch_worker, Decision, BatchConfig",
    "from tasker_core.step_handler import StepHandler, DecisionHandler, FunctionalHandler, mixins",
    "from tasker_core.step_handler import Batchable, BatchAggregationScenario, BatchWorkerConfig, DecisionType, "
    "DecisionPointOutcome, CursorConfig, BatchAnalyzerOutcome, BatchWorkerContext, BatchWorkerOutcome, DecisionMixin",
    "from tasker_core.step_handler.functional import step_handler, depends_on, inputs, decision_handler, "
    "batch_analyzer, batch_worker, Decision, BatchConfig, FunctionalHandler",
    "from tasker_core.step_handler.base import StepHandler",
    "from tasker_core.step_handler.decision import DecisionHandler",
    "from tasker_core.step_handler.mixins import DecisionMixin",
    "from tasker_core import Batchable, BatchAggregationScenario, BatchWorkerConfig, DecisionHandler, DecisionType, "
    "DecisionPointOutcome, CursorConfig, BatchAnalyzerOutcome, BatchWorkerContext, BatchWorkerOutcome",
    "from tasker_core import StepHandler, StepContext, StepHandlerResult, ErrorType",
    "from tasker_core import depends_on, inputs, decision_handler, batch_analyzer, batch_worker, Decision, BatchConfig",
    "from tasker_core import TaskerError, RetryableError, PermanentError, NetworkError, StepTimeoutError, "
    "StepValidationError, RateLimitError, ServiceUnavailableError, ResourceContentionError, NotFoundError, "
    "AuthenticationError, AuthorizationError, ConfigurationError, BusinessLogicError, FFIError, ErrorClassifier, "
    "is_retryable, is_permanent",
    "from tasker_core.errors import TaskerError, RetryableError, PermanentError, TimeoutError, NetworkError, "
    "RateLimitError, ServiceUnavailableError, ResourceContentionError, ValidationError, NotFoundError, "
    "AuthenticationError, AuthorizationError, ConfigurationError, BusinessLogicError, FFIError, ErrorClassifier, "
    "is_retryable, is_permanent",
    "from tasker_core.types import StepContext, StepHandlerResult, ErrorType, DecisionPointOutcome, DecisionType, "
    "CursorConfig, BatchAnalyzerOutcome, BatchWorkerContext, BatchWorkerOutcome",
    "from tasker_core.batch_processing import Batchable, BatchAggregationScenario, BatchWorkerConfig",
    "from tasker_core.batch_processing.batchable import Batchable",
]


class Imports(unittest.TestCase):
    def test_every_import_of_a_handler_is_served(self):
        for statement in IMPORTS:
            environment = {"PYTHONPATH": str(pathlib.Path(tasker_worker.__file__).parents[1])}
            ended = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, env=environment)
            self.assertEqual(ended.stderr, "", statement)

    def test_the_decorator_is_one_after_any_import_of_its_package(self):
        from tasker_core.step_handler import step_handler

        self.assertIs(step_handler, tasker_worker.step_handler)

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
                own = ("tasker_worker", "tasker_core.errors")
                self.assertTrue(getattr(value, "__module__", "tasker_worker").startswith(own), name)
                if hasattr(tasker_worker, name):
                    self.assertIs(value, getattr(tasker_worker, name))


class Errors(unittest.TestCase):
    def test_an_error_is_retryable_or_permanent_as_its_kind_says(self):
        from tasker_core import errors

        for kind in ("TimeoutError", "NetworkError", "RateLimitError", "ServiceUnavailableError", "FFIError"):
            self.assertTrue(errors.is_retryable(getattr(errors, kind)("no")), kind)
        for kind in ("ValidationError", "NotFoundError", "AuthenticationError", "ConfigurationError"):
            failure = run_once(raising(getattr(errors, kind)("no")))["failure"]
            self.assertEqual((failure["error_type"], failure["retryable"]), ("permanent_error", False), kind)
        self.assertTrue(errors.is_permanent(errors.FFIError("no", retryable=False)))
        self.assertTrue(errors.ErrorClassifier().retryable(OSError()))
        self.assertTrue(errors.ErrorClassifier().permanent(errors.BusinessLogicError("no")))


class FunctionsAsClasses(unittest.TestCase):
    def test_a_decorated_function_is_a_class_too(self):
        @tasker_worker.step_handler("as_a_class", version="2.0.0")
        @tasker_worker.inputs("amount")
        def double(amount):
            return {"double": 2 * amount}

        kind = double._handler_class
        self.assertTrue(issubclass(kind, tasker_worker.StepHandler))
        self.assertEqual((kind.handler_name, kind.handler_version, kind.__name__), ("as_a_class", "2.0.0", "double"))
        called = kind().call(tasker_worker.StepContext(step("as_a_class")))
        self.assertEqual(called.outcome, runner.outcome_of(step("as_a_class")))
        self.assertEqual(double(3), {"double": 6})

    def test_its_call_returns_what_the_function_raises_or_awaits_as_a_result(self):
        @tasker_worker.decision_handler("routes_later")
        async def route():
            return tasker_worker.Decision.route("a")

        @tasker_worker.batch_worker("works_never")
        def work(batch_context):
            raise tasker_worker.PermanentError(f"no {batch_context}")

        context = tasker_worker.StepContext(step("any"))
        routed = asyncio.run(route._handler_class().call(context))
        self.assertEqual(routed.result["decision_point_outcome"]["step_names"], ["a"])
        failed = work._handler_class().call(context)
        self.assertEqual((failed.error_message, failed.retryable), ("no None", False))

    def test_what_takes_no_attributes_is_a_handler_all_the_same(self):
        class Client:
            def charge(self):
                return {"charged": True}

        tasker_worker.step_handler("charged_by_a_method")(Client().charge)
        outcome = runner.outcome_of(step("charged_by_a_method"))
        self.assertEqual(outcome, {"success": {"result": {"charged": True}}})


def raising(error):
    """A handler that raises an error."""

    def fail():
        raise error

    return fail


if __name__ == "__main__":
    unittest.main()
