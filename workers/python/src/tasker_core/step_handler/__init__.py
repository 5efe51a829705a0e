"""Handlers that are classes."""

from tasker_worker import DecisionHandler, DecisionMixin, StepHandler

__all__ = ["DecisionHandler", "DecisionMixin", "StepHandler"]
