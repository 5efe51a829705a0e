"""How a handler fails."""

from __future__ import annotations

from typing import Any


class TaskerError(Exception):
    """A failure that says whether another try may help."""

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        metadata: dict[str, Any] | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
        context: dict[str, Any] | None = None,
    ) -> None:
        """``retry_after``: seconds; it can only lengthen the template's back-off. ``context``: more, for operators."""
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.metadata = metadata or {}
        self.error_code = error_code
        self.retry_after = retry_after
        self.context = context or {}


class RetryableError(TaskerError):
    """A failure that another try may cure: a gateway that does not answer, a lock that is held."""

    def __init__(self, message: str, **options: Any) -> None:
        """Takes the options of ``TaskerError`` but ``retryable``."""
        super().__init__(message, **{**options, "retryable": True})


class PermanentError(TaskerError):
    """A failure that no other try can cure: a declined card, a request that makes no sense."""

    def __init__(self, message: str, **options: Any) -> None:
        """Takes the options of ``TaskerError`` but ``retryable``."""
        super().__init__(message, **{**options, "retryable": False})
