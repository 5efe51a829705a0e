"""The errors of a handler."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


class TaskerError(Exception):
    """A failure that is retryable or permanent.

    A subclass need not call ``super().__init__``: then its arguments are its message.
    """

    message: str = ""
    retryable: bool = True
    error_code: str | None = None
    retry_after: float | timedelta | None = None
    metadata: dict[str, Any] | None = None
    context: dict[str, Any] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        retryable: bool = True,
        metadata: dict[str, Any] | None = None,
        error_code: str | None = None,
        retry_after: float | timedelta | None = None,
        context: dict[str, Any] | None = None,
    ) -> None:
        """``retry_after``, in seconds or as a ``timedelta``, can only lengthen the template's backoff. ``context`` is
        for operators, and so is ``metadata``: what is not JSON in them is sent as text."""
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        # Without asking for their truth, which some objects refuse to tell.
        self.metadata = {} if metadata is None else metadata
        self.error_code = error_code
        self.retry_after = retry_after
        self.context = {} if context is None else context


class RetryableError(TaskerError):
    """A failure that another attempt may cure: a gateway that does not respond, a lock that is held."""

    def __init__(self, message: str = "", **options: Any) -> None:
        """Takes the options of ``TaskerError`` except ``retryable``."""
        super().__init__(message, **{**options, "retryable": True})


class PermanentError(TaskerError):
    """A failure that another attempt cannot cure: a declined card, an invalid request."""

    retryable = False

    def __init__(self, message: str = "", **options: Any) -> None:
        """Takes the options of ``TaskerError`` except ``retryable``."""
        super().__init__(message, **{**options, "retryable": False})
