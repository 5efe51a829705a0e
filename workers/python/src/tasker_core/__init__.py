"""The names under which handlers of Tasker Core import what is in ``tasker_worker``, so that they run as they are."""

from tasker_worker import (
    ErrorType,
    PermanentError,
    RetryableError,
    StepContext,
    StepHandler,
    StepHandlerResult,
    TaskerError,
    __version__,
)

__all__ = [
    "ErrorType",
    "PermanentError",
    "RetryableError",
    "StepContext",
    "StepHandler",
    "StepHandlerResult",
    "TaskerError",
    "__version__",
]
