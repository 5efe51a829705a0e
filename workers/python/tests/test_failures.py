"""What odd handlers are answered, by a real process over its pipes: each at once, and each as itself."""

import itertools
import json
import pathlib
import re
import sys
import unittest

from test_handlers import step
from test_pipes import Child

from tasker_worker import words

HANDLERS = pathlib.Path(__file__).with_name("odd_handlers.py")
LIMITS = pathlib.Path(__file__).parents[3] / "shared" / "wire" / "src" / "limits.rs"


class OddHandlers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.child = Child(HANDLERS)
        cls.child.receive()
        cls.numbers = itertools.count(1)

    @classmethod
    def tearDownClass(cls):
        cls.child.process.kill()
        cls.child.end()

    def start(self, callable_name, **changes):
        number = next(self.numbers)
        self.child.send(number, step(callable_name, timeout_seconds=3600, **changes))
        return number

    def outcomes(self, *numbers):
        """The outcomes of steps, whatever their order."""
        found = {}
        while len(found) < len(numbers):
            answer = self.child.receive()
            if "outcome" in answer:
                found[answer["id"]] = answer["outcome"]
        return [found[number] for number in numbers]

    def outcome(self, callable_name, **changes):
        return self.outcomes(self.start(callable_name, **changes))[0]

    def failure(self, callable_name):
        return self.outcome(callable_name)["failure"]

    def permanent(self, callable_name, message="declined"):
        failure = self.failure(callable_name)
        found = (failure["message"], failure["error_type"], failure["retryable"])
        self.assertEqual(found, (message, "permanent_error", False), callable_name)
        return failure

    def busy(self, callable_name):
        failure = self.failure(callable_name)
        found = (failure["message"], failure["error_type"], failure["retryable"])
        self.assertEqual(found, ("busy", "retryable_error", True), callable_name)
        return failure


class Failures(OddHandlers):
    def test_a_pause_is_a_number_or_a_timedelta_and_one_that_means_nothing_is_left_out(self):
        self.assertEqual(self.busy("timedelta")["delay_seconds"], 1.0)
        for callable_name in ("endless_pause", "huge_pause"):
            self.assertEqual(self.busy(callable_name)["delay_seconds"], 86400.0)
        for callable_name, text in [
            ("negative_pause", -5),
            ("nan_pause", "nan"),
            ("date_as_pause", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ]:
            failure = self.busy(callable_name)
            self.assertNotIn("delay_seconds", failure)
            self.assertEqual(failure["context"], {"retry_after": text})

    def test_text_where_a_dict_is_meant_is_kept_under_a_key(self):
        self.assertEqual(self.permanent("text_as_context")["context"], {"context": "card 4242"})
        self.assertEqual(self.permanent("text_as_metadata")["context"], {"metadata": "card 4242"})
        self.assertEqual(self.permanent("list_as_context")["context"], {"context": ["card", 4242]})
        self.assertEqual(self.permanent("unsure_context")["context"], {"context": "<unsure>"})

    def test_what_json_lacks_is_said_as_text(self):
        self.assertEqual(self.busy("datetime")["context"], {"at": "2026-01-02 03:04:05"})
        self.assertEqual(self.busy("nan")["context"], {"ratio": "nan", "most": "inf"})
        self.assertEqual(self.permanent("decimal")["context"], {"price": "9.90"})
        said = {"set": "{1}", "bytes": "b'\\xff'", "7": None, "(1, 2)": [True, 1.5], "id": str(10**20), "big": "<int>"}
        self.assertEqual(self.permanent("mixed")["context"], said)
        self.assertEqual(self.permanent("mute_context")["context"], {"error": "<Mute>"})
        self.assertEqual(self.permanent("cycle")["context"], {"name": "cycle", "again": "…"})
        self.assertEqual(self.permanent("odd_mapping")["context"]["context"][:12], "<odd_handler")
        self.permanent("deep")

    def test_halves_of_surrogate_pairs_and_nul_are_replaced(self):
        failure = self.failure("surrogate")
        self.assertEqual((failure["message"], failure["retryable"]), ("no such file: caf\ufffd.csv", True))
        context = self.permanent("surrogate_in_context")["context"]
        self.assertEqual(context, {"fi\ufffdle": "caf\ufffd", "nul": "a\ufffdb"})

    def test_long_texts_and_contexts_are_cut(self):
        failure = self.permanent("large_text", "x" * 3999 + "…")
        self.assertEqual(failure["error_code"], "c" * 3999 + "…")
        failure = self.failure("large_other")
        self.assertEqual((len(failure["message"]), failure["retryable"]), (4000, True))
        self.assertTrue(failure["message"].startswith("ValueError: éé"))
        context = self.permanent("large_context")["context"]
        self.assertTrue(context["a"].startswith("xxx"))
        self.assertLess(len(str(context)), 256 * 1024)

    def test_errors_whose_own_methods_raise_are_told_by_their_class(self):
        for callable_name, message in [
            ("mute", "Mute: <Mute>"),
            ("exits", "Exits: Exits()"),
            ("endless", "Endless: Endless()"),
            ("no_text", "NoText: NoText()"),
            ("nameless", "Nameless: odd"),
        ]:
            failure = self.failure(callable_name)
            found = (failure["message"], failure["error_type"], failure["retryable"])
            self.assertEqual(found, (message, "handler_error", True))
        self.permanent("claims")
        self.permanent("props")

    def test_an_error_that_does_not_call_its_base_keeps_its_type_and_arguments(self):
        self.permanent("bare", "4242")
        failure = self.failure("bare_retryable")
        found = (failure["message"], failure["error_type"], failure["retryable"])
        self.assertEqual(found, ("BareRetryable", "retryable_error", True))

    def test_odd_arguments_of_errors_are_said_as_text(self):
        self.permanent("no_message", "PermanentError")
        self.assertEqual(self.permanent("none", "None")["error_code"], "7")
        failure = self.failure("unsure")
        found = (failure["message"], failure["error_type"], failure["retryable"], failure["error_code"])
        self.assertEqual(found, ("odd", "handler_error", True, "<unsure>"))
        self.assertEqual(self.failure("odd_arguments")["message"], "ValueError: (b'\\xff', nan, {1, 2})")

    def test_exits_and_exhaustion_are_failures_of_their_step(self):
        for callable_name, message in [
            ("keyboard", "KeyboardInterrupt"),
            ("generator_exit", "GeneratorExit"),
            ("memory", "MemoryError"),
            ("cancelled", "CancelledError"),
            ("system_exit", "the handler called sys.exit()"),
        ]:
            failure = self.failure(callable_name)
            found = (failure["message"], failure["error_type"], failure["retryable"])
            self.assertEqual(found, (message, "handler_error", True))
        failure = self.failure("recursion")
        self.assertTrue(failure["message"].startswith("RecursionError: maximum recursion depth exceeded"))
        self.assertIn("in recursion", failure["context"]["traceback"][-1])

    @unittest.skipIf(sys.version_info < (3, 11), "without exception groups")
    def test_a_group_tells_its_errors_and_is_permanent_if_one_of_them_is(self):
        failure = self.failure("group")
        self.assertEqual(failure["message"], "ExceptionGroup: two (2 sub-exceptions): ValueError: a; KeyError: 'b'")
        self.assertEqual(failure["context"]["exceptions"], ["ValueError: a", "KeyError: 'b'"])
        self.assertTrue(failure["retryable"])
        failure = self.permanent("group_of_permanent")
        self.assertEqual(failure["error_code"], "card")
        self.assertEqual(failure["context"]["exceptions"], ["ValueError: a", "declined"])

    def test_heartbeats_do_not_hide_the_failure_after_them(self):
        self.assertEqual(self.permanent("beats", "after beats")["context"], {"beaten": [True, True, True]})

    def test_the_limits_are_those_of_the_engine(self):
        limits = LIMITS.read_text()

        def limit(name):
            text = re.search(rf"pub const {name}: \w+ = ([0-9_* ]+);", limits)[1]
            product = 1
            for factor in text.split("*"):
                product *= int(factor)
            return product

        self.assertEqual(words.ERROR_CHARS, limit("ERROR_CHARS"))
        self.assertEqual(words.METADATA_BYTES, limit("METADATA_BYTES"))
        self.assertEqual(words.BACKOFF_SECONDS * 1000, limit("BACKOFF_MS"))


class Results(OddHandlers):
    def test_metadata_that_is_not_json_is_said_as_text_and_the_success_stays_one(self):
        for callable_name, metadata in [
            ("metadata_nan", {"ratio": "nan"}),
            ("metadata_decimal", {"price": 9.9, "at": "{1}"}),
            ("metadata_decimal_nan", ["sNaN", "Infinity"]),
            ("metadata_surrogate", {"file": "caf\ufffd"}),
            ("metadata_exact", {"id": 10**20}),
            ("metadata_text", "<unsure>"),
        ]:
            success = self.outcome(callable_name)["success"]
            self.assertEqual(success, {"result": {"a": 1}, "metadata": metadata})
        success = self.outcome("metadata_large")["success"]
        self.assertEqual(success["result"], {"a": 1})
        self.assertLess(len(success["metadata"]["text"]), 256 * 1024)

    def test_a_result_that_is_not_json_is_a_permanent_invalid_result(self):
        for callable_name, words_in_it in [
            ("nan_result", "Out of range float values"),
            ("checkpoint_nan", "Out of range float values"),
            ("checkpoint_items", "items_processed is -1"),
            ("locked", "Object of type lock is not JSON"),
            ("decimal_nan", "Object of type Decimal is not JSON"),
            ("decimal_infinity", "Object of type Decimal is not JSON"),
            ("set", "Object of type set is not JSON"),
            ("not_an_outcome", "'str' object has no attribute 'get'"),
            ("generator", "returned a generator"),
            ("async_generator", "returned a generator"),
        ]:
            failure = self.failure(callable_name)
            self.assertEqual((failure["error_type"], failure["retryable"]), ("invalid_result", False), callable_name)
            self.assertIn(words_in_it, failure["message"])

    def test_a_number_arrives_and_leaves_with_all_its_digits(self):
        exact = ["0.1234567890123456789012345", "1234567890123456789.5", "0.30000000000000004440892098500626", "1E-400"]
        exact += ["-1E+400", "4.9E-324", "123456789012345678901234567890", "9." + "9" * 900]
        floats = ["0.1", "9.90", "-0.0", "1e22", "0.30000000000000004", "5e-324", "1.0000000000000000000", "1.5e300"]
        sent = "[" + ",".join(exact + floats) + "]"

        def answer(callable_name):
            number = next(self.numbers)
            message = json.dumps({"id": number, "step": step(callable_name, context=["here"])})
            self.child.send_line(message.replace('["here"]', sent))
            return self.child.answers.readline()

        kinds = json.loads(answer("kinds"))["outcome"]["success"]["result"]["result"]
        self.assertEqual(kinds, ["Decimal"] * 6 + ["int", "Decimal"] + ["float"] * 8)
        back = "[" + ",".join(exact + [json.dumps(float(text)) for text in floats]) + "]"
        self.assertIn('"result":{"result":' + back + "}", answer("echo"))
        self.assertIn('"metadata":' + back + "}", answer("echo_metadata"))
        stored = answer("echo_checkpoint")
        self.assertIn('"cursor":' + back, stored)
        self.assertIn('"accumulated":' + back, stored)
        number = next(self.numbers)
        message = json.dumps({"id": number, "step": step("kinds", context=["here"])})
        self.child.send_line(message.replace('"here"', "1e" + "9" * 30))
        self.assertEqual(
            json.loads(self.child.answers.readline())["outcome"]["success"]["result"], {"result": ["float"]}
        )

    def test_a_result_that_raises_when_it_is_read_fails_by_that_error(self):
        failure = self.failure("undumpable")
        self.assertEqual((failure["message"], failure["error_type"]), ("ValueError: no dump", "handler_error"))

    def test_a_failure_with_odd_arguments_is_that_failure(self):
        failure = self.failure("odd_failure")
        said = {"message": "<Mute>", "error_type": "handler_error", "retryable": True, "error_code": "<Mute>"}
        self.assertEqual(failure, {**said, "context": {"metadata": "text"}})
        failure = self.failure("failure_with_metadata")
        said = {"message": "no", "error_type": "my_type", "retryable": False}
        self.assertEqual(failure, {**said, "context": {"at": "nan"}})

    def test_dataclasses_inside_of_dataclasses_are_objects(self):
        inner = {"inner": {"lock": None, "name": "n"}, "at": None}
        expected = {"inner": inner, "at": [{"inner": 1, "at": None}]}
        self.assertEqual(self.outcome("outer")["success"]["result"], expected)
        self.assertEqual(self.outcome("checkpoint_float")["checkpoint"]["items_processed"], 7)

    def test_a_result_that_another_thread_changes_is_sent_or_is_a_failure_that_says_so(self):
        outcome = self.outcome("changed")
        self.assertGreaterEqual(len(outcome["success"]["result"]), 49_999)
        failure = self.failure("always_changing")
        self.assertEqual((failure["error_type"], failure["retryable"]), ("invalid_result", True))
        self.assertIn("another thread changed", failure["message"])


class Contexts(OddHandlers):
    def test_a_step_sees_nothing_of_the_context_of_another_one(self):
        for _ in range(30):
            for callable_name in ("context_var", "async_context_var"):
                result = self.outcome(callable_name)["success"]["result"]
                self.assertEqual(result, {"seen": [None, "set at the import", 30], "own": "a_step"})


class AsyncHandlers(OddHandlers):
    def test_what_a_module_made_in_one_step_works_in_all_later_ones(self):
        numbers = [self.start("shared") for _ in range(40)]
        results = [outcome["success"]["result"] for outcome in self.outcomes(*numbers)]
        self.assertEqual({result["got"] for result in results}, {1})
        self.assertEqual(len({result["loop"] for result in results}), 1)

    def test_they_run_at_the_same_time(self):
        numbers = [self.start("meet"), self.start("meet")]
        self.assertEqual(self.outcomes(*numbers), [{"success": {"result": {"met": True}}}] * 2)

    def test_whatever_a_handler_raises_is_the_outcome_of_its_step_and_the_loop_goes_on(self):
        self.assertEqual(self.permanent("async_permanent")["error_code"], "card")
        for callable_name, message in [
            ("async_exit", "the handler called sys.exit(3)"),
            ("async_keyboard", "KeyboardInterrupt"),
            ("async_cancelled", "CancelledError"),
            ("async_mute", "Mute: <Mute>"),
        ]:
            failure = self.failure(callable_name)
            self.assertEqual((failure["message"], failure["retryable"]), (message, True))
        for callable_name in ("async_background_exit", "async_stops_the_loop"):
            self.assertEqual(self.outcome(callable_name)["success"]["result"], {"ended": True})
        self.outcome("shared")["success"]

    def test_an_error_whose_text_takes_for_ever_blocks_no_other_step(self):
        self.start("async_sleeping_text")
        for _ in range(3):
            self.outcome("shared")["success"]

    def test_every_kind_of_async_callable_is_awaited(self):
        for callable_name, kind in [
            ("async_object", "callable object"),
            ("async_partial", "partial"),
            ("async_lambda", "lambda"),
            ("awaitable", "awaitable object"),
            ("sync_from_async", "own loop"),
        ]:
            self.assertEqual(self.outcome(callable_name)["success"]["result"], {"kind": kind})

    def test_a_stop_cancels_a_handler_at_its_await_and_the_step_is_released(self):
        number = self.start("async_waits")
        self.assertEqual(self.child.receive(), {"id": number, "heartbeat": {}})
        self.child.stop(number)
        self.assertEqual(self.outcomes(number), [{"released": {}}])
        self.outcome("shared")["success"]

    def test_a_handler_that_catches_its_cancellation_answers_by_itself(self):
        for callable_name in ("async_listens", "async_raises_when_stopped"):
            number = self.start(callable_name)
            self.assertEqual(self.child.receive(), {"id": number, "heartbeat": {}})
            self.child.stop(number)
            [outcome] = self.outcomes(number)
            if "failure" in outcome:
                self.assertEqual(outcome["failure"]["message"], "Nameless: odd")
            else:
                self.assertEqual(outcome, {"success": {"result": {"stopped": True}}})


if __name__ == "__main__":
    unittest.main()
