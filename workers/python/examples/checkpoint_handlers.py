"""A worker that yields after every few items, here as a class. The template is ``checkpoint_yield.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import (
    Batchable,
    BatchConfig,
    ErrorType,
    StepContext,
    StepHandler,
    StepHandlerResult,
    batch_analyzer,
    inputs,
)


@batch_analyzer("analyze_items", worker_template="sum_items")
@inputs("total_items")
def analyze_items(total_items: int) -> BatchConfig:
    """Makes one batch of all items."""
    return BatchConfig(total_items, max(total_items, 1))


class SumItems(StepHandler, Batchable):
    """Adds up the numbers from 1, some in each run."""

    handler_name = "sum_items"

    def call(self, context: StepContext) -> StepHandlerResult:
        """Continues at the checkpoint, and ends at the next one."""
        no_op = self.handle_no_op_worker(context)
        if no_op is not None:
            return no_op
        batch = self.get_batch_context(context)
        if batch is None:
            return self.failure("the step is no worker of a batch", ErrorType.VALIDATION_ERROR, retryable=False)
        each = context.get_input_or("items_per_checkpoint", context.get_config("items_per_checkpoint"))
        cursor = batch.checkpoint_cursor if batch.has_checkpoint() else batch.start_cursor
        done = batch.checkpoint_items_processed
        sums = batch.accumulated_results or nothing()
        sums["began_at"].setdefault(str(context.retry_count + 1), cursor)
        for item in range(cursor, batch.end_cursor):
            if self.must_fail(context, done):
                return self.injected_failure(context, done)
            sums["running_total"] += item + 1
            sums["items"].append(item)
            done += 1
            if done % each == 0 and item + 1 < batch.end_cursor:
                sums["checkpoints_used"] += 1
                return self.checkpoint_yield(item + 1, done, sums)
        return self.batch_worker_success(items_processed=done, last_cursor=batch.end_cursor, batch_metadata=sums)

    def must_fail(self, context: StepContext, done: int) -> bool:
        """Whether the task's context wants a failure here."""
        after = context.get_input("fail_after_items")
        attempt = context.get_input_or("fail_on_attempt", 1)
        return after is not None and done >= after and context.retry_count + 1 == attempt

    def injected_failure(self, context: StepContext, done: int) -> StepHandlerResult:
        """The failure that the task's context wants."""
        permanent = bool(context.get_input("permanent_failure"))
        kind = ErrorType.PERMANENT_ERROR if permanent else ErrorType.RETRYABLE_ERROR
        return self.failure(f"the work was told to fail after {done} items", kind, not permanent)


def nothing() -> dict[str, Any]:
    """What is added up before the first item: the sums, where each attempt began, and the items that are in the sum."""
    return {"running_total": 0, "checkpoints_used": 0, "began_at": {}, "items": []}


class AggregateItems(StepHandler, Batchable):
    """Says what the workers added up."""

    handler_name = "aggregate_items"

    def call(self, context: StepContext) -> StepHandlerResult:
        """Tells a batch without work from one with workers."""
        steps = ("analyze_items", "sum_items_")
        found = self.detect_aggregation_scenario(context.dependency_results, *steps, context.dependency_errors)
        zero = {"total_processed": 0, "running_total": 0, "checkpoints_used": 0}
        return self.aggregate_batch_worker_results(found, zero, self.added_up)

    def added_up(self, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The sums of all workers."""
        sums = [result["batch_metadata"] for result in results.values()]
        return {
            "total_processed": sum(result["items_processed"] for result in results.values()),
            "running_total": sum(each["running_total"] for each in sums),
            "checkpoints_used": sum(each["checkpoints_used"] for each in sums),
        }
