"""Says any value as text, or as JSON of a bounded size.

What describes a failure never raises, although it asks objects whose own methods may raise.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Callable

#: Characters kept of an error's message, type and code. This and the next two are as in ``shared/wire/src/limits.rs``.
ERROR_CHARS = 4_000

#: Bytes kept of a failure's context, and of metadata.
METADATA_BYTES = 256 * 1024

#: Seconds of the longest pause before another attempt.
BACKOFF_SECONDS = 24 * 3600

#: Levels of nesting that are said as JSON. What is nested deeper is said as text.
DEPTH = 60

#: Stands for what was cut.
CUT = "…"

#: Bytes for the marks of what was cut, one a level.
MARKS = 4 * 1024

#: Begins the text that stands for a ``Decimal``, because ``json`` writes no number as it is. No other text has it.
MARK = f"decimal {os.urandom(16).hex()} "
MARKED = re.compile(f'"{MARK}([^"]*)"')


def number_of(text: str) -> Any:
    """A number of JSON with a point or exponent, exactly: a ``float`` if one has this value, else a ``Decimal``."""
    number = float(text)
    # A float holds any 15 digits.
    if len(text) <= 15 and "e" not in text and "E" not in text:
        return number
    # Imported here, because most workers never need it and start faster without it.
    from decimal import Decimal

    try:
        exact = Decimal(text)
    except ArithmeticError:
        # Its exponent has more digits than decimals have.
        return number
    return number if Decimal(repr(number)) == exact else exact


def is_number(value: Any) -> bool:
    """Whether a value is a ``Decimal`` that is neither infinite nor NaN."""
    decimal = sys.modules.get("decimal")
    return decimal is not None and isinstance(value, decimal.Decimal) and decimal.Decimal.is_finite(value)


def decimal_text(number: Any) -> str:
    """The digits of a ``Decimal``, also if its class says it otherwise."""
    text: str = sys.modules["decimal"].Decimal.__str__(number)
    return text


def json_of(value: Any, other: Callable[[Any], Any], **options: Any) -> str:
    """A value as JSON, where a ``Decimal`` is the number that it is. ``other`` converts what is not JSON, or raises."""

    def default(part: Any) -> Any:
        return MARK + decimal_text(part) if is_number(part) else other(part)

    text = json.dumps(value, allow_nan=False, separators=(",", ":"), default=default, **options)
    return MARKED.sub(r"\1", text) if MARK in text else text


def refuse(value: Any) -> Any:
    """Says that a value is not JSON."""
    raise TypeError(f"Object of type {name_of(type(value))} is not JSON serializable")


def text_of(value: Any, most: int = ERROR_CHARS) -> str:
    """A value as text of at most ``most`` characters: its ``str``, else its ``repr``, else the name of its type."""
    if issubclass(type(value), str):
        return clean(str.__str__(value), most)
    for say in (str, repr):
        try:
            return clean(str.__str__(say(value)), most)
        except BaseException:
            continue
    return f"<{name_of(type(value))}>"


def clean(text: str, most: int) -> str:
    """The text, cut, and without what cannot be sent or stored: halves of surrogate pairs and NUL."""
    if len(text) > most:
        text = text[: max(most - 1, 0)] + CUT
    # By way of UTF-16, halves that belong together are joined.
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def name_of(kind: type) -> str:
    """The name of a class, even if its metaclass hides it."""
    return clean(type.__dict__["__name__"].__get__(kind), 200)


def attribute(owner: Any, name: str, default: Any = None) -> Any:
    """An attribute, or ``default`` if it is missing or raises."""
    try:
        return getattr(owner, name, default)
    except BaseException:
        return default


def truth(value: Any, default: bool) -> bool:
    """Whether a value is true, or ``default`` if it is ``None`` or cannot tell."""
    try:
        return default if value is None else bool(value)
    except BaseException:
        return default


def seconds_of(value: Any) -> float | None:
    """A number or a ``timedelta`` in seconds, at most the longest pause. ``None`` if it is negative or no duration."""
    try:
        total = getattr(value, "total_seconds", None)
        value = total() if callable(total) else value
        # Also for an integer that no float can hold.
        seconds = float(min(value, BACKOFF_SECONDS)) if isinstance(value, int) else float(value)
        return min(seconds, float(BACKOFF_SECONDS)) if seconds >= 0 else None
    except BaseException:
        return None


def metadata_of(value: Any) -> Any:
    """Metadata as it is if it can be sent and stored, else as :class:`Said` says it."""
    try:
        json_of(value, refuse, ensure_ascii=False).encode()
        text = json_of(value, refuse)
        if len(text) <= METADATA_BYTES and "\\u0000" not in text:
            return value
    except BaseException:
        pass
    return Said(keeps_decimals=True).of(value)


def has_fields(value: Any) -> bool:
    """Whether a value is a dataclass or a pydantic model, whose fields are its JSON."""
    if isinstance(value, type):
        return False
    return callable(getattr(value, "model_dump", None)) or dataclasses.is_dataclass(value)


def fields_of(value: Any) -> Any:
    """The fields of a dataclass or pydantic model. Raises ``TypeError`` for anything else."""
    if not has_fields(value):
        refuse(value)
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump(mode="json")
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


class Said:
    """Says values as JSON, together in at most ``METADATA_BYTES``. What JSON lacks becomes text; the rest is cut."""

    def __init__(self, keeps_decimals: bool = False) -> None:
        """One object for all parts of a document. A ``Decimal`` is text unless the runtime keeps all its digits."""
        self._keeps_decimals = keeps_decimals
        self._room = METADATA_BYTES - MARKS
        self._path: list[int] = []

    def of(self, value: Any) -> Any:
        """A value as JSON."""
        try:
            return self._of(value)
        except BaseException:
            return self._text(value)

    def as_object(self, value: Any, key: str) -> dict[str, Any]:
        """A value as an object: a mapping as it is, nothing for ``None``, and anything else under ``key``."""
        if value is None:
            return {}
        said = self.of(value)
        return said if isinstance(said, dict) else {key: said}

    def _of(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            self._room -= 6
            return value
        if issubclass(kind, int):
            # A larger integer would be read as a float and lose digits.
            number = int.__int__(value)
            return self._number(number) if -(2**63) <= number < 2**64 else self._text(number)
        if issubclass(kind, float):
            real = float.__float__(value)
            return self._number(real) if math.isfinite(real) else self._text(real)
        if self._keeps_decimals and is_number(value) and len(decimal_text(value)) <= self._room:
            self._room -= len(decimal_text(value)) + 1
            return value
        if issubclass(kind, str) or len(self._path) >= DEPTH:
            return self._text(value)
        if id(value) in self._path:
            self._room -= 10
            return CUT
        return self._container(value, kind)

    def _container(self, value: Any, kind: type) -> Any:
        depth = len(self._path)
        self._path.append(id(value))
        self._room -= 3
        try:
            if issubclass(kind, Mapping):
                return self._mapping(value)
            if issubclass(kind, (list, tuple)):
                return self._sequence(value)
            if dataclasses.is_dataclass(kind):
                return self._mapping({field.name: attribute(value, field.name) for field in dataclasses.fields(kind)})
            return self._text(value)
        finally:
            del self._path[depth:]

    def _mapping(self, value: Any) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for key, part in self._still(value.items):
            if self._room <= 0:
                said[CUT] = CUT
                break
            name = self._text(key)
            said[name] = self.of(part)
        return said

    def _sequence(self, value: Any) -> list[Any]:
        said: list[Any] = []
        for part in self._still(lambda: value):
            if self._room <= 0:
                said.append(CUT)
                break
            said.append(self.of(part))
        return said

    def _still(self, parts: Any) -> list[Any]:
        """A copy of what another thread may be changing, no longer than what there is room for."""
        for _ in range(3):
            try:
                return list(itertools.islice(parts(), max(self._room // 2, 0) + 1))
            except RuntimeError:
                continue
        raise RuntimeError("it changes all the time")

    def _number(self, number: Any) -> Any:
        self._room -= 25
        return number

    def _text(self, value: Any) -> str:
        text = text_of(value, max(self._room, 1))
        while len(text) > 1 and len(json.dumps(text)) > self._room:
            text = clean(text, len(text) // 2)
        self._room -= len(json.dumps(text)) + 1
        return text
