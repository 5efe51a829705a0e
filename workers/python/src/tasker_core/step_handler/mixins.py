"""Results for handlers that are classes."""

from tasker_worker import DecisionMixin

__all__ = ["DecisionMixin"]
