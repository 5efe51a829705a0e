"""The parts of batches for handlers that are classes."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

from .batches import (
    BatchAnalyzerOutcome,
    BatchWorkerContext,
    BatchWorkerInputs,
    BatchWorkerOutcome,
    CursorConfig,
    batches_result,
    cursor_ranges,
    no_batches_result,
)
from .context import StepContext
from .errors import PermanentError
from .results import StepHandlerResult

#: Errors of workers, and failed workers, that an aggregated result lists.
MOST_ERRORS = 100


@dataclasses.dataclass(frozen=True)
class BatchWorkerConfig:
    """The part of one of several workers that share the work evenly."""

    batch_id: str
    cursor_start: int
    #: Exclusive.
    cursor_end: int
    row_count: int
    #: From 0.
    worker_index: int
    total_workers: int

    def to_dict(self) -> dict[str, Any]:
        """The parts by name."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class BatchAggregationScenario:
    """What a convergence finds: results of workers, and which of them failed, or that its analyzer found no work."""

    is_no_batches: bool
    #: The result of the analyzer.
    batchable_result: dict[str, Any]
    #: By the name of the worker's step. Empty for a worker that returned no object.
    batch_results: dict[str, dict[str, Any]]
    #: The number of workers in ``batch_results``.
    worker_count: int
    #: By the name of the worker's step, the failures that are tolerated: none of these workers is in ``batch_results``.
    #: They are empty if :meth:`detect` was not given the failures, and knew them by their null results.
    failed_workers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def detect(
        cls,
        dependency_results: dict[str, Any],
        batchable_step_name: str,
        batch_worker_prefix: str,
        dependency_errors: dict[str, dict[str, Any]] | None = None,
    ) -> BatchAggregationScenario:
        """Looks for the result of ``batchable_step_name`` and those of steps whose names begin with the prefix. It is a
        permanent failure if there are neither workers nor a result that says so, or if all workers failed. Without
        ``dependency_errors`` (those of the context) each worker without a result counts as failed."""
        analyzed = dependency_results.get(batchable_step_name)
        if analyzed is None:
            raise PermanentError(f"the step {batchable_step_name!r} gave no result", error_code="no_batchable_result")
        analyzed = analyzed if isinstance(analyzed, dict) else {}
        found = {name: dependency_results[name] for name in sorted(dependency_results)}
        workers = {name: result for name, result in found.items() if name.startswith(batch_worker_prefix)}
        if dependency_errors is None:
            failed: dict[str, dict[str, Any]] = {name: {} for name, result in workers.items() if result is None}
        else:
            failed = {name: dependency_errors[name] for name in workers if name in dependency_errors}
        done = {
            name: result if isinstance(result, dict) else {} for name, result in workers.items() if name not in failed
        }
        if says_no_batches(analyzed) or (done and not failed and all(result.get("no_op") for result in done.values())):
            return cls(True, analyzed, {}, 0)
        if not workers:
            problem = f"no step before this one begins with {batch_worker_prefix!r}"
            raise PermanentError(f"{problem}, and {batchable_step_name!r} did not say that there are no batches")
        if not done:
            problem = f"no worker of {batchable_step_name!r} succeeded, and {len(failed)} failed"
            raise PermanentError(problem, error_code="no_batch_results", context=failures_of(failed))
        return cls(False, analyzed, done, len(done), failed)

    def no_batches(self) -> bool:
        """Whether the analyzer found no work."""
        return self.is_no_batches


def failures_of(failed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The failures of workers as an aggregated result has them. Without any, nothing."""
    names = list(failed)[:MOST_ERRORS]
    return (
        {"failed_worker_count": len(failed), "failed_workers": {name: failed[name] for name in names}} if failed else {}
    )


def says_no_batches(result: dict[str, Any]) -> bool:
    """Whether the result of an analyzer says that there is no work."""
    outcome = result.get("batch_processing_outcome")
    return (outcome.get("type") if isinstance(outcome, dict) else outcome) == "no_batches"


class Batchable:
    """The cursors, contexts and results of batches, for classes of handlers."""

    def create_cursor_config(
        self, start: Any, end: Any, step_size: int = 1, metadata: dict[str, Any] | None = None
    ) -> CursorConfig:
        """A range of work, ``end`` exclusive."""
        return CursorConfig(start, end, step_size, metadata or {})

    def create_cursor_ranges(
        self, total_items: int, batch_size: int, step_size: int = 1, max_batches: int | None = None
    ) -> list[CursorConfig]:
        """Ranges of ``batch_size`` items, the last one of what is left. With ``max_batches`` there are no more than
        these, of more items if need be."""
        return cursor_ranges(total_items, batch_size, step_size, max_batches)

    def create_cursor_configs(self, total_items: int, worker_count: int) -> list[BatchWorkerConfig]:
        """Equal parts for ``worker_count`` workers, the last one smaller. Workers without an item are left out."""
        if worker_count <= 0:
            problem = f"worker_count is {worker_count}; it must be above 0"
            raise PermanentError(problem, error_code="invalid_batches")
        ranges = cursor_ranges(total_items, 1, max_batches=worker_count)
        return [
            BatchWorkerConfig(f"{i + 1:03d}", part.start_cursor, part.end_cursor, part.batch_size, i, worker_count)
            for i, part in enumerate(ranges)
        ]

    def create_batch_outcome(
        self, total_items: int, batch_size: int, step_size: int = 1, batch_metadata: dict[str, Any] | None = None
    ) -> BatchAnalyzerOutcome:
        """The ranges of :meth:`create_cursor_ranges` as an outcome."""
        ranges = self.create_cursor_ranges(total_items, batch_size, step_size)
        return BatchAnalyzerOutcome(ranges, total_items, batch_metadata or {})

    def create_batch_outcome_from_ranges(
        self,
        ranges: list[tuple[int, int]],
        step_size: int = 1,
        total_items: int | None = None,
        batch_metadata: dict[str, Any] | None = None,
    ) -> BatchAnalyzerOutcome:
        """Ranges of the handler's own as an outcome, ends exclusive."""
        return BatchAnalyzerOutcome.from_ranges(ranges, step_size, total_items, batch_metadata)

    def batch_analyzer_success(
        self,
        outcome: BatchAnalyzerOutcome | None = None,
        metadata: dict[str, Any] | None = None,
        worker_template_name: str = "batch_worker",
        cursor_configs: list[CursorConfig] | list[BatchWorkerConfig] | None = None,
        total_items: int | None = None,
        batch_metadata: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """The result of an analyzer, of an outcome or of its parts. Without cursors it says that there is no work."""
        if cursor_configs is not None:
            cursors = [cursor_of(cursor) for cursor in cursor_configs]
            outcome = BatchAnalyzerOutcome(cursors, total_items, batch_metadata or {})
        if outcome is None or not outcome.cursor_configs:
            details = {} if outcome is None else outcome.batch_metadata
            return self.no_batches_outcome(details.get("reason", "empty_dataset"), details)
        return StepHandlerResult.success(batches_result(worker_template_name, outcome), metadata)

    def no_batches_outcome(self, reason: str, metadata: dict[str, Any] | None = None) -> StepHandlerResult:
        """The result of an analyzer that found no work. ``metadata`` are further keys of it."""
        return StepHandlerResult.success(no_batches_result(reason, metadata))

    def get_batch_context(self, context: StepContext) -> BatchWorkerContext | None:
        """The batch of a step that is a worker, else ``None``."""
        return BatchWorkerContext.from_step_context(context)

    def create_batch_context(
        self,
        cursor_config: CursorConfig,
        batch_index: int,
        total_batches: int,
        batch_metadata: dict[str, Any] | None = None,
    ) -> BatchWorkerContext:
        """A batch made by hand, such as for a test."""
        return BatchWorkerContext(
            f"{batch_index + 1:03d}", cursor_config, batch_index, total_batches, batch_metadata or {}
        )

    def get_batch_worker_inputs(self, context: StepContext) -> BatchWorkerInputs | None:
        """The own inputs of a step that is a worker, else ``None``."""
        return BatchWorkerInputs.from_step_context(context)

    def handle_no_op_worker(self, context: StepContext) -> StepHandlerResult | None:
        """The result of a worker that stands for a batch without work, else ``None``."""
        inputs = self.get_batch_worker_inputs(context)
        if inputs is None or not inputs.is_no_op:
            return None
        result = {"batch_id": inputs.cursor.batch_id, "no_op": True, "processed_count": 0}
        return StepHandlerResult.success({**result, "message": "No batches to process"})

    def create_worker_outcome(
        self,
        items_processed: int,
        items_succeeded: int | None = None,
        items_failed: int = 0,
        items_skipped: int = 0,
        results: list[dict[str, Any]] | None = None,
        errors: list[dict[str, Any]] | None = None,
        last_cursor: Any = None,
        batch_metadata: dict[str, Any] | None = None,
    ) -> BatchWorkerOutcome:
        """What a worker did. By default all items succeeded."""
        succeeded = items_processed if items_succeeded is None else items_succeeded
        return BatchWorkerOutcome(
            items_processed,
            succeeded,
            items_failed,
            items_skipped,
            results or [],
            errors or [],
            last_cursor,
            batch_metadata or {},
        )

    def batch_worker_success(
        self,
        outcome: BatchWorkerOutcome | None = None,
        metadata: dict[str, Any] | None = None,
        items_processed: int | None = None,
        items_succeeded: int | None = None,
        items_failed: int = 0,
        items_skipped: int = 0,
        results: list[dict[str, Any]] | None = None,
        errors: list[dict[str, Any]] | None = None,
        last_cursor: Any = None,
        batch_metadata: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """The result of a worker, of an outcome or of its parts by name."""
        if outcome is not None and not isinstance(outcome, BatchWorkerOutcome):
            problem = f"batch_worker_success() takes an outcome first, and counts by name: items_processed={outcome!r}"
            return StepHandlerResult.failure(problem, "invalid_args", False)
        if items_processed is not None:
            counts = (items_processed, items_succeeded, items_failed, items_skipped)
            outcome = self.create_worker_outcome(*counts, results, errors, last_cursor, batch_metadata)
        if outcome is None:
            problem = "batch_worker_success() takes an outcome or items_processed"
            return StepHandlerResult.failure(problem, "invalid_args", False)
        return StepHandlerResult.success(outcome.to_result(), metadata)

    def checkpoint_yield(self, cursor: Any, items_processed: int, accumulated_results: Any = None) -> StepHandlerResult:
        """Stores progress and ends this run; see :meth:`StepContext.checkpoint_yield`."""
        return StepHandlerResult.checkpoint(cursor, items_processed, accumulated_results)

    def batch_worker_partial_failure(
        self, outcome: BatchWorkerOutcome, message: str | None = None, metadata: dict[str, Any] | None = None
    ) -> StepHandlerResult:
        """The result of a worker that succeeded although some of its items failed."""
        result = {**outcome.to_result(), "partial_failure": True}
        if message:
            result["partial_failure_message"] = message
        return StepHandlerResult.success(result, metadata)

    def detect_aggregation_scenario(
        self,
        dependency_results: dict[str, Any],
        batchable_step_name: str,
        batch_worker_prefix: str,
        dependency_errors: dict[str, dict[str, Any]] | None = None,
    ) -> BatchAggregationScenario:
        """What a convergence finds; see :meth:`BatchAggregationScenario.detect`."""
        return BatchAggregationScenario.detect(
            dependency_results, batchable_step_name, batch_worker_prefix, dependency_errors
        )

    def no_batches_aggregation_result(self, zero_metrics: dict[str, Any] | None = None) -> StepHandlerResult:
        """The result of a convergence without workers."""
        return StepHandlerResult.success({"worker_count": 0, "scenario": "no_batches", **(zero_metrics or {})})

    def aggregate_batch_worker_results(
        self,
        scenario: BatchAggregationScenario,
        zero_metrics: dict[str, Any] | None = None,
        aggregation_fn: Callable[[dict[str, dict[str, Any]]], dict[str, Any]] | None = None,
    ) -> StepHandlerResult:
        """The result of a convergence: what ``aggregation_fn`` makes of the workers' results by name, or
        ``zero_metrics`` without workers. It also says which workers failed, if any did."""
        if scenario.is_no_batches:
            return self.no_batches_aggregation_result(zero_metrics)
        results = scenario.batch_results
        aggregated = {"batch_results": results} if aggregation_fn is None else aggregation_fn(results)
        counts = {"worker_count": scenario.worker_count, "scenario": "with_batches"}
        return StepHandlerResult.success({**aggregated, **counts, **failures_of(scenario.failed_workers)})

    @staticmethod
    def aggregate_worker_results(worker_results: list[dict[str, Any] | None]) -> dict[str, Any]:
        """The sums of several results of :meth:`batch_worker_success`, where ``None`` is a batch that failed."""
        results = [result for result in worker_results if result is not None]

        def total(key: str) -> int:
            return sum(result.get(key, 0) for result in results)

        errors = [error for result in results for error in result.get("errors") or ()]
        processed, succeeded = total("items_processed"), total("items_succeeded")
        return {
            "total_processed": processed,
            "total_succeeded": succeeded,
            "total_failed": total("items_failed"),
            "total_skipped": total("items_skipped"),
            "batch_count": len(worker_results),
            "failed_batch_count": len(worker_results) - len(results),
            "success_rate": succeeded / processed if processed > 0 else 0.0,
            "errors": errors[:MOST_ERRORS],
            "error_count": len(errors),
        }


def cursor_of(cursor: CursorConfig | BatchWorkerConfig) -> CursorConfig:
    """A cursor, also of a worker's part."""
    return CursorConfig(cursor.cursor_start, cursor.cursor_end) if isinstance(cursor, BatchWorkerConfig) else cursor
