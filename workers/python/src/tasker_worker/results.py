"""The results of a handler, and their conversion to outcomes of the worker protocol."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import operator
from collections import deque
from typing import Any

from .errors import PermanentError, RetryableError, TaskerError
from .words import Said, attribute, fields_of, has_fields, json_of, metadata_of, name_of, seconds_of, text_of, truth


class ErrorType(str, enum.Enum):
    """The usual kinds of failures. Any other string is allowed too."""

    PERMANENT_ERROR = "permanent_error"
    RETRYABLE_ERROR = "retryable_error"
    VALIDATION_ERROR = "validation_error"
    TIMEOUT = "timeout"
    HANDLER_ERROR = "handler_error"


#: The answer if even a failure cannot be described, such as without memory.
LAST_WORDS = (
    b'{"id":%d,"outcome":{"failure":{"message":"the handler ended, and its outcome could not be described",'
    b'"error_type":"handler_error","retryable":true}}}\n'
)

#: Errors of an exception group that are listed.
MOST_ERRORS = 10

#: The type of a result that is a checkpoint, and the flag of its metadata.
CHECKPOINT = "checkpoint_yield"

#: How often an outcome is copied that another thread keeps changing.
COPIES = 10


@dataclasses.dataclass(frozen=True)
class StepHandlerResult:
    """A result that is more than a value. Created by ``success``, ``failure`` or ``checkpoint``."""

    outcome: dict[str, Any]

    @classmethod
    def success(cls, result: Any = None, metadata: dict[str, Any] | None = None) -> StepHandlerResult:
        """A success. ``metadata`` is for operators; children of the step do not see it. What is not JSON in it is sent
        as text, and it is cut to 256 KiB."""
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
        """A failure of the attempt. ``metadata`` is for operators. What is not JSON in it is sent as text."""
        context = Said().as_object(metadata, "metadata")
        return cls({"failure": failure(message, error_type, retryable, error_code, None, context)})

    @classmethod
    def checkpoint(cls, cursor: Any, items_processed: int, accumulated_results: Any = None) -> StepHandlerResult:
        """Stores progress, and dispatches the step again under the same attempt with ``context.checkpoint`` set."""
        count = count_of(items_processed)
        if count is None:
            problem = f"items_processed is {text_of(items_processed)}, which is not a whole number of at least 0"
            return cls({"failure": failure(problem, "invalid_result", False)})
        return cls({"checkpoint": {"cursor": cursor, "items_processed": count, "accumulated": accumulated_results}})

    @property
    def is_success(self) -> bool:
        """Whether this is no failure. The name ``success`` is that of the method that makes one."""
        return "failure" not in self.outcome

    @property
    def result(self) -> Any:
        """What the step's result will be, or of a checkpoint its parts under ``type: checkpoint_yield``. ``None`` for a
        failure."""
        stored = self.outcome.get("checkpoint")
        if stored is None:
            return self.outcome.get("success", {}).get("result")
        parts = {"cursor": stored["cursor"], "items_processed": stored["items_processed"]}
        return {"type": CHECKPOINT, **parts, "accumulated_results": stored["accumulated"]}

    @property
    def metadata(self) -> dict[str, Any]:
        """What was given for operators; ``checkpoint_yield: True`` for a checkpoint."""
        if "checkpoint" in self.outcome:
            return {CHECKPOINT: True}
        given: dict[str, Any] = self._of_failure("context") or self.outcome.get("success", {}).get("metadata") or {}
        return given

    @property
    def error_message(self) -> Any:
        """The message of a failure, or ``None``."""
        return self._of_failure("message")

    @property
    def error_type(self) -> Any:
        """The kind of a failure, or ``None``."""
        return self._of_failure("error_type")

    @property
    def error_code(self) -> Any:
        """The code of a failure, or ``None``."""
        return self._of_failure("error_code")

    @property
    def retryable(self) -> bool:
        """Whether another attempt may follow a failure. True for anything else."""
        return self._of_failure("retryable") is not False

    def _of_failure(self, key: str) -> Any:
        return self.outcome.get("failure", {}).get(key)


def count_of(value: Any) -> int | None:
    """A whole number of at least 0 that fits 64 bits, or ``None``."""
    try:
        count = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except BaseException:
        return None
    return count if 0 <= count < 2**64 else None


def failure(
    message: Any,
    error_type: Any,
    retryable: Any,
    error_code: Any = None,
    delay_seconds: float | None = None,
    context: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A failure as JSON of the protocol. ``context`` must be said already; of all else this takes anything."""
    said: dict[str, Any] = {
        "message": text_of(message),
        "error_type": text_of("" if error_type is None else error_type) or ErrorType.HANDLER_ERROR.value,
        "retryable": truth(retryable, True),
    }
    if error_code is not None:
        said["error_code"] = text_of(error_code)
    if delay_seconds is not None:
        said["delay_seconds"] = delay_seconds
    if context:
        said["context"] = context
    return said


def outcome_of_value(value: Any) -> dict[str, Any]:
    """The outcome of a handler that returned ``value``."""
    if isinstance(value, StepHandlerResult):
        return checkpoint_of(value).outcome
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        problem = "the handler returned a generator, which nobody iterates: it must return its result, not yield it"
        return {"failure": failure(problem, "invalid_result", False)}
    return {"success": {"result": wrap(value)}}


def checkpoint_of(value: StepHandlerResult) -> StepHandlerResult:
    """The checkpoint that a success is if its result has the type of one and its metadata the flag, else the value."""
    success = value.outcome.get("success") if isinstance(value.outcome, dict) else None
    result, metadata = (success.get("result"), success.get("metadata")) if isinstance(success, dict) else (None, None)
    if not (isinstance(result, dict) and isinstance(metadata, dict)):
        return value
    if result.get("type") != CHECKPOINT or metadata.get(CHECKPOINT) is not True:
        return value
    return StepHandlerResult.checkpoint(
        result.get("cursor"), result.get("items_processed"), result.get("accumulated_results")
    )


def wrap(value: Any) -> Any:
    """The result of a returned value: objects stay, ``None`` becomes ``{}``, anything else goes under ``result``."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    return fields_of(value) if has_fields(value) else {"result": value}


def outcome_of_exception(error: BaseException) -> dict[str, Any]:
    """The outcome of a handler that raised ``error``."""
    try:
        return {"failure": described(error)}
    except BaseException:
        permanent = issubclass(type(error), PermanentError)
        return {"failure": failure(name_of(type(error)), kind_of(type(error)), not permanent)}


def described(error: BaseException) -> dict[str, Any]:
    """The failure that an exception is. A group is the failure of its first permanent error, or of its first error of
    this package, because another attempt would raise it again; the others are listed."""
    errors = errors_of(error)
    tasker = [part for part in errors if isinstance(part, TaskerError)]
    chosen = next((part for part in tasker if isinstance(part, PermanentError)), tasker[0] if tasker else error)
    said = Said()
    if isinstance(chosen, TaskerError):
        context = said.as_object(attribute(chosen, "context"), "context")
        context = {**said.as_object(attribute(chosen, "metadata"), "metadata"), **context}
    else:
        context = {"exception": name_of(type(error)), "traceback": short_traceback(error)}
    if errors[0] is not error:
        context["exceptions"] = [said.of(headline(part)) for part in errors[:MOST_ERRORS]]
    if not isinstance(chosen, TaskerError):
        return failure(headline(chosen), ErrorType.HANDLER_ERROR.value, True, context=context)
    retryable = truth(attribute(chosen, "retryable"), not isinstance(chosen, PermanentError))
    delay = attribute(chosen, "retry_after")
    seconds = seconds_of(delay)
    if delay is not None and seconds is None:
        context.setdefault("retry_after", said.of(delay))
    return failure(
        headline(chosen), kind_of(type(chosen)), retryable, attribute(chosen, "error_code"), seconds, context
    )


def kind_of(kind: type) -> str:
    """The type of failure that exceptions of a class are."""
    if issubclass(kind, PermanentError):
        return ErrorType.PERMANENT_ERROR.value
    if issubclass(kind, RetryableError):
        return ErrorType.RETRYABLE_ERROR.value
    return ErrorType.HANDLER_ERROR.value


def headline(error: BaseException) -> str:
    """The words of an exception, which for one of another package begin with the name of its class."""
    name = name_of(type(error))
    if isinstance(error, TaskerError):
        return text_of(attribute(error, "message", "")) or text_of(error) or name
    if isinstance(error, SystemExit):
        try:
            return text_of(f"the handler called sys.exit({error.code!r})")
        except BaseException:
            return "the handler called sys.exit()"
    words = text_of(error)
    inner = [part for part in errors_of(error) if part is not error]
    if inner:
        words = f"{words}: {'; '.join(headline(part) for part in inner[:MOST_ERRORS])}"
    return text_of(f"{name}: {words}") if words else name


def errors_of(error: BaseException) -> list[BaseException]:
    """The errors in an exception group, at any depth, or the error itself."""
    found: list[BaseException] = []
    waiting: deque[BaseException] = deque([error])
    while waiting and len(found) < 1000:
        part = waiting.popleft()
        inner = attribute(part, "exceptions")
        is_group = isinstance(inner, tuple) and inner and all(isinstance(one, BaseException) for one in inner)
        if is_group and not isinstance(part, TaskerError):
            waiting.extend(inner)
        else:
            found.append(part)
    return found or [error]


def short_traceback(error: BaseException) -> list[str]:
    """The innermost frames of the traceback, innermost last."""
    frames: deque[str] = deque(maxlen=5)
    place = attribute(error, "__traceback__")
    while place is not None:
        code = place.tb_frame.f_code
        frames.append(text_of(f"{code.co_filename}:{place.tb_lineno} in {code.co_name}"))
        place = place.tb_next
    return list(frames)


def encode(step: int, outcome: dict[str, Any]) -> bytes:
    """The line for an outcome. One that is not JSON becomes a permanent failure with the reason."""
    try:
        return encoded(step, outcome)
    except BaseException:
        return LAST_WORDS % step


def encoded(step: int, outcome: dict[str, Any]) -> bytes:
    """The line for an outcome, or for the failure that it is not JSON."""
    changing = False
    try:
        success = outcome.get("success")
        if success is not None and success.get("metadata") is not None:
            outcome = {"success": {**success, "metadata": metadata_of(success["metadata"])}}
        for _ in range(COPIES):
            try:
                return line({"id": step, "outcome": copied(outcome) if changing else outcome})
            except RuntimeError as error:
                if "during iteration" not in text_of(error):
                    raise
                changing = True
        problem = "another thread changed the handler's result all the while it was read"
    except BaseException as error:
        problem = f"the handler's result is not JSON: {text_of(error) or name_of(type(error))}"
        changing = False
    return line({"id": step, "outcome": {"failure": failure(problem, "invalid_result", changing)}})


def copied(value: Any) -> Any:
    """A copy of a result that another thread may be changing: each container in one go, which is rarely interrupted."""
    if isinstance(value, dict):
        return {key: copied(part) for key, part in list(value.items())}
    if isinstance(value, (list, tuple)):
        return [copied(part) for part in list(value)]
    return copied(fields_of(value)) if has_fields(value) else value


def line(message: dict[str, Any]) -> bytes:
    """The line for a message of the protocol."""
    return json_of(message, fields_of).encode("ascii") + b"\n"
