"""The errors of a handler."""

from tasker_worker import PermanentError, RetryableError, TaskerError

__all__ = ["PermanentError", "RetryableError", "TaskerError"]
