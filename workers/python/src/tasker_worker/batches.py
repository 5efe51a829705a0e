"""Batches: a step that divides work into cursors, and the workers that are made of them.

An analyzer is the handler of a ``batchable`` step. For each cursor that it returns, the engine makes a step of the
template's ``batch_worker``, whose own inputs are that cursor.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Callable

from .context import Checkpoint, StepContext
from .errors import PermanentError
from .functions import registered
from .registry import Function
from .results import StepHandlerResult

#: Batches of one step. As in ``shared/wire/src/limits.rs``.
BATCHES = 10_000


class FailureStrategy(str, enum.Enum):
    """What a failed worker means for its batch, as in ``batch_config`` of the template."""

    CONTINUE_ON_FAILURE = "continue_on_failure"
    FAIL_FAST = "fail_fast"
    ISOLATE = "isolate"


@dataclasses.dataclass(frozen=True)
class CursorConfig:
    """A range of work. Positions are numbers, unless the handlers agree on something else."""

    start_cursor: Any
    #: Exclusive.
    end_cursor: Any
    step_size: int = 1
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """The number of items, or 0 if the positions are no numbers."""
        is_range = isinstance(self.start_cursor, int) and isinstance(self.end_cursor, int)
        return self.end_cursor - self.start_cursor if is_range else 0


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """What a function decorated with ``@batch_analyzer`` returns: how many items there are, and how many in a batch.

    Steps after the analyzer find ``metadata`` in its result, as ``batch_metadata``.
    """

    total_items: int
    batch_size: int
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BatchAnalyzerOutcome:
    """The cursors of a batch, from which ``Batchable.batch_analyzer_success`` makes the result of an analyzer."""

    cursor_configs: list[CursorConfig] = dataclasses.field(default_factory=list)
    total_items: int | None = None
    batch_metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_ranges(
        cls,
        ranges: list[tuple[int, int]],
        step_size: int = 1,
        total_items: int | None = None,
        batch_metadata: dict[str, Any] | None = None,
    ) -> BatchAnalyzerOutcome:
        """A batch for each ``(start, end)``. By default ``total_items`` is the sum of their sizes."""
        cursors = [CursorConfig(start, end, step_size) for start, end in ranges]
        total = sum(cursor.batch_size for cursor in cursors) if total_items is None else total_items
        return cls(cursors, total, batch_metadata or {})


@dataclasses.dataclass(frozen=True)
class BatchWorkerOutcome:
    """What a worker did, from which ``Batchable.batch_worker_success`` makes its result."""

    items_processed: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    items_skipped: int = 0
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    errors: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    last_cursor: Any = None
    batch_metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_result(self) -> dict[str, Any]:
        """The result of the worker's step. ``results`` and ``errors`` are left out if they are empty."""
        return {key: value for key, value in vars(self).items() if value or key not in ("results", "errors")}


@dataclasses.dataclass(frozen=True)
class BatchCursor:
    """The cursor of a worker, as the engine gives it."""

    batch_id: str
    start_cursor: Any
    #: Exclusive.
    end_cursor: Any
    batch_size: int
    step_size: int = 1
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BatchMetadata:
    """Settings of ``batch_config`` in the template."""

    cursor_field: str | None
    failure_strategy: str | None


@dataclasses.dataclass(frozen=True)
class BatchWorkerInputs:
    """The own inputs of a worker."""

    cursor: BatchCursor
    batch_metadata: BatchMetadata
    #: Whether the worker stands for a batch without work, because its analyzer found none.
    is_no_op: bool

    @classmethod
    def from_step_context(cls, context: StepContext) -> BatchWorkerInputs | None:
        """The inputs of a step that is a worker, else ``None``."""
        inputs = context.step_inputs
        cursor = inputs.get("cursor") if isinstance(inputs, dict) else None
        if not isinstance(cursor, dict) or "batch_id" not in cursor:
            return None
        known = {field.name: cursor[field.name] for field in dataclasses.fields(BatchCursor) if field.name in cursor}
        settings = inputs.get("batch_metadata") or {}
        metadata = BatchMetadata(settings.get("cursor_field"), settings.get("failure_strategy"))
        no_range = {"start_cursor": None, "end_cursor": None, "batch_size": 0}
        own = BatchCursor(**{**no_range, **known, "batch_id": str(cursor["batch_id"])})
        return cls(own, metadata, bool(inputs.get("is_no_op")))


@dataclasses.dataclass(frozen=True)
class BatchWorkerContext:
    """The batch of a worker: its cursor, what its analyzer said, and the worker's last checkpoint."""

    batch_id: str
    cursor_config: CursorConfig
    #: From 0, if batches are numbered from ``001`` as they are here; else 0.
    batch_index: int = 0
    #: As the analyzer's result says; 1 if that is not known.
    total_batches: int = 1
    #: The analyzer's ``batch_metadata``, and of the template ``cursor_field`` and ``failure_strategy``.
    batch_metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: As :attr:`StepContext.checkpoint`.
    checkpoint: dict[str, Any] = dataclasses.field(default_factory=Checkpoint)
    #: Whether the worker stands for a batch without work, because its analyzer found none.
    is_no_op: bool = False

    @classmethod
    def from_step_context(cls, context: StepContext) -> BatchWorkerContext | None:
        """The batch of a step that is a worker, else ``None``."""
        inputs = BatchWorkerInputs.from_step_context(context)
        if inputs is None:
            return None
        cursor = inputs.cursor
        analyzed = analyzer_result(context, cursor.batch_id)
        return cls(
            cursor.batch_id,
            CursorConfig(cursor.start_cursor, cursor.end_cursor, cursor.step_size, cursor.metadata),
            max(int(cursor.batch_id) - 1, 0) if cursor.batch_id.isdecimal() else 0,
            analyzed.get("worker_count") or 1,
            {**(analyzed.get("batch_metadata") or {}), **dataclasses.asdict(inputs.batch_metadata)},
            context.checkpoint,
            inputs.is_no_op,
        )

    @property
    def start_cursor(self) -> Any:
        """Where the batch begins."""
        return self.cursor_config.start_cursor

    @property
    def end_cursor(self) -> Any:
        """Where the batch ends, exclusive."""
        return self.cursor_config.end_cursor

    @property
    def step_size(self) -> int:
        """How many items the handler should take at a time; 1 unless the analyzer said otherwise."""
        return self.cursor_config.step_size

    @property
    def batch_size(self) -> int:
        """The number of items, or 0 if the positions are no numbers."""
        return self.cursor_config.batch_size

    def has_checkpoint(self) -> bool:
        """Whether the worker stored a checkpoint to continue from."""
        return bool(self.checkpoint)

    @property
    def checkpoint_cursor(self) -> Any:
        """The cursor of the last checkpoint, or ``None``."""
        return self.checkpoint.get("cursor")

    @property
    def checkpoint_items_processed(self) -> int:
        """The number of processed items at the last checkpoint, or 0."""
        processed: int = self.checkpoint.get("items_processed", 0)
        return processed

    @property
    def accumulated_results(self) -> Any:
        """The accumulated results at the last checkpoint, or ``None``."""
        return self.checkpoint.get("accumulated_results")


def analyzer_result(context: StepContext, batch_id: str) -> dict[str, Any]:
    """The result of the analyzer that made the worker ``batch_id`` whose context this is, or nothing."""
    for result in context.dependency_results.values():
        outcome = result.get("batch_processing_outcome") if isinstance(result, dict) else None
        template = outcome.get("worker_template_name") if isinstance(outcome, dict) else None
        if template is not None and context.step_name == f"{template}_{batch_id}":
            return dict(result)
    return {}


def cursor_ranges(
    total_items: int, batch_size: int, step_size: int = 1, max_batches: int | None = None
) -> list[CursorConfig]:
    """Cursors of ``batch_size`` items, the last one of what is left. With ``max_batches``, of more items if need be."""
    if total_items <= 0:
        return []
    if batch_size <= 0:
        raise PermanentError(f"batch_size is {batch_size}; it must be above 0", error_code="invalid_batches")
    if max_batches:
        batch_size = max(batch_size, -(-total_items // max_batches))
    if -(-total_items // batch_size) > BATCHES:
        least = -(-total_items // BATCHES)
        problem = f"{total_items} items in batches of {batch_size} are more than {BATCHES} batches"
        raise PermanentError(f"{problem}; take at least {least} items a batch", error_code="invalid_batches")
    starts = range(0, total_items, batch_size)
    return [CursorConfig(start, min(start + batch_size, total_items), step_size) for start in starts]


def batches_result(worker_template: str, outcome: BatchAnalyzerOutcome) -> dict[str, Any]:
    """The result of an analyzer, of which the engine reads ``batch_processing_outcome`` alone."""
    cursors = [sent_cursor(number, cursor) for number, cursor in enumerate(outcome.cursor_configs, 1)]
    total = outcome.total_items or 0
    made = {
        "type": "create_batches",
        "worker_template_name": worker_template,
        "worker_count": len(cursors),
        "cursor_configs": cursors,
        "total_items": total,
    }
    result = {"batch_processing_outcome": made, "worker_count": len(cursors), "total_items": total}
    return {**result, "batch_metadata": outcome.batch_metadata} if outcome.batch_metadata else result


def sent_cursor(number: int, cursor: CursorConfig) -> dict[str, Any]:
    """A cursor as the engine reads it."""
    sent: dict[str, Any] = {
        "batch_id": f"{number:03d}",
        "start_cursor": cursor.start_cursor,
        "end_cursor": cursor.end_cursor,
        "batch_size": cursor.batch_size,
    }
    if cursor.step_size != 1:
        sent["step_size"] = cursor.step_size
    return {**sent, "metadata": cursor.metadata} if cursor.metadata else sent


def no_batches_result(reason: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of an analyzer that found no work. ``metadata`` are further keys of it."""
    return {**(metadata or {}), "batch_processing_outcome": {"type": "no_batches"}, "reason": reason}


def batch_analyzer(name: str, worker_template: str, version: str = "1.0.0") -> Callable[[Function], Function]:
    """Registers a function that returns a :class:`BatchConfig`, under the name that templates use. Without items there
    are no batches. ``worker_template`` is the name of the template's ``batch_worker`` step."""

    def analyzed(value: Any) -> Any:
        if not isinstance(value, BatchConfig):
            return value
        cursors = cursor_ranges(value.total_items, value.batch_size)
        if not cursors:
            return StepHandlerResult.success(no_batches_result("empty_dataset", value.metadata))
        outcome = BatchAnalyzerOutcome(cursors, value.total_items, value.metadata)
        return StepHandlerResult.success(batches_result(worker_template, outcome))

    return registered(name, version, convert=analyzed)


def batch_worker(name: str, version: str = "1.0.0") -> Callable[[Function], Function]:
    """Registers a function that works on one batch, which it may take as ``batch_context``: a
    :class:`BatchWorkerContext`, or ``None`` if the step is no worker."""
    return registered(name, version, further={"batch_context": BatchWorkerContext.from_step_context})
