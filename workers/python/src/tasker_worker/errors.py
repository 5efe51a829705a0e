"""The errors of a handler."""

from __future__ import annotations

from typing import Any


class TaskerError(Exception):
    """A failure that is retryable or permanent."""

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
        """``retry_after``, in seconds, can only lengthen the template's backoff. ``context`` is for operators."""
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.metadata = metadata or {}
        self.error_code = error_code
        self.retry_after = retry_after
        self.context = context or {}


class RetryableError(TaskerError):
    """A failure that another attempt may cure: a gateway that does not respond, a lock that is held."""

    def __init__(self, message: str, **options: Any) -> None:
        """Takes the options of ``TaskerError`` except ``retryable``."""
        super().__init__(message, **{**options, "retryable": True})


class PermanentError(TaskerError):
    """A failure that another attempt cannot cure: a declined card, an invalid request."""

    def __init__(self, message: str, **options: Any) -> None:
        """Takes the options of ``TaskerError`` except ``retryable``."""
        super().__init__(message, **{**options, "retryable": False})
