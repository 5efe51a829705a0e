"""The registry of handlers, and their arguments."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Callable, TypeVar

from .context import StepContext
from .errors import PermanentError
from .results import failure
from .words import attribute, text_of

Function = TypeVar("Function", bound=Callable[..., Any])

#: Attributes that store the arguments of the decorators, so that their order does not matter.
DEPENDENCIES = "_tasker_dependencies"
INPUTS = "_tasker_inputs"
MODEL = "_tasker_model"


@dataclasses.dataclass(frozen=True)
class Handler:
    """A registered function."""

    name: str
    version: str
    function: Callable[..., Any]
    #: The name of its parameter for the context, if it has one.
    context_name: str | None
    #: Converts what it returned, before anything else looks at it.
    convert: Callable[[Any], Any] | None = None
    #: Further arguments by name, of those that it has a parameter for.
    further: Mapping[str, Callable[[StepContext], Any]] = dataclasses.field(default_factory=dict)


_handlers: dict[str, Handler] = {}


def register(handler: Handler) -> None:
    """Adds a handler. Raises ``ValueError`` if another function has its name."""
    known = _handlers.get(handler.name)
    if known is not None and known.function is not handler.function:
        raise ValueError(f"two handlers are registered as {handler.name!r}; one of them would never run")
    _handlers[handler.name] = handler


def depends_on(**dependencies: Any) -> Callable[[Function], Function]:
    """Passes results of earlier steps: ``param="step"``, or ``param=("step", Model)`` for a ``Model``."""

    def note(function: Function) -> Function:
        setattr(function, DEPENDENCIES, {**getattr(function, DEPENDENCIES, {}), **dependencies})
        return function

    return note


def inputs(*keys: Any) -> Callable[[Function], Function]:
    """Passes keys of the step's own inputs or the task's context by name, or with a class all of them as ``inputs``."""
    models = [key for key in keys if isinstance(key, type)]
    if models and len(keys) > 1:
        raise TypeError("inputs() takes names of keys, or one class alone")

    def note(function: Function) -> Function:
        if models:
            setattr(function, MODEL, models[0])
        else:
            setattr(function, INPUTS, (*getattr(function, INPUTS, ()), *keys))
        return function

    return note


def context_parameter(function: Callable[..., Any]) -> str | None:
    """The name of a function's parameter for the context, if it has one."""
    return next((name for name in ("context", "_context") if has_parameter(function, name)), None)


def has_parameter(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name."""
    return name in inspect.signature(function).parameters


def names() -> list[str]:
    """The names of all handlers."""
    return sorted(_handlers)


def find(callable_name: str, method: str) -> Handler | None:
    """The handler of a step: ``callable.method``, else ``callable``, which reads ``context.method``."""
    return _handlers.get(wanted(callable_name, method)) or _handlers.get(callable_name)


def wanted(callable_name: str, method: str) -> str:
    """The name of the handler that a step wants most."""
    return callable_name if method == "call" else f"{callable_name}.{method}"


def not_found(callable_name: str, method: str) -> dict[str, Any]:
    """The outcome of a step whose handler is not registered."""
    # Imported here, because few workers ever need it.
    import difflib

    name = wanted(callable_name, method)
    near = difflib.get_close_matches(name, names(), n=1) or difflib.get_close_matches(callable_name, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = ", ".join(names()) or "none"
    return {
        "failure": failure(
            f"no handler is registered as {name!r}{hint}; registered here: {known}", "handler_not_found", False
        )
    }


def arguments(handler: Handler, context: StepContext) -> dict[str, Any]:
    """The arguments of a handler."""
    function = handler.function
    given: dict[str, Any] = {}
    for parameter, wish in getattr(function, DEPENDENCIES, {}).items():
        step, model = wish if isinstance(wish, tuple) else (wish, None)
        given[parameter] = made(model, context.get_dependency_result(step), f"the result of step {step!r}")
    for key in getattr(function, INPUTS, ()):
        given[key] = context.get_input(key)
    model = getattr(function, MODEL, None)
    if model is not None:
        given["inputs"] = made(model, context.all_inputs(), "the task's context")
    if handler.context_name is not None:
        given[handler.context_name] = context
    for name, value in handler.further.items():
        given[name] = value(context)
    return given


def made(model: Any, value: Any, what: str) -> Any:
    """``value`` as a ``model``: a pydantic model, a dataclass (unknown keys are dropped), or any class that takes the
    keys by name. A mismatch is a permanent failure, because every attempt receives the same value."""
    if model is None or value is None:
        return value
    is_dataclass = dataclasses.is_dataclass(model)
    try:
        if hasattr(model, "model_validate"):
            return model.model_validate(value)
        if is_dataclass:
            known = {field.name for field in dataclasses.fields(model) if field.init}
            return model(**{key: part for key, part in value.items() if key in known})
        return model(**value)
    except (TypeError, ValueError, AttributeError) as error:
        message = f"{what} does not fit {text_of(attribute(model, '__name__', model))}: {text_of(error)}"
        raise PermanentError(message, error_code="validation_error") from error
