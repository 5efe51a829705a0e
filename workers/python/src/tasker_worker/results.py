"""The results of a handler, and their conversion to outcomes of the worker protocol."""

from __future__ import annotations

import dataclasses
import enum
import json
import traceback
from typing import Any

from .errors import PermanentError, RetryableError, TaskerError


class ErrorType(str, enum.Enum):
    """The usual kinds of failures. Any other string is allowed too."""

    PERMANENT_ERROR = "permanent_error"
    RETRYABLE_ERROR = "retryable_error"
    VALIDATION_ERROR = "validation_error"
    TIMEOUT = "timeout"
    HANDLER_ERROR = "handler_error"


@dataclasses.dataclass(frozen=True)
class StepHandlerResult:
    """A result that is more than a value. Created by ``success``, ``failure`` or ``checkpoint``."""

    outcome: dict[str, Any]

    @classmethod
    def success(cls, result: Any = None, metadata: dict[str, Any] | None = None) -> StepHandlerResult:
        """A success. ``metadata`` is for operators; children of the step do not see it."""
        return cls({"success": {"result": {} if result is None else result, "metadata": metadata}})

    @classmethod
    def failure(
        cls,
        message: str,
        error_type: str = ErrorType.HANDLER_ERROR,
        retryable: bool = True,
        metadata: dict[str, Any] | None = None,
        error_code: str | None = None,
    ) -> StepHandlerResult:
        """A failure of the attempt. ``metadata`` is for operators."""
        return cls({"failure": failure(message, str_of(error_type), retryable, error_code, None, metadata)})

    @classmethod
    def checkpoint(cls, cursor: Any, items_processed: int, accumulated_results: Any = None) -> StepHandlerResult:
        """Stores progress, and dispatches the step again under the same attempt with ``context.checkpoint`` set."""
        stored = {"cursor": cursor, "items_processed": items_processed, "accumulated": accumulated_results}
        return cls({"checkpoint": stored})


def str_of(error_type: str) -> str:
    """The value of an ``ErrorType``, or the string itself."""
    return error_type.value if isinstance(error_type, ErrorType) else str(error_type)


def failure(
    message: str,
    error_type: str,
    retryable: bool,
    error_code: str | None = None,
    delay_seconds: float | None = None,
    context: Any = None,
) -> dict[str, Any]:
    """A failure as JSON of the protocol."""
    said = {"message": str(message), "error_type": error_type, "retryable": bool(retryable)}
    if error_code is not None:
        said["error_code"] = str(error_code)
    if delay_seconds is not None:
        said["delay_seconds"] = float(delay_seconds)
    if context:
        said["context"] = context
    return said


def outcome_of_value(value: Any) -> dict[str, Any]:
    """The outcome of a handler that returned ``value``."""
    if isinstance(value, StepHandlerResult):
        return value.outcome
    return {"success": {"result": wrap(value)}}


def wrap(value: Any) -> Any:
    """The result of a returned value: objects stay, ``None`` becomes ``{}``, anything else goes under ``result``."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return {"result": value}


def outcome_of_exception(error: BaseException) -> dict[str, Any]:
    """The outcome of a handler that raised ``error``."""
    if not isinstance(error, TaskerError):
        name = type(error).__name__
        message = f"{name}: {error}" if str(error) else name
        context = {"exception": name, "traceback": short_traceback(error)}
        return {"failure": failure(message, ErrorType.HANDLER_ERROR.value, True, context=context)}
    if isinstance(error, PermanentError):
        kind = ErrorType.PERMANENT_ERROR
    elif isinstance(error, RetryableError):
        kind = ErrorType.RETRYABLE_ERROR
    else:
        kind = ErrorType.HANDLER_ERROR
    context = {**error.metadata, **error.context}
    said = failure(error.message, kind.value, error.retryable, error.error_code, error.retry_after, context)
    return {"failure": said}


def short_traceback(error: BaseException) -> list[str]:
    """The innermost frames of the traceback, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]


def encode(step: int, outcome: dict[str, Any]) -> bytes:
    """The line for an outcome. One that is not JSON becomes a permanent failure with the reason."""
    try:
        return line({"id": step, "outcome": outcome})
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        problem = f"the handler's result is not JSON: {error or type(error).__name__}"
        return line({"id": step, "outcome": {"failure": failure(problem, "invalid_result", False)}})


def line(message: dict[str, Any]) -> bytes:
    """The line for a message of the protocol."""
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
