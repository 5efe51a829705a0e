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
    """Takes the items of its batch one by one, and fails once on the way."""
    by_checkpoint = context.get_input("resume_by") == "checkpoint"
    position = checkpoint_of(batch_context) if by_checkpoint else failed_at(context) or batch_context.start_cursor
    log, attempt = log_so_far(context), context.retry_count + 1
    log["began_at"].setdefault(str(attempt), position)
    while position < batch_context.end_cursor:
        if attempt == context.get_config("fail_on_attempt") and position == context.get_config("fail_after_items"):
            # What the error gives as its context, the next attempt reads.
            raise RetryableError(
                f"the source is gone after {position} items",
                error_code="simulated_failure",
                context={"position": position, "log": log},
            )
        log["items"].append(position)
        position += 1
        if by_checkpoint and position % context.get_config("items_per_checkpoint") == 0:
            return context.checkpoint(position, position - batch_context.start_cursor, log)
    return {"total_processed": position - batch_context.start_cursor, "failed_at": failed_at(context), **log}


def checkpoint_of(batch_context: BatchWorkerContext) -> int:
    """Where the last checkpoint is, or the beginning."""
    start: int = batch_context.checkpoint_cursor if batch_context.has_checkpoint() else batch_context.start_cursor
    return start


def failed_at(context: StepContext) -> Any:
    """Where the attempt before said that it failed, or ``None`` in the first attempt."""
    return said_by_failure(context).get("position")


def log_so_far(context: StepContext) -> dict[str, Any]:
    """Where each attempt began, and every item that was taken, as often as it was: in the checkpoint, or if that is of
    an earlier attempt, in the failure of that attempt, which knows the items after the checkpoint too."""
    stored = context.accumulated_results
    if stored and str(context.retry_count + 1) in stored["began_at"]:
        return dict(stored)
    return said_by_failure(context).get("log") or {"began_at": {}, "items": []}


def said_by_failure(context: StepContext) -> dict[str, Any]:
    """What the attempt before gave as the context of its failure."""
    return (context.last_failure or {}).get("context") or {}
