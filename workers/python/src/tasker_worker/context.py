"""The input of a handler."""

from __future__ import annotations

from typing import Any, Callable


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
        self.retry_count: int = step["attempt"] - 1
        self.max_retries: int = step["max_attempts"]
        self.timeout_seconds: int = step["timeout_seconds"]
        self.checkpoint: dict[str, Any] | None = step.get("checkpoint")
        self._beat = beat
        self._is_stopped = is_stopped

    def get_input(self, key: str) -> Any:
        """One key of the task's context, or ``None`` if it is missing."""
        return self.get_input_or(key, None)

    def get_input_or(self, key: str, default: Any) -> Any:
        """One key of the task's context, or ``default``."""
        return self.input_data.get(key, default) if isinstance(self.input_data, dict) else default

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

    def has_checkpoint(self) -> bool:
        """Whether this attempt stored a checkpoint to continue from."""
        return self.checkpoint is not None

    @property
    def checkpoint_cursor(self) -> Any:
        """The cursor of the last checkpoint, or ``None``."""
        return (self.checkpoint or {}).get("cursor")

    @property
    def checkpoint_items_processed(self) -> int:
        """The number of processed items at the last checkpoint, or 0."""
        return (self.checkpoint or {}).get("items_processed", 0)

    @property
    def accumulated_results(self) -> Any:
        """The accumulated results at the last checkpoint, or ``None``."""
        return (self.checkpoint or {}).get("accumulated")

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
