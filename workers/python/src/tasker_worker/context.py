"""The input of a handler."""

from __future__ import annotations

from typing import Any, Callable

from .results import StepHandlerResult

#: The keys of a batch worker's inputs. They are the engine's, so no model of a handler's inputs has them.
BATCH_KEYS = frozenset(("cursor", "batch_metadata", "is_no_op"))


class Checkpoint(dict):  # type: ignore[type-arg]
    """The last checkpoint: ``{cursor, items_processed, accumulated}``, the last one also as ``accumulated_results``.

    Before the first one it is empty, and so false, but never ``None``. Called, it is the outcome that stores the next:
    ``return context.checkpoint(cursor, items_processed, accumulated)``.
    """

    @classmethod
    def of(cls, stored: dict[str, Any] | None) -> Checkpoint:
        """The checkpoint that a message has, or the empty one."""
        return cls({**stored, "accumulated_results": stored.get("accumulated")} if stored else {})

    def __call__(self, cursor: Any, items_processed: int, accumulated_results: Any = None) -> StepHandlerResult:
        """Stores progress and ends this run; see :meth:`StepContext.checkpoint_yield`."""
        return StepHandlerResult.checkpoint(cursor, items_processed, accumulated_results)


class StepContext:
    """One attempt of one step: its inputs, with the accessors that all SDKs share."""

    def __init__(
        self,
        step: dict[str, Any],
        beat: Callable[[], None] | None = None,
        is_stopped: Callable[[], bool] | None = None,
    ) -> None:
        """``step`` is the message that dispatched the step."""
        handler = step["handler"]
        self.task_uuid: str = step["task_id"]
        self.step_uuid: str = step["step_id"]
        self.correlation_id: str = step["correlation_id"]
        self.namespace_name: str = step["namespace"]
        self.step_name: str = step["step_name"]
        self.handler_name: str = handler["callable"]
        self.method: str = handler.get("method") or "call"
        self.input_data: Any = step["context"]
        self.step_config: dict[str, Any] = handler.get("initialization") or {}
        self.step_inputs: Any = step.get("step_inputs") or {}
        self.dependency_results: dict[str, Any] = step.get("dependency_results") or {}
        #: By step name, ``{message, error_type, error_code, retryable}`` of parents whose failure is tolerated.
        self.dependency_errors: dict[str, dict[str, Any]] = step.get("dependency_errors") or {}
        #: Why the attempt before failed: ``{message, error_type, error_code, retryable, context}``, where ``context``
        #: is what its error gave as context or metadata. ``None`` in the first attempt.
        self.last_failure: dict[str, Any] | None = step.get("last_failure")
        self.retry_count: int = step["attempt"] - 1
        self.max_retries: int = step["max_attempts"]
        self.timeout_seconds: int = step["timeout_seconds"]
        #: What :meth:`checkpoint_yield` stored last, in any attempt. Called, it does the same as that method.
        self.checkpoint: Checkpoint = Checkpoint.of(step.get("checkpoint"))
        self._beat = beat
        self._is_stopped = is_stopped

    def get_input(self, key: str) -> Any:
        """One key of the step's own inputs, else of the task's context, or ``None`` if neither has it."""
        return self.get_input_or(key, None)

    def get_input_or(self, key: str, default: Any) -> Any:
        """One key of the step's own inputs, else of the task's context, or ``default``."""
        for given in (self.step_inputs, self.input_data):
            if isinstance(given, dict) and key in given:
                return given[key]
        return default

    def all_inputs(self) -> Any:
        """The task's context with the step's own inputs in place of its keys: all that :meth:`get_input` sees, except
        the cursor of a batch."""
        own = self.step_inputs
        if not own or not isinstance(own, dict) or not isinstance(self.input_data, dict):
            return self.input_data
        return {**self.input_data, **{key: value for key, value in own.items() if key not in BATCH_KEYS}}

    def get_config(self, key: str) -> Any:
        """One of the template's settings for the handler (``handler.initialization``), or ``None``."""
        return self.step_config.get(key)

    def get_dependency_result(self, step: str) -> Any:
        """The result of a parent or near ancestor; ``None`` if it was not created or is not an ancestor."""
        return self.dependency_results.get(step)

    def get_dependency_field(self, step: str, *path: str) -> Any:
        """A value inside a result; ``None`` if any key of the path is missing."""
        value = self.get_dependency_result(step)
        for key in path:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    def get_dependency_result_keys(self) -> list[str]:
        """The names of the steps whose results this step receives."""
        return list(self.dependency_results)

    def get_all_dependency_results(self, prefix: str) -> list[Any]:
        """The results of all steps whose names begin with ``prefix``, sorted by name."""
        return [self.dependency_results[name] for name in sorted(self.dependency_results) if name.startswith(prefix)]

    def is_retry(self) -> bool:
        """Whether this is not the first attempt."""
        return self.retry_count > 0

    def is_last_retry(self) -> bool:
        """Whether this is the last attempt, whose failure is final."""
        return self.retry_count + 1 >= self.max_retries

    def checkpoint_yield(self, cursor: Any, items_processed: int, accumulated_results: Any = None) -> StepHandlerResult:
        """Stores progress and ends this run. Return it: the step is dispatched again under the same attempt, and finds
        the three values in ``checkpoint_cursor``, ``checkpoint_items_processed`` and ``accumulated_results``."""
        return StepHandlerResult.checkpoint(cursor, items_processed, accumulated_results)

    def has_checkpoint(self) -> bool:
        """Whether the step stored a checkpoint to continue from, in this attempt or an earlier one."""
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
        return self.checkpoint.get("accumulated")

    def heartbeat(self) -> bool:
        """Reports that the handler is still running, and returns whether it should go on: ``not is_cancelled()``.
        This does not extend the step's timeout."""
        if self._beat is not None:
            self._beat()
        return not self.is_cancelled()

    def is_cancelled(self) -> bool:
        """Whether the step is no longer wanted, so that its outcome will be ignored. A handler that runs for long asks
        this and returns; an async handler is cancelled instead, at its next ``await``."""
        return self._is_stopped is not None and self._is_stopped()
