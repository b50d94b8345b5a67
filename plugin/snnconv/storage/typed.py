"""Plain values read as what a record's type hints say; the error names the field."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union

from snnconv.graph.source import ConversionError

__all__ = ["read"]

T = TypeVar("T")
LARGEST = 2**63 - 1
"""Of the whole numbers of a file."""
_WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def read(kind: type[T], value: Any, where: str) -> T:
    """``value`` as ``kind``: a dataclass of a dictionary, or what a type hint may say.

    Args:
        kind: ``bool``, ``int``, ``float`` (a whole number will do), ``str``, ``None``, ``Any``, a ``Literal``, a union,
            a list, tuple or dictionary of these, or a dataclass of such fields, which may be missing where they have a
            default.
        value: what a file says.
        where: the name of the value, for messages.

    Raises:
        ConversionError: another type, a field that is missing or unknown; the message names it.

    >>> @dataclasses.dataclass
    ... class Point:
    ...     x: int
    ...     name: str = ""
    >>> read(Point, {"x": 2}, "point")
    Point(x=2, name='')
    >>> read(Point, {"x": "2"}, "point")
    Traceback (most recent call last):
    snnconv.graph.error.ConversionError: point.x must be a whole number, got '2'
    """
    result: T = _read(kind, value, where)
    return result


def _read(kind: Any, value: Any, where: str) -> Any:
    if kind is Any or (type(value) is kind and (kind is not int or abs(value) <= LARGEST)):
        return value
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            raise ConversionError(f"{where} must be one of {', '.join(map(str, inner))}, got {_shown(value)}")
        return value
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, where)
    if origin in (list, tuple):
        return _sequence(origin, inner, value, where)
    if origin is dict:
        if not isinstance(value, dict) or any(not isinstance(key, str) for key in value):
            raise ConversionError(f"{where} must be a record of names and values, got {_shown(value)}")
        return {key: _read(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind in (None, type(None)):
        fits = value is None
    else:
        fits = kind is float and type(value) is int and abs(value) <= LARGEST
    if not fits:
        raise ConversionError(f"{where} must be {_word(kind)}, got {_shown(value)}")
    return value


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConversionError(f"{where} must be a record of names and values, got {_shown(value)}")
    fields, required = _fields(kind)
    unknown = [name for name in value if name not in fields]
    if unknown:
        raise ConversionError(f"{where} has a field {unknown[0]!r:.200}; known: {', '.join(fields)}")
    missing = [name for name in required if name not in value]
    if missing:
        raise ConversionError(f"{where}: {missing[0]!r:.200} is missing")
    found = {}
    for name, item in value.items():
        hint, at_once = fields[name]
        found[name] = item if type(item) in at_once else _read(hint, item, f"{where}.{name}")
    return kind(**found)


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, tuple[Any, frozenset[Any]]], list[str]]:
    """A dataclass's fields: their types, and of these the ones that need no further look; names without a default."""
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    return {f.name: (hints[f.name], _at_once(hints[f.name])) for f in fields}, required


def _at_once(hint: Any) -> frozenset[Any]:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return frozenset({str, bool, float, type(None)}.intersection(kinds))


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    wanted = [kind for kind in kinds if kind is not type(None)]
    if len(wanted) == 1:
        return _read(wanted[0], value, where)
    for kind in wanted:
        try:
            return _read(kind, value, where)
        except ConversionError:
            continue
    raise ConversionError(f"{where} must be {' or '.join(map(_word, wanted))}, got {_shown(value)}")


def _sequence(origin: Callable[..., Any], inner: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise ConversionError(f"{where} must be a list, got {_shown(value)}")
    if origin is tuple and inner[-1:] != (Ellipsis,):
        if len(value) != len(inner):
            raise ConversionError(f"{where} must be a list of {len(inner)}, got {_shown(value)}")
        pairs = enumerate(zip(inner, value, strict=True))
        return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in pairs)
    if inner[0] is Any or (inner[0] is str and all(type(item) is inner[0] for item in value)):
        return origin(value)
    return origin(_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))


def _word(kind: Any) -> str:
    return _WORDS.get(kind) or str(getattr(kind, "__name__", kind))


def _shown(value: Any) -> str:
    if type(value) is int and abs(value) > LARGEST:
        return f"one of {value.bit_length()} bits"
    text = repr(value) if not isinstance(value, (list, dict, tuple)) else f"{type(value).__name__} {value!r:.200}"
    return text if len(text) <= 60 else f"{text[:57]}..."
