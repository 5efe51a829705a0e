"""The outcomes of decisions, and handlers that are classes."""

import unittest
import uuid

from test_handlers import step

from tasker_worker import (
    Decision,
    DecisionHandler,
    DecisionMixin,
    DecisionPointOutcome,
    PermanentError,
    StepHandler,
    StepHandlerResult,
    decision_handler,
    depends_on,
    step_handler,
)
from tasker_worker.registry import names
from tasker_worker.runner import outcome_of


def fresh_name():
    return f"handler_{uuid.uuid4()}"


def decided(function, **changes):
    """Registers a function as a decision under a fresh name and runs it once."""
    name = fresh_name()
    decision_handler(name)(function)
    return outcome_of(step(name, **changes))


def called(kind, **changes):
    """Runs a class of handlers once."""
    return outcome_of(step(kind.handler_name, **changes))


class DecidingFunctions(unittest.TestCase):
    def test_a_route_names_steps_and_gives_them_its_context(self):
        outcome = decided(
            lambda: Decision.route(["manager_approval", "finance_review"], approval_path="dual", amount=5)
        )
        expected = {
            "decision_point_outcome": {"type": "create_steps", "step_names": ["manager_approval", "finance_review"]},
            "routing_context": {"approval_path": "dual", "amount": 5},
        }
        self.assertEqual(outcome, {"success": {"result": expected, "metadata": None}})

    def test_a_route_without_a_context_and_to_one_step_is_short(self):
        outcome = decided(lambda: Decision.route("auto_approve"))
        expected = {"decision_point_outcome": {"type": "create_steps", "step_names": ["auto_approve"]}}
        self.assertEqual(outcome["success"]["result"], expected)

    def test_a_skip_creates_nothing_and_says_why(self):
        outcome = decided(lambda: Decision.skip("nothing to approve", amount=0))
        expected = {
            "decision_point_outcome": {"type": "no_branches"},
            "reason": "nothing to approve",
            "routing_context": {"amount": 0},
        }
        self.assertEqual(outcome["success"]["result"], expected)

    def test_a_created_step_is_named_beside_a_result_of_the_handler_s_own(self):
        success = decided(lambda: Decision.create(["ship"], {"a": 1}, {"took": 2}))["success"]
        expected = {"result": {"a": 1}, "metadata": {"took": 2}, "decision": {"create": ["ship"]}}
        self.assertEqual(success, expected)
        success = decided(lambda: Decision.create([]))["success"]
        self.assertEqual((success["result"], success["decision"]), ({}, {"create": []}))

    def test_a_decision_has_the_arguments_of_any_handler_and_may_be_async(self):
        @depends_on(order="parent")
        async def route(order, context):
            return Decision.route(["a"], total=order["total"], amount=context.get_input("amount"))

        context = decided(route)["success"]["result"]["routing_context"]
        self.assertEqual(context, {"total": 3, "amount": 7})

    def test_what_is_no_decision_is_an_ordinary_value(self):
        self.assertEqual(decided(lambda: {"a": 1}), {"success": {"result": {"a": 1}}})
        failure = decided(lambda: StepHandlerResult.failure("no", retryable=False))["failure"]
        self.assertEqual((failure["message"], failure["retryable"]), ("no", False))

        def fail():
            raise PermanentError("no")

        self.assertFalse(decided(fail)["failure"]["retryable"])


class DecidingClasses(unittest.TestCase):
    def test_each_method_has_the_outcome_of_its_name(self):
        class Route(DecisionHandler):
            handler_name = fresh_name()

            def call(self, context):
                return {
                    "success": lambda: self.decision_success(["a"], {"tier": "b"}),
                    "alias": lambda: self.route_to_steps(["a"], {"tier": "b"}),
                    "skip": lambda: self.skip_branches("why"),
                    "fail": lambda: self.decision_failure("no order"),
                    "dynamic": lambda: self.decision_success_with_outcome(
                        DecisionPointOutcome.create_steps(["a"], dynamic_steps=[{"name": "x"}]), {"took": 2}
                    ),
                    "none": lambda: self.decision_no_branches(DecisionPointOutcome.no_branches("why")),
                }[context.get_input("way")]()

        def way(name):
            return called(Route, context={"way": name})

        create = {"type": "create_steps", "step_names": ["a"]}
        for name in ("success", "alias"):
            result = way(name)["success"]["result"]
            self.assertEqual(result, {"decision_point_outcome": create, "routing_context": {"tier": "b"}})
        for name in ("skip", "none"):
            result = way(name)["success"]["result"]
            self.assertEqual(result, {"decision_point_outcome": {"type": "no_branches"}, "reason": "why"})
        success = way("dynamic")["success"]
        self.assertEqual(success["result"], {"decision_point_outcome": create, "dynamic_steps": [{"name": "x"}]})
        self.assertEqual(success["metadata"], {"took": 2})
        failure = way("fail")["failure"]
        self.assertEqual(failure, {"message": "no order", "error_type": "decision_error", "retryable": False})

    def test_the_mixin_goes_with_any_class(self):
        class Mixed(StepHandler, DecisionMixin):
            handler_name = fresh_name()

            async def call(self, context):
                return self.skip_branches("why")

        self.assertEqual(called(Mixed)["success"]["result"]["reason"], "why")


class Classes(unittest.TestCase):
    def test_a_class_with_a_name_is_a_handler(self):
        class Charge(StepHandler):
            handler_name = fresh_name()
            handler_version = "2.0.0"

            def call(self, context):
                return self.success({"by": [self.name == context.handler_name, self.version]})

        self.assertIn(Charge.handler_name, names())
        self.assertEqual(called(Charge)["success"]["result"], {"by": [True, "2.0.0"]})

    def test_a_class_without_a_name_is_a_base_of_others(self):
        class Base(StepHandler):
            def call(self, context):
                return self.amount() + context.get_input("amount")

        class Derived(Base):
            handler_name = fresh_name()

            def amount(self):
                return 3

        self.assertNotIn("", names())
        self.assertEqual(called(Derived), {"success": {"result": {"result": 10}}})

    def test_a_subclass_of_a_handler_takes_its_place_only_under_another_name(self):
        class Charge(StepHandler):
            handler_name = fresh_name()

            def call(self, context):
                return {"by": type(self).__name__}

        class Unnamed(Charge):
            pass

        self.assertEqual(called(Charge), called(Unnamed))
        self.assertEqual(called(Charge)["success"]["result"], {"by": "Charge"})

    def test_a_step_has_an_instance_of_its_own(self):
        class Count(StepHandler):
            handler_name = fresh_name()

            def __init__(self):
                self.calls = 0

            def call(self, context):
                self.calls += 1
                return self.calls

        self.assertEqual([called(Count)["success"]["result"]["result"] for _ in range(2)], [1, 1])

    def test_a_template_s_method_is_the_class_s_own_or_else_call(self):
        class Payments(StepHandler):
            handler_name = fresh_name()

            def call(self, context):
                return {"by": "call", "method": context.method}

            def refund(self, context):
                return {"by": "refund"}

        for method, result in [
            ("refund", {"by": "refund"}),
            ("void", {"by": "call", "method": "void"}),
            ("failure", {"by": "call", "method": "failure"}),
            ("handler_version", {"by": "call", "method": "handler_version"}),
        ]:
            handler = {"callable": Payments.handler_name, "method": method}
            self.assertEqual(outcome_of(step("", handler=handler)), {"success": {"result": result}})

    def test_failures_and_checkpoints_of_a_class_are_those_of_any_handler(self):
        class Both(StepHandler):
            handler_name = fresh_name()

            def call(self, context):
                if context.has_checkpoint():
                    return self.failure("no", "my_type", False, {"at": 1}, "E1")
                return self.checkpoint_yield(5, 10, {"sum": 1})

        first = called(Both)
        self.assertEqual(first, {"checkpoint": {"cursor": 5, "items_processed": 10, "accumulated": {"sum": 1}}})
        said = {"message": "no", "error_type": "my_type", "retryable": False, "error_code": "E1", "context": {"at": 1}}
        self.assertEqual(called(Both, checkpoint=first["checkpoint"]), {"failure": said})

    def test_two_classes_or_a_class_and_a_function_under_one_name_are_refused(self):
        class First(StepHandler):
            handler_name = fresh_name()

        with self.assertRaisesRegex(ValueError, First.handler_name):
            type("Second", (StepHandler,), {"handler_name": First.handler_name})
        with self.assertRaisesRegex(ValueError, First.handler_name):
            step_handler(First.handler_name)(lambda: None)


if __name__ == "__main__":
    unittest.main()
