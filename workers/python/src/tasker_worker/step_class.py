"""Handlers that are classes."""

from __future__ import annotations

from functools import partial
from typing import Any

from . import registry
from .context import StepContext
from .results import ErrorType, StepHandlerResult


class StepHandler:
    """A handler as a class: an alternative to ``@step_handler`` for handlers that share methods.

    A subclass with a ``handler_name`` is registered under it, the name that templates use (``handler.callable``). Every
    step gets an instance of its own, made without arguments.
    """

    handler_name: str = ""
    handler_version: str = "1.0.0"

    def __init_subclass__(cls, **options: Any) -> None:
        """Registers the subclass."""
        super().__init_subclass__(**options)
        name = cls.__dict__.get("handler_name")
        if name:
            registry.register(registry.Handler(name, cls.handler_version, partial(run, cls), "context"))

    def call(self, context: StepContext) -> Any:
        """Runs one attempt of a step. Returns or raises what a function may; it may be async."""
        raise NotImplementedError(f"{type(self).__name__} has no method `call`")

    @property
    def name(self) -> str:
        """The name that the handler is registered under."""
        return self.handler_name

    @property
    def version(self) -> str:
        """The handler's version."""
        return self.handler_version

    def success(
        self, result: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> StepHandlerResult:
        """A success; see :meth:`StepHandlerResult.success`."""
        return StepHandlerResult.success(result, metadata)

    def failure(
        self,
        message: str,
        error_type: str = ErrorType.HANDLER_ERROR,
        retryable: bool = True,
        metadata: dict[str, Any] | None = None,
        error_code: str | None = None,
    ) -> StepHandlerResult:
        """A failure of the attempt; see :meth:`StepHandlerResult.failure`."""
        return StepHandlerResult.failure(message, error_type, retryable, metadata, error_code)

    def checkpoint_yield(self, cursor: Any, items_processed: int, accumulated_results: Any = None) -> StepHandlerResult:
        """Stores progress and ends this run; see :meth:`StepContext.checkpoint_yield`."""
        return StepHandlerResult.checkpoint(cursor, items_processed, accumulated_results)


def run(kind: type[StepHandler], context: StepContext) -> Any:
    """Runs a step by the method that its template selects, if the class has one of that name, else by ``call``."""
    handler = kind()
    method = None if hasattr(StepHandler, context.method) else getattr(handler, context.method, None)
    return method(context) if callable(method) else handler.call(context)
