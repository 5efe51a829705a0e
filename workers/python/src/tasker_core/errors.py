"""The errors of a handler, and whether another attempt follows them."""

from tasker_worker import PermanentError, RetryableError, TaskerError
from tasker_worker.results import outcome_of_exception

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "BusinessLogicError",
    "ConfigurationError",
    "ErrorClassifier",
    "FFIError",
    "NetworkError",
    "NotFoundError",
    "PermanentError",
    "RateLimitError",
    "ResourceContentionError",
    "RetryableError",
    "ServiceUnavailableError",
    "TaskerError",
    "TimeoutError",
    "ValidationError",
    "is_permanent",
    "is_retryable",
]


class TimeoutError(RetryableError):
    """Something took too long."""


class NetworkError(RetryableError):
    """A connection failed."""


class RateLimitError(RetryableError):
    """A service was called too often."""


class ServiceUnavailableError(RetryableError):
    """A service is down or overloaded."""


class ResourceContentionError(RetryableError):
    """A lock or another resource is taken."""


class ValidationError(PermanentError):
    """An input is not as required."""


class NotFoundError(PermanentError):
    """Something required does not exist."""


class AuthenticationError(PermanentError):
    """Credentials are invalid."""


class AuthorizationError(PermanentError):
    """A permission is missing."""


class ConfigurationError(PermanentError):
    """The settings are wrong."""


class BusinessLogicError(PermanentError):
    """A rule of the business forbids it."""


class FFIError(TaskerError):
    """The exchange with the runtime failed. Retryable unless it says otherwise."""


class ErrorClassifier:
    """Says whether another attempt follows an exception, as methods; see :func:`is_retryable`."""

    def retryable(self, error: BaseException) -> bool:
        """Whether another attempt follows."""
        return is_retryable(error)

    def permanent(self, error: BaseException) -> bool:
        """Whether no other attempt follows."""
        return is_permanent(error)


def is_retryable(error: BaseException) -> bool:
    """Whether another attempt follows if a handler raises the exception and attempts are left."""
    retryable: bool = outcome_of_exception(error)["failure"]["retryable"]
    return retryable


def is_permanent(error: BaseException) -> bool:
    """Whether no other attempt follows if a handler raises the exception."""
    return not is_retryable(error)
