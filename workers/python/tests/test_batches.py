"""The outcomes of analyzers, workers and convergences of batches."""

import pathlib
import re
import unittest

from test_context import CURSOR
from test_decisions import called, fresh_name
from test_handlers import run_once, step

import tasker_worker
from tasker_worker import (
    Batchable,
    BatchAnalyzerOutcome,
    BatchConfig,
    CursorConfig,
    PermanentError,
    StepHandler,
    StepHandlerResult,
    batch_analyzer,
    batch_worker,
    depends_on,
)
from tasker_worker.batches import BATCHES
from tasker_worker.runner import outcome_of

LIMITS = pathlib.Path(__file__).parents[3] / "shared" / "wire" / "src" / "limits.rs"


def cursor(number, start, end, **further):
    """A cursor as it is sent."""
    return {"batch_id": number, "start_cursor": start, "end_cursor": end, "batch_size": end - start, **further}


def analyzed(function, **changes):
    """Registers a function as an analyzer under a fresh name and runs it once."""
    name = fresh_name()
    batch_analyzer(name, worker_template="process_batch")(function)
    return outcome_of(step(name, **changes))


def worked(function, **changes):
    """Registers a function as a worker under a fresh name and runs it once as the first of its batch."""
    name = fresh_name()
    batch_worker(name)(function)
    return outcome_of(step(name, **{"step_inputs": CURSOR, "step_name": "process_batch_001", **changes}))


class Handler(StepHandler, Batchable):
    """Any class of handlers."""


class Analyzers(unittest.TestCase):
    def test_items_are_divided_into_batches_whose_last_one_takes_what_is_left(self):
        outcome = analyzed(lambda: BatchConfig(total_items=250, batch_size=100, metadata={"path": "a.csv"}))
        cursors = [cursor("001", 0, 100), cursor("002", 100, 200), cursor("003", 200, 250)]
        expected = {
            "batch_processing_outcome": {
                "type": "create_batches",
                "worker_template_name": "process_batch",
                "worker_count": 3,
                "cursor_configs": cursors,
                "total_items": 250,
            },
            "worker_count": 3,
            "total_items": 250,
            "batch_metadata": {"path": "a.csv"},
        }
        self.assertEqual(outcome["success"]["result"], expected)

    def test_without_items_there_are_no_batches(self):
        outcome = analyzed(lambda: BatchConfig(0, 100, {"path": "a.csv"}))
        expected = {
            "batch_processing_outcome": {"type": "no_batches"},
            "reason": "empty_dataset",
            "path": "a.csv",
        }
        self.assertEqual(outcome["success"]["result"], expected)

    def test_an_analyzer_has_the_arguments_of_any_handler_and_may_be_async(self):
        @depends_on(parent="parent")
        async def analyze(parent, context):
            return BatchConfig(parent["total"], context.get_config("limit"))

        result = analyzed(analyze)["success"]["result"]
        self.assertEqual(result["batch_processing_outcome"]["cursor_configs"], [cursor("001", 0, 3)])
        self.assertEqual(analyzed(lambda: {"a": 1}), {"success": {"result": {"a": 1}}})
        failure = analyzed(lambda: StepHandlerResult.failure("no file"))["failure"]
        self.assertEqual(failure["message"], "no file")

    def test_batches_that_cannot_be_are_permanent_failures_that_say_what_can(self):
        for config, words in [
            (BatchConfig(10, 0), "batch_size is 0; it must be above 0"),
            (BatchConfig(10**12, 1), "more than 10000 batches; take at least 100000000 items a batch"),
            (BatchConfig(20_002, 2), "more than 10000 batches; take at least 3 items a batch"),
        ]:
            failure = analyzed(lambda config=config: config)["failure"]
            self.assertEqual((failure["retryable"], failure["error_code"]), (False, "invalid_batches"))
            self.assertIn(words, failure["message"])
        result = analyzed(lambda: BatchConfig(20_000, 2))["success"]["result"]
        self.assertEqual(result["worker_count"], 10_000)

    def test_the_limit_is_that_of_the_engine(self):
        text = re.search(r"pub const STEPS: usize = ([0-9_]+);", LIMITS.read_text())[1]
        self.assertEqual(BATCHES, int(text))

    def test_every_item_is_in_one_batch(self):
        for total in range(40):
            for size in range(1, 12):
                for most in (None, 1, 3, 7):
                    ranges = Handler().create_cursor_ranges(total, size, max_batches=most)
                    items = [item for part in ranges for item in range(part.start_cursor, part.end_cursor)]
                    self.assertEqual(items, list(range(total)), (total, size, most))
                    self.assertTrue(all(part.batch_size > 0 for part in ranges))
                    self.assertLessEqual(len(ranges), most or 40)
            for workers in range(1, 12):
                parts = Handler().create_cursor_configs(total, workers)
                items = [item for part in parts for item in range(part.cursor_start, part.cursor_end)]
                self.assertEqual(items, list(range(total)), (total, workers))
                self.assertLessEqual(len(parts), workers)

    def test_equal_parts_know_their_place(self):
        last = Handler().create_cursor_configs(1000, 3)[-1]
        expected = {"batch_id": "003", "cursor_start": 668, "cursor_end": 1000, "row_count": 332}
        self.assertEqual(last.to_dict(), {**expected, "worker_index": 2, "total_workers": 3})
        with self.assertRaisesRegex(PermanentError, "worker_count is 0"):
            Handler().create_cursor_configs(10, 0)

    def test_an_outcome_and_its_parts_give_the_same_result(self):
        handler = Handler()
        outcome = handler.create_batch_outcome(5, 3, batch_metadata={"a": 1})
        made = handler.batch_analyzer_success(outcome, {"took": 2}, "process_batch").outcome["success"]
        by_parts = handler.batch_analyzer_success(
            cursor_configs=handler.create_cursor_ranges(5, 3),
            total_items=5,
            worker_template_name="process_batch",
            batch_metadata={"a": 1},
            metadata={"took": 2},
        )
        self.assertEqual(made, by_parts.outcome["success"])
        self.assertEqual(made["metadata"], {"took": 2})
        cursors = made["result"]["batch_processing_outcome"]["cursor_configs"]
        self.assertEqual(cursors, [cursor("001", 0, 3), cursor("002", 3, 5)])
        parts = handler.batch_analyzer_success(cursor_configs=handler.create_cursor_configs(5, 2), total_items=5)
        outcome = parts.outcome["success"]["result"]["batch_processing_outcome"]
        self.assertEqual((outcome["worker_template_name"], outcome["cursor_configs"]), ("batch_worker", cursors))

    def test_ranges_of_one_s_own_may_overlap_and_need_not_be_numbers(self):
        outcome = Handler().create_batch_outcome_from_ranges([(0, 5), (3, 8)])
        self.assertEqual(outcome, BatchAnalyzerOutcome([CursorConfig(0, 5), CursorConfig(3, 8)], 10))
        days = Handler().create_cursor_config("2026-01-01", "2026-02-01", 7, {"zone": "UTC"})
        result = Handler().batch_analyzer_success(cursor_configs=[days], total_items=31).outcome["success"]["result"]
        sent = {"batch_id": "001", "start_cursor": "2026-01-01", "end_cursor": "2026-02-01", "batch_size": 0}
        self.assertEqual(
            result["batch_processing_outcome"]["cursor_configs"],
            [{**sent, "step_size": 7, "metadata": {"zone": "UTC"}}],
        )

    def test_no_cursors_mean_no_batches_with_the_reason_of_the_metadata(self):
        for result, reason in [
            (Handler().batch_analyzer_success(), "empty_dataset"),
            (Handler().batch_analyzer_success(BatchAnalyzerOutcome()), "empty_dataset"),
            (Handler().batch_analyzer_success(cursor_configs=[], batch_metadata={"reason": "no file"}), "no file"),
            (Handler().no_batches_outcome("no file"), "no file"),
        ]:
            expected = {"batch_processing_outcome": {"type": "no_batches"}, "reason": reason}
            self.assertEqual(result.outcome["success"]["result"], expected)


class Workers(unittest.TestCase):
    def test_a_worker_has_its_cursor_and_what_its_analyzer_said(self):
        seen = {}

        def work(batch_context):
            seen["batch"] = batch_context

        analyzer = analyzed(lambda: BatchConfig(25, 5, {"path": "a.csv"}))["success"]["result"]
        inputs = {**CURSOR, "cursor": cursor("002", 5, 10, step_size=2, metadata={"a": 1})}
        worked(work, step_inputs=inputs, step_name="process_batch_002", dependency_results={"analyze": analyzer})
        batch = seen["batch"]
        self.assertEqual((batch.batch_id, batch.start_cursor, batch.end_cursor), ("002", 5, 10))
        self.assertEqual((batch.batch_size, batch.step_size, batch.cursor_config.metadata), (5, 2, {"a": 1}))
        self.assertEqual((batch.batch_index, batch.total_batches, batch.is_no_op), (1, 5, False))
        settings = {"cursor_field": "id", "failure_strategy": "fail_fast"}
        self.assertEqual(batch.batch_metadata, {"path": "a.csv", **settings})
        self.assertFalse(batch.has_checkpoint())

    def test_a_worker_of_another_analyzer_does_not_get_its_metadata(self):
        analyzer = analyzed(lambda: BatchConfig(5, 5, {"path": "a.csv"}))["success"]["result"]
        results = {"analyze": analyzer, "text": "no_batches", "list": [], "other": {"batch_processing_outcome": "x"}}
        outcome = worked(
            lambda batch_context: [batch_context.batch_metadata.get("path"), batch_context.total_batches],
            step_name="other_worker_001",
            dependency_results=results,
        )
        self.assertEqual(outcome["success"]["result"], {"result": [None, 1]})

    def test_a_worker_continues_at_its_checkpoint(self):
        def work(batch_context, context):
            start = batch_context.checkpoint_cursor or batch_context.start_cursor
            total = batch_context.accumulated_results or 0
            if start + 2 < batch_context.end_cursor:
                done = batch_context.checkpoint_items_processed + 2
                return context.checkpoint_yield(start + 2, done, total + 2)
            return {"total": total + batch_context.end_cursor - start, "resumed": batch_context.has_checkpoint()}

        outcomes = [worked(work)]
        while "checkpoint" in outcomes[-1]:
            outcomes.append(worked(work, checkpoint=outcomes[-1]["checkpoint"]))
        expected = {"cursor": 4, "items_processed": 4, "accumulated": 4}
        self.assertEqual(outcomes[1], {"checkpoint": expected})
        self.assertEqual(outcomes[2], {"success": {"result": {"total": 5, "resumed": True}}})

    def test_the_checkpoint_of_a_batch_is_that_of_its_step(self):
        def work(batch_context):
            if not batch_context.checkpoint:
                return batch_context.checkpoint(3, 3, [1])
            return batch_context.checkpoint["accumulated_results"]

        first = worked(work)
        self.assertEqual(worked(work, checkpoint=first["checkpoint"])["success"]["result"], {"result": [1]})

    def test_a_class_that_is_only_batchable_stores_progress_too(self):
        expected = {"checkpoint": {"cursor": 5, "items_processed": 5, "accumulated": {"sum": 1}}}
        made = Batchable().checkpoint_yield(cursor=5, items_processed=5, accumulated_results={"sum": 1})
        self.assertEqual(made.outcome, expected)

    def test_counts_without_names_are_refused_with_the_name_that_they_need(self):
        for made in (Handler().batch_worker_success(5), Handler().batch_worker_success(5, 4, 1)):
            failure = made.outcome["failure"]
            self.assertEqual((failure["error_type"], failure["retryable"]), ("invalid_args", False))
            self.assertIn("takes an outcome first, and counts by name: items_processed=5", failure["message"])

    def test_a_step_that_is_no_worker_has_no_batch(self):
        for inputs in (None, {}, {"cursor": 5}, {"cursor": {}}, [1]):
            outcome = worked(lambda batch_context: [batch_context], step_inputs=inputs)
            self.assertEqual(outcome["success"]["result"], {"result": [None]})
        self.assertEqual(worked(lambda: {"a": 1}), {"success": {"result": {"a": 1}}})

    def test_ids_that_are_no_numbers_have_no_place(self):
        for batch_id, place in [("batch_000", 0), ("000", 0), ("010", 9), (3, 2)]:
            inputs = {"cursor": {**CURSOR["cursor"], "batch_id": batch_id}}
            outcome = worked(lambda batch_context: batch_context.batch_index, step_inputs=inputs)
            self.assertEqual(outcome["success"]["result"], {"result": place})

    def test_a_worker_without_work_says_so(self):
        class Work(Handler):
            handler_name = fresh_name()

            def call(self, context):
                no_op = self.handle_no_op_worker(context)
                if no_op:
                    return no_op
                inputs = self.get_batch_worker_inputs(context)
                return {"field": inputs.batch_metadata.cursor_field, "end": inputs.cursor.end_cursor}

        nothing = {"cursor": cursor("000", 0, 0), "batch_metadata": {}, "is_no_op": True}
        result = called(Work, step_inputs=nothing)["success"]["result"]
        expected = {"batch_id": "000", "no_op": True, "processed_count": 0, "message": "No batches to process"}
        self.assertEqual(result, expected)
        self.assertEqual(called(Work, step_inputs=CURSOR), {"success": {"result": {"field": "id", "end": 5}}})
        self.assertIsNone(Handler().handle_no_op_worker(tasker_worker.StepContext(step("any"))))

    def test_an_outcome_and_its_parts_give_the_same_result(self):
        handler = Handler()
        outcome = handler.create_worker_outcome(5, errors=[{"row": 1}], items_failed=1, last_cursor=5)
        made = handler.batch_worker_success(outcome).outcome["success"]["result"]
        expected = {
            "items_processed": 5,
            "items_succeeded": 5,
            "items_failed": 1,
            "items_skipped": 0,
            "errors": [{"row": 1}],
            "last_cursor": 5,
            "batch_metadata": {},
        }
        self.assertEqual(made, expected)
        parts = handler.batch_worker_success(items_processed=5, items_failed=1, errors=[{"row": 1}], last_cursor=5)
        self.assertEqual(parts.outcome["success"]["result"], expected)
        none = handler.batch_worker_success(items_processed=5, items_succeeded=0, results=[{"a": 1}])
        result = none.outcome["success"]["result"]
        self.assertEqual((result["items_succeeded"], result["results"]), (0, [{"a": 1}]))
        partial = handler.batch_worker_partial_failure(outcome, "one row is broken").outcome["success"]["result"]
        words = {"partial_failure": True, "partial_failure_message": "one row is broken"}
        self.assertEqual(partial, {**expected, **words})
        self.assertFalse(handler.batch_worker_success().outcome["failure"]["retryable"])

    def test_a_batch_can_be_made_for_a_test(self):
        batch = Handler().create_batch_context(CursorConfig(5, 10), 1, 3, {"a": 1})
        self.assertEqual((batch.batch_id, batch.start_cursor, batch.total_batches), ("002", 5, 3))
        self.assertFalse(batch.has_checkpoint())


class Convergences(unittest.TestCase):
    ANALYZER = {"batch_processing_outcome": {"type": "create_batches"}}
    WORKERS = {"work_001": {"items_processed": 3, "items_succeeded": 2}, "work_002": {"items_processed": 4}}

    def detect(self, analyzer, workers, *errors):
        return Handler().detect_aggregation_scenario({"analyze": analyzer, **workers}, "analyze", "work_", *errors)

    def test_the_results_of_workers_are_found_by_their_prefix(self):
        scenario = self.detect(self.ANALYZER, {**self.WORKERS, "other": {}})
        self.assertFalse(scenario.is_no_batches or scenario.no_batches())
        self.assertEqual((scenario.batch_results, scenario.worker_count), (self.WORKERS, 2))

    def test_a_worker_whose_failure_is_tolerated_does_not_count_and_is_named(self):
        workers = {**self.WORKERS, "work_003": None}
        scenario = self.detect(self.ANALYZER, workers)
        self.assertEqual((scenario.batch_results, scenario.worker_count), (self.WORKERS, 2))
        self.assertEqual(scenario.failed_workers, {"work_003": {}})
        errors = {"work_003": {"message": "no file"}, "other": {"message": "no"}}
        scenario = self.detect(self.ANALYZER, workers, errors)
        self.assertEqual((scenario.worker_count, scenario.failed_workers), (2, {"work_003": {"message": "no file"}}))
        result = Handler().aggregate_batch_worker_results(scenario).outcome["success"]["result"]
        failed = {"failed_worker_count": 1, "failed_workers": {"work_003": {"message": "no file"}}}
        counts = {"worker_count": 2, "scenario": "with_batches"}
        self.assertEqual(result, {"batch_results": self.WORKERS, **counts, **failed})

    def test_a_worker_that_returned_nothing_is_told_from_one_that_failed(self):
        workers = {"work_001": None, "work_002": 7}
        scenario = self.detect(self.ANALYZER, workers, {})
        self.assertEqual((scenario.batch_results, scenario.failed_workers), ({"work_001": {}, "work_002": {}}, {}))
        self.assertEqual(scenario.worker_count, 2)

    def test_nothing_is_aggregated_of_workers_that_all_failed(self):
        workers = {"work_001": None, "work_002": None}
        for errors in (None, {name: {"message": "no file"} for name in workers}):
            failure = run_once(lambda errors=errors: self.detect(self.ANALYZER, workers, errors))["failure"]
            self.assertEqual((failure["error_code"], failure["retryable"]), ("no_batch_results", False))
            self.assertIn("no worker of 'analyze' succeeded, and 2 failed", failure["message"])
            self.assertEqual(failure["context"]["failed_workers"], errors or {"work_001": {}, "work_002": {}})

    def test_a_worker_without_work_does_not_count(self):
        no_op = {"work_000": {"no_op": True}}
        for analyzer, workers in [
            ({"batch_processing_outcome": {"type": "no_batches"}}, {"work_000": {"any": 1}}),
            ({"batch_processing_outcome": "no_batches"}, {}),
            ({}, no_op),
        ]:
            scenario = self.detect(analyzer, workers)
            self.assertTrue(scenario.is_no_batches)
            self.assertEqual((scenario.batch_results, scenario.worker_count), ({}, 0))

    def test_neither_workers_nor_a_word_of_it_is_a_permanent_failure(self):
        for results, words in [({}, "gave no result"), ({"analyze": self.ANALYZER}, "begins with 'work_'")]:
            failure = run_once(
                lambda results=results: Handler().detect_aggregation_scenario(results, "analyze", "work_")
            )["failure"]
            self.assertFalse(failure["retryable"])
            self.assertIn(words, failure["message"])

    def test_results_are_aggregated_by_a_function_or_are_zero(self):
        def total(results):
            return {"total": sum(result["items_processed"] for result in results.values())}

        handler, some = Handler(), self.detect(self.ANALYZER, self.WORKERS)
        result = handler.aggregate_batch_worker_results(some, {"total": 0}, total).outcome["success"]["result"]
        self.assertEqual(result, {"total": 7, "worker_count": 2, "scenario": "with_batches"})
        result = handler.aggregate_batch_worker_results(some).outcome["success"]["result"]
        self.assertEqual(result["batch_results"], self.WORKERS)
        none = self.detect({"batch_processing_outcome": {"type": "no_batches"}}, {})
        result = handler.aggregate_batch_worker_results(none, {"total": 0}, total).outcome["success"]["result"]
        self.assertEqual(result, {"total": 0, "worker_count": 0, "scenario": "no_batches"})

    def test_the_counts_of_workers_are_added_up(self):
        results = [*self.WORKERS.values(), None, {"items_failed": 1, "items_skipped": 2, "errors": [{"a": 1}] * 101}]
        total = Handler.aggregate_worker_results(results)
        self.assertEqual(len(total.pop("errors")), 100)
        expected = {"total_processed": 7, "total_succeeded": 2, "total_failed": 1, "total_skipped": 2}
        counts = {"batch_count": 4, "failed_batch_count": 1}
        self.assertEqual(total, {**expected, **counts, "success_rate": 2 / 7, "error_count": 101})
        self.assertEqual(Handler.aggregate_worker_results([])["success_rate"], 0.0)


class Names(unittest.TestCase):
    def test_every_name_of_the_package_is_there(self):
        for name in tasker_worker.__all__:
            self.assertTrue(hasattr(tasker_worker, name), name)
        self.assertLessEqual(set(tasker_worker._LATER), set(tasker_worker.__all__))
        self.assertFalse(hasattr(tasker_worker, "nothing"))


if __name__ == "__main__":
    unittest.main()
