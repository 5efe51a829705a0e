"""The base of handlers that are classes."""

from tasker_worker import StepHandler

__all__ = ["StepHandler"]
