"""Two ways to continue where the attempt before failed. The template is ``batch_resumption.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import (
    BatchConfig,
    BatchWorkerContext,
    RetryableError,
    StepContext,
    batch_analyzer,
    batch_worker,
    inputs,
)


@batch_analyzer("analyze_dataset", worker_template="process_range")
@inputs("dataset_size")
def analyze_dataset(dataset_size: int) -> BatchConfig:
    """Makes one batch of everything."""
    return BatchConfig(dataset_size, max(dataset_size, 1))


@batch_worker("process_range")
def process_range(batch_context: BatchWorkerContext, context: StepContext) -> Any:
    """Counts the items of its batch, and fails once on the way."""
    by_checkpoint = context.get_input("resume_by") == "checkpoint"
    start = position = start_of(batch_context, context)
    fails = context.retry_count + 1 == context.get_config("fail_on_attempt")
    while position < batch_context.end_cursor:
        if fails and position == context.get_config("fail_after_items"):
            # What the error gives as its context, the next attempt reads.
            raise RetryableError(
                f"the source is gone after {position} items",
                error_code="simulated_failure",
                context={"position": position},
            )
        position += 1
        if by_checkpoint and position % context.get_config("items_per_checkpoint") == 0:
            return context.checkpoint_yield(position, position - batch_context.start_cursor)
    return {
        "total_processed": position - batch_context.start_cursor,
        "failed_at": failed_at(context),
        "last_run_from": start,
        "attempts": context.retry_count + 1,
    }


def failed_at(context: StepContext) -> Any:
    """Where the attempt before said that it failed, or ``None`` in the first attempt."""
    failure = context.last_failure or {}
    return (failure.get("context") or {}).get("position")


def start_of(batch_context: BatchWorkerContext, context: StepContext) -> int:
    """Where to begin: at the last checkpoint, at the place of the failure, or at the beginning."""
    start: int = batch_context.start_cursor
    if batch_context.has_checkpoint():
        start = batch_context.checkpoint_cursor
    elif failed_at(context) is not None:
        start = failed_at(context)
    return start
