"""The inputs and outcomes of handlers."""

from tasker_worker import (
    BatchAnalyzerOutcome,
    BatchWorkerContext,
    BatchWorkerOutcome,
    CursorConfig,
    DecisionPointOutcome,
    DecisionType,
    ErrorType,
    FailureStrategy,
    StepContext,
    StepHandlerResult,
)
from tasker_worker.batches import BatchCursor as RustCursorConfig
from tasker_worker.batches import BatchMetadata
from tasker_worker.batches import BatchWorkerInputs as RustBatchWorkerInputs

__all__ = [
    "BatchAnalyzerOutcome",
    "BatchMetadata",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "CursorConfig",
    "DecisionPointOutcome",
    "DecisionType",
    "ErrorType",
    "FailureStrategy",
    "RustBatchWorkerInputs",
    "RustCursorConfig",
    "StepContext",
    "StepHandlerResult",
]
