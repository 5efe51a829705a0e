"""The arguments of a handler, and the outcomes of what it returns or raises."""

import dataclasses
import functools
import json
import pathlib
import sys
import unittest
import uuid

# The tests run from a plain clone, where the package is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "src"))

from tasker_worker import (  # noqa: E402
    ErrorType,
    PermanentError,
    RetryableError,
    StepHandlerResult,
    depends_on,
    inputs,
    step_handler,
)
from tasker_worker.cancellation import Stop  # noqa: E402
from tasker_worker.results import encode  # noqa: E402
from tasker_worker.runner import outcome_of  # noqa: E402


def step(callable_name, **changes):
    """The message that dispatches a step."""
    message = {
        "v": 1,
        "task_id": str(uuid.UUID(int=0)),
        "step_id": str(uuid.UUID(int=1)),
        "step_name": "a_step",
        "lease": 1,
        "attempt": 1,
        "max_attempts": 3,
        "token": "t",
        "timeout_seconds": 30,
        "correlation_id": str(uuid.UUID(int=2)),
        "namespace": "default",
        "handler": {"callable": callable_name, "method": "call", "initialization": {"limit": 5}},
        "context": {"amount": 7, "name": "n"},
        "dependency_results": {"parent": {"total": 3, "deep": {"er": 1}}, "part_b": 2, "part_a": 1},
    }
    return {**message, **changes}


def run_once(function, **changes):
    """Registers a function under a fresh name and runs it once."""
    name = f"handler_{uuid.uuid4()}"
    step_handler(name)(function)
    return outcome_of(step(name, **changes))


@dataclasses.dataclass
class Total:
    """A dependency as a type."""

    total: int


class Model:
    """Stands for a pydantic model."""

    def __init__(self, values):
        self.values = values

    @classmethod
    def model_validate(cls, values):
        if "amount" not in values:
            raise ValueError("amount is missing")
        return cls(values)

    def model_dump(self, mode):
        return {"mode": mode, **self.values}


class HandlerArguments(unittest.TestCase):
    def test_a_handler_receives_the_context_only_if_it_has_a_parameter_for_it(self):
        self.assertEqual(run_once(lambda: 1), {"success": {"result": {"result": 1}}})
        self.assertEqual(run_once(lambda context: context.step_name), {"success": {"result": {"result": "a_step"}}})
        self.assertEqual(run_once(lambda _context: _context.step_name), {"success": {"result": {"result": "a_step"}}})

    def test_dependencies_and_inputs_are_passed_by_name_in_any_order_of_the_decorators(self):
        def add(parent, amount, missing, nobody):
            return {"sum": parent["total"] + amount, "missing": missing, "nobody": nobody}

        add = inputs("amount", "missing")(add)
        name = f"handler_{uuid.uuid4()}"
        add = step_handler(name)(add)
        depends_on(parent="parent", nobody="not_created")(add)
        expected = {"success": {"result": {"sum": 10, "missing": None, "nobody": None}}}
        self.assertEqual(outcome_of(step(name)), expected)

    def test_models_are_made_of_dependencies_and_of_the_context(self):
        @depends_on(parent=("parent", Total))
        @inputs(Model)
        def typed(parent, inputs):
            return {"total": parent.total, "amount": inputs.values["amount"]}

        self.assertEqual(run_once(typed), {"success": {"result": {"total": 3, "amount": 7}}})

    def test_what_does_not_fit_a_model_is_a_permanent_failure_that_says_why(self):
        failure = run_once(inputs(Model)(lambda inputs: None), context={"name": "n"})["failure"]
        self.assertFalse(failure["retryable"])
        self.assertIn("amount is missing", failure["message"])
        self.assertEqual(failure["error_code"], "validation_error")

    def test_a_model_without_a_name_or_an_error_without_a_text_does_not_hide_that_the_value_does_not_fit(self):
        class Mute(ValueError):
            def __str__(self):
                raise RuntimeError("no text")

        def refuse(**values):
            raise Mute

        model = functools.partial(refuse)
        failure = run_once(depends_on(parent=("parent", model))(lambda parent: None))["failure"]
        self.assertEqual((failure["retryable"], failure["error_code"]), (False, "validation_error"))
        self.assertTrue(failure["message"].startswith("the result of step 'parent' does not fit functools.partial("))

    def test_the_accessors_of_the_context_answer_as_in_every_sdk(self):
        seen = {}

        def look(context):
            seen["context"] = context

        run_once(look, attempt=3, checkpoint={"cursor": 9, "items_processed": 4, "accumulated": [1]})
        context = seen["context"]
        self.assertEqual(context.task_uuid, str(uuid.UUID(int=0)))
        self.assertEqual((context.retry_count, context.max_retries), (2, 3))
        self.assertTrue(context.is_retry() and context.is_last_retry() and context.has_checkpoint())
        self.assertEqual(context.get_input("amount"), 7)
        self.assertEqual(context.get_input_or("nothing", 1), 1)
        self.assertEqual(context.get_config("limit"), 5)
        self.assertIsNone(context.get_config("nothing"))
        self.assertEqual(context.get_dependency_field("parent", "deep", "er"), 1)
        self.assertIsNone(context.get_dependency_field("parent", "total", "x"))
        self.assertEqual(context.get_all_dependency_results("part_"), [1, 2])
        self.assertEqual(context.checkpoint_cursor, 9)
        self.assertEqual(context.checkpoint_items_processed, 4)
        self.assertEqual(context.accumulated_results, [1])

    def test_a_first_try_has_no_retries_and_no_checkpoint(self):
        def look(context):
            return [context.is_retry(), context.is_last_retry(), context.has_checkpoint(), context.checkpoint_cursor]

        self.assertEqual(run_once(look)["success"]["result"]["result"], [False, False, False, None])


class ResultConversion(unittest.TestCase):
    def test_values_are_wrapped_as_in_every_sdk(self):
        for value, result in [
            ({"a": 1}, {"a": 1}),
            (None, {}),
            (5, {"result": 5}),
            ([1], {"result": [1]}),
            (Total(2), {"total": 2}),
            (Model({"amount": 1}), {"mode": "json", "amount": 1}),
        ]:
            with self.subTest(value=value):
                self.assertEqual(run_once(lambda value=value: value), {"success": {"result": result}})

    def test_a_result_object_passes_as_it_is(self):
        outcome = run_once(lambda: StepHandlerResult.success({"a": 1}, {"took": 2}))
        self.assertEqual(outcome, {"success": {"result": {"a": 1}, "metadata": {"took": 2}}})
        outcome = run_once(lambda: StepHandlerResult.failure("no", ErrorType.VALIDATION_ERROR, False, {"x": 1}, "E1"))
        said = {"message": "no", "error_type": "validation_error", "retryable": False, "error_code": "E1"}
        self.assertEqual(outcome, {"failure": {**said, "context": {"x": 1}}})
        outcome = run_once(lambda: StepHandlerResult.checkpoint(5, 10, [1]))
        self.assertEqual(outcome, {"checkpoint": {"cursor": 5, "items_processed": 10, "accumulated": [1]}})

    def test_a_result_object_says_what_it_is(self):
        made = StepHandlerResult.success({"a": 1}, {"took": 2})
        self.assertEqual((made.is_success, made.result, made.metadata), (True, {"a": 1}, {"took": 2}))
        self.assertEqual((made.error_message, made.error_type, made.error_code, made.retryable), (None,) * 3 + (True,))
        self.assertEqual(StepHandlerResult.success().metadata, {})
        failed = StepHandlerResult.failure("no", ErrorType.VALIDATION_ERROR, False, {"x": 1}, "E1")
        self.assertEqual((failed.is_success, failed.result, failed.metadata), (False, None, {"x": 1}))
        said = (failed.error_message, failed.error_type, failed.error_code, failed.retryable)
        self.assertEqual(said, ("no", "validation_error", "E1", False))
        self.assertTrue(StepHandlerResult.failure("no").retryable)
        stored = StepHandlerResult.checkpoint(5, 10, [1])
        parts = {"type": "checkpoint_yield", "cursor": 5, "items_processed": 10, "accumulated_results": [1]}
        self.assertEqual((stored.is_success, stored.result), (True, parts))
        self.assertEqual(stored.metadata, {"checkpoint_yield": True})

    def test_a_success_that_is_marked_as_a_checkpoint_does_not_complete_the_step(self):
        parts = {"type": "checkpoint_yield", "cursor": 5, "items_processed": 10, "accumulated_results": [1]}
        flag = {"checkpoint_yield": True, "batch_worker": True}
        outcome = run_once(lambda: StepHandlerResult.success(parts, flag))
        self.assertEqual(outcome, {"checkpoint": {"cursor": 5, "items_processed": 10, "accumulated": [1]}})
        less = {"type": "checkpoint_yield", "cursor": "p2", "items_processed": 10}
        outcome = run_once(lambda: StepHandlerResult.success(less, flag))
        self.assertEqual(outcome["checkpoint"]["accumulated"], None)
        wrong = run_once(lambda: StepHandlerResult.success({"type": "checkpoint_yield"}, flag))
        self.assertEqual(wrong["failure"]["error_type"], "invalid_result")

    def test_data_that_looks_like_a_checkpoint_is_a_result_without_the_flag(self):
        parts = {"type": "checkpoint_yield", "cursor": 5, "items_processed": 10}
        for value in (parts, StepHandlerResult.success(parts), StepHandlerResult.success(parts, {"took": 1})):
            self.assertEqual(run_once(lambda value=value: value)["success"]["result"], parts)
        outcome = run_once(lambda: StepHandlerResult.success({"type": "other"}, {"checkpoint_yield": True}))
        self.assertEqual(outcome["success"]["result"], {"type": "other"})

    def test_an_async_handler_is_awaited(self):
        async def later():
            return {"a": 1}

        self.assertEqual(run_once(later), {"success": {"result": {"a": 1}}})

    def test_a_result_that_is_not_json_is_a_permanent_failure_that_says_why(self):
        deep = []
        for _ in range(100_000):
            deep = [deep]
        for value in [float("nan"), {1, 2}, object(), deep]:
            outcome = json.loads(encode(1, run_once(lambda value=value: value)))["outcome"]
            self.assertEqual(outcome["failure"]["error_type"], "invalid_result")
            self.assertFalse(outcome["failure"]["retryable"])
        while deep:
            deep = deep.pop()


class ErrorConversion(unittest.TestCase):
    def raised(self, error):
        def fail():
            raise error

        return run_once(fail)["failure"]

    def test_a_permanent_error_is_not_retried(self):
        failure = self.raised(PermanentError("declined", error_code="card", context={"bank": "b"}))
        said = {"message": "declined", "error_type": "permanent_error", "retryable": False}
        self.assertEqual(failure, {**said, "error_code": "card", "context": {"bank": "b"}})

    def test_a_retryable_error_keeps_its_hint(self):
        failure = self.raised(RetryableError("busy", retry_after=1.5))
        said = {"message": "busy", "error_type": "retryable_error", "retryable": True, "delay_seconds": 1.5}
        self.assertEqual(failure, said)

    def test_any_other_error_is_retryable_and_says_where_it_was_raised(self):
        failure = self.raised(KeyError("x"))
        self.assertTrue(failure["retryable"])
        self.assertEqual((failure["error_type"], failure["message"]), ("handler_error", "KeyError: 'x'"))
        self.assertIn("in fail", failure["context"]["traceback"][-1])

    def test_sys_exit_is_a_failure_of_its_step(self):
        self.assertIn("sys.exit(3)", self.raised(SystemExit(3))["message"])

    def test_an_unknown_handler_is_a_permanent_failure_that_lists_the_known_ones(self):
        step_handler("a_known_one")(lambda: None)
        failure = outcome_of(step("unknown"))["failure"]
        self.assertEqual((failure["error_type"], failure["retryable"]), ("handler_not_found", False))
        self.assertIn("a_known_one", failure["message"])

    def test_another_method_is_a_handler_of_its_own_or_else_the_callable_s_which_sees_it(self):
        step_handler("payments")(lambda context: {"method": context.method})
        step_handler("payments.refund")(lambda context: {"refunded": context.method})
        for method, result in [
            ("refund", {"refunded": "refund"}),
            ("void", {"method": "void"}),
            (None, {"method": "call"}),
        ]:
            handler = {"callable": "payments", **({"method": method} if method else {})}
            self.assertEqual(outcome_of(step("", handler=handler)), {"success": {"result": result}})

    def test_a_handler_that_is_not_registered_is_told_with_the_nearest_name(self):
        step_handler("charge_card")(lambda: None)
        step_handler("refund_all.dry")(lambda: None)
        for callable_name, method, near in [
            ("chrage_card", "call", "charge_card"),
            ("charge_crad", "void", "charge_card"),
            ("refund_al", "dry", "refund_all.dry"),
        ]:
            handler = {"callable": callable_name, "method": method}
            message = outcome_of(step("", handler=handler))["failure"]["message"]
            self.assertIn(f"did you mean '{near}'?", message)
        self.assertNotIn("did you mean", outcome_of(step("zzz"))["failure"]["message"])

    def test_a_step_that_is_stopped_before_it_starts_does_not_run(self):
        stop = Stop()
        stop.request()
        step_handler("never_runs")(lambda: self.fail("it ran"))
        self.assertEqual(outcome_of(step("never_runs"), stop=stop), {"released": {}})

    def test_two_handlers_under_one_name_are_refused(self):
        step_handler("twice")(lambda: 1)
        with self.assertRaisesRegex(ValueError, "twice"):
            step_handler("twice")(lambda: 2)


if __name__ == "__main__":
    unittest.main()
