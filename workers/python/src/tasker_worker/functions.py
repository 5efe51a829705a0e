"""Handlers that are functions."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable
from typing import Any, Callable, Protocol

from . import registry
from .context import StepContext
from .registry import Function, Handler
from .results import StepHandlerResult, outcome_of_exception, outcome_of_value
from .step_class import StepHandler


class FunctionalHandler(Protocol):
    """A decorated function."""

    #: The function as a class, whose ``call`` takes a context and returns a result, also for what the function raises.
    _handler_class: type[StepHandler]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls the function as it was written."""


def step_handler(name: str, version: str = "1.0.0") -> Callable[[Function], Function]:
    """Registers a function under the name that templates use (``handler.callable``)."""
    return registered(name, version)


def registered(
    name: str,
    version: str,
    convert: Callable[[Any], Any] | None = None,
    further: dict[str, Callable[[StepContext], Any]] | None = None,
) -> Callable[[Function], Function]:
    """Registers a function with the options of a :class:`Handler`, and gives it the class that it also is."""

    def note(function: Function) -> Function:
        wanted = {key: value for key, value in (further or {}).items() if registry.has_parameter(function, key)}
        handler = Handler(name, version, function, registry.context_parameter(function), convert, wanted)
        registry.register(handler)
        # A method of an object takes no attributes. It is a handler all the same.
        with contextlib.suppress(AttributeError):
            setattr(function, "_handler_class", class_of(handler))  # noqa: B010
        return function

    return note


def class_of(handler: Handler) -> type[StepHandler]:
    """A handler's function as a class, which is not registered a second time."""

    def call(self: StepHandler, context: StepContext) -> Any:
        try:
            value = handler.function(**registry.arguments(handler, context))
            return awaited(value) if inspect.isawaitable(value) else result_of(value)
        except Exception as error:
            return StepHandlerResult(outcome_of_exception(error))

    async def awaited(value: Awaitable[Any]) -> StepHandlerResult:
        try:
            return result_of(await value)
        except Exception as error:
            return StepHandlerResult(outcome_of_exception(error))

    def result_of(value: Any) -> StepHandlerResult:
        return StepHandlerResult(outcome_of_value(handler.convert(value) if handler.convert else value))

    own = {"call": call, "__doc__": handler.function.__doc__, "__module__": handler.function.__module__}
    kind = type(getattr(handler.function, "__name__", handler.name), (StepHandler,), own)
    kind.handler_name, kind.handler_version = handler.name, handler.version
    return kind
