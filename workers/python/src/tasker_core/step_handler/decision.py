"""Decisions that are classes."""

from tasker_worker import DecisionHandler

__all__ = ["DecisionHandler"]
