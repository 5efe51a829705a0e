"""A batch that may have no work. The template is ``large_dataset.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import Batchable, PermanentError, StepContext, StepHandler, StepHandlerResult, inputs, step_handler


class SplitDataset(StepHandler, Batchable):
    """Makes no more workers than the template allows, and none for a small data set."""

    handler_name = "split_dataset"

    def call(self, context: StepContext) -> StepHandlerResult:
        """Divides the items."""
        size, batch_size = context.get_input("dataset_size"), context.get_config("batch_size")
        if size < batch_size:
            return self.no_batches_outcome("dataset_too_small", {"dataset_size": size})
        workers = min(-(-size // batch_size), context.get_config("max_workers"))
        cursors = self.create_cursor_configs(size, workers)
        return self.batch_analyzer_success(cursor_configs=cursors, worker_template_name="count_batch", total_items=size)


class CountBatch(StepHandler, Batchable):
    """Counts the items of its cursor."""

    handler_name = "count_batch"

    def call(self, context: StepContext) -> StepHandlerResult:
        """Counts, unless it stands for a batch without work."""
        no_op = self.handle_no_op_worker(context)
        if no_op is not None:
            return no_op
        batch = self.get_batch_context(context)
        return self.success({"processed_count": batch.batch_size if batch else 0})


@step_handler("add_up_counts")
@inputs("dataset_size")
def add_up_counts(dataset_size: int, context: StepContext) -> dict[str, Any]:
    """Fails if an item was lost or counted twice. A small data set is counted here."""
    workers = [each for each in context.get_all_dependency_results("count_batch_") if not each.get("no_op")]
    total = sum(each["processed_count"] for each in workers) if workers else dataset_size
    if total != dataset_size:
        raise PermanentError(f"the workers counted {total} of {dataset_size} items", error_code="items_lost")
    return {"total_processed": total, "worker_count": len(workers)}
