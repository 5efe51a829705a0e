"""What a handler is told of its own inputs, of failures before it, and of its progress."""

import dataclasses
import unittest

from test_handlers import run_once

from tasker_worker import PermanentError, inputs

CURSOR = {
    "cursor": {"batch_id": "001", "start_cursor": 0, "end_cursor": 5, "batch_size": 5},
    "batch_metadata": {"cursor_field": "id", "failure_strategy": "fail_fast"},
    "is_no_op": False,
}


@dataclasses.dataclass
class Order:
    """The inputs as a type."""

    amount: int
    name: str


class Strict:
    """Stands for a model that takes no further keys."""

    def __init__(self, amount, name):
        self.amount = amount


class OwnInputs(unittest.TestCase):
    def test_an_input_of_the_step_is_found_before_the_one_of_the_task(self):
        def look(context):
            return [context.get_input("amount"), context.get_input("name"), context.get_input_or("nothing", 1)]

        result = run_once(look, step_inputs={"amount": 8, "more": None})["success"]["result"]["result"]
        self.assertEqual(result, [8, "n", 1])
        self.assertEqual(run_once(look)["success"]["result"]["result"], [7, "n", 1])

    def test_null_is_an_input_too(self):
        outcome = run_once(lambda context: [context.get_input_or("amount", 1)], step_inputs={"amount": None})
        self.assertEqual(outcome["success"]["result"], {"result": [None]})

    def test_parameters_and_models_are_made_of_the_same_inputs(self):
        @inputs("amount")
        def by_name(amount):
            return {"amount": amount}

        @inputs(Order)
        def by_model(inputs):
            return {"amount": inputs.amount}

        for handler in (by_name, by_model):
            outcome = run_once(handler, step_inputs={"amount": 8})
            self.assertEqual(outcome, {"success": {"result": {"amount": 8}}})

    def test_a_model_is_not_given_the_cursor_of_its_batch(self):
        outcome = run_once(inputs(Strict)(lambda inputs: {"amount": inputs.amount}), step_inputs=CURSOR)
        self.assertEqual(outcome, {"success": {"result": {"amount": 7}}})

    def test_a_context_that_is_no_object_has_no_inputs_but_those_of_the_step(self):
        def look(context):
            return [context.get_input("amount"), context.get_input("name"), context.all_inputs()]

        outcome = run_once(look, context=[1], step_inputs={"amount": 8})
        self.assertEqual(outcome["success"]["result"], {"result": [8, None, [1]]})


class EarlierFailures(unittest.TestCase):
    def test_the_failure_of_a_tolerated_parent_is_beside_its_missing_result(self):
        failed = {"message": "no", "error_type": "permanent_error", "error_code": "E1", "retryable": False}

        def look(context):
            return [context.get_dependency_result("part_b"), context.dependency_errors]

        outcome = run_once(look, dependency_results={"part_b": None}, dependency_errors={"part_b": failed})
        self.assertEqual(outcome["success"]["result"], {"result": [None, {"part_b": failed}]})
        self.assertEqual(run_once(look)["success"]["result"], {"result": [2, {}]})

    def test_a_later_attempt_reads_what_the_failed_one_gave_as_context(self):
        def resume(context):
            if context.last_failure is None:
                raise PermanentError("broken", context={"position": 50})
            return {"from": context.last_failure["context"]["position"]}

        failure = run_once(resume)["failure"]
        outcome = run_once(resume, attempt=2, last_failure=failure)
        self.assertEqual(outcome, {"success": {"result": {"from": 50}}})

    def test_a_step_that_was_not_created_has_no_result(self):
        outcome = run_once(lambda context: [context.get_dependency_result("never")], dependency_results={})
        self.assertEqual(outcome["success"]["result"], {"result": [None]})


class Checkpoints(unittest.TestCase):
    def test_a_checkpoint_that_a_function_returns_is_its_outcome(self):
        outcome = run_once(lambda context: context.checkpoint_yield({"page": "p2"}, 40, {"sum": 12}))
        expected = {"cursor": {"page": "p2"}, "items_processed": 40, "accumulated": {"sum": 12}}
        self.assertEqual(outcome, {"checkpoint": expected})

    def test_the_next_run_finds_what_the_last_one_stored(self):
        def count(context):
            start = context.checkpoint_cursor if context.has_checkpoint() else 0
            total = (context.accumulated_results or 0) + start
            if start < 3:
                return context.checkpoint_yield(start + 1, context.checkpoint_items_processed + 1, total)
            return {"total": total, "runs": context.checkpoint_items_processed + 1}

        outcome, runs = run_once(count), 1
        while "checkpoint" in outcome:
            outcome, runs = run_once(count, checkpoint=outcome["checkpoint"]), runs + 1
        self.assertEqual(outcome, {"success": {"result": {"total": 6, "runs": 4}}})
        self.assertEqual(runs, 4)

    def test_a_checkpoint_is_read_and_stored_under_one_name(self):
        def count(context):
            if not context.checkpoint:
                return context.checkpoint(40, 40, {"sum": 12})
            stored = context.checkpoint
            return [stored["cursor"], stored["items_processed"], stored["accumulated"], stored["accumulated_results"]]

        first = run_once(count)
        self.assertEqual(first, {"checkpoint": {"cursor": 40, "items_processed": 40, "accumulated": {"sum": 12}}})
        second = run_once(count, checkpoint=first["checkpoint"])
        self.assertEqual(second["success"]["result"], {"result": [40, 40, {"sum": 12}, {"sum": 12}]})

    def test_before_the_first_checkpoint_it_is_empty(self):
        def look(context):
            return [bool(context.checkpoint), context.checkpoint.get("cursor"), context.has_checkpoint()]

        for changes in ({}, {"checkpoint": None}):
            self.assertEqual(run_once(look, **changes)["success"]["result"], {"result": [False, None, False]})

    def test_a_count_that_is_none_is_refused(self):
        failure = run_once(lambda context: context.checkpoint_yield(1, -1))["failure"]
        self.assertEqual((failure["error_type"], failure["retryable"]), ("invalid_result", False))


if __name__ == "__main__":
    unittest.main()
