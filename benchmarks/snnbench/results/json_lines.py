"""JSON as result files have it: how it is laid out, and where each field begins, so that an error can name the line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

__all__ = ["as_text", "line_of", "lines"]

_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[^\s,\]}]+")


def lines(text: str) -> dict[str, int]:
    """Field → line, counted from 1, of JSON that parses; an item of a list is ``points[0]``, a key ``points[0].sops``.

    >>> lines('{"a": 1,\\n "b": [2,\\n  {"c": 3}]}')
    {'a': 1, 'b': 2, 'b[0]': 2, 'b[1]': 3, 'b[1].c': 3}
    """
    found: dict[str, int] = {}
    line, seen = 1, 0
    for path, position in _fields(text):
        line += text.count("\n", seen, position)
        seen = position
        found.setdefault(path, line)
    return found


def line_of(text: str, sentence: str) -> int | None:
    """Line of the field that ``sentence`` begins with, or of what should hold it; ``None`` where it names none.

    >>> text = '{"a": 1,\\n "b": {}}'
    >>> line_of(text, "b.c is missing"), line_of(text, "a: 1 is too small"), line_of(text, "holds nothing")
    (2, 1, None)
    """
    known = lines(text)
    named = [path for path in known if sentence.startswith(path) and sentence[len(path) :][:1] in (" ", ".", "[", ":")]
    return known[max(named, key=len)] if named else None


def _fields(text: str) -> Iterator[tuple[str, int]]:
    """Every field's path and the position of its key or value, in the file's order."""
    stack: list[tuple[str, int | None]] = []  # of each open bracket its path, and in a list the next item's number
    position, pending = 0, ""
    while (position := _SPACE.match(text, position).end()) < len(text):  # type: ignore[union-attr]
        character = text[position]
        if character in "]}":
            stack.pop()
            position += 1
            continue
        if character in ",:":
            position += 1
            continue
        path, number = stack[-1] if stack else ("", None)
        if number is not None:
            pending = f"{path}[{number}]"
            stack[-1] = path, number + 1
            yield pending, position
        elif stack and not pending.startswith("\0"):
            key, after = scanstring(text, position + 1)
            where = f"{path}.{key}" if path else key
            yield where, position
            pending, position = "\0" + where, after
            continue
        here = pending.removeprefix("\0")
        pending = ""
        if character in "[{":
            stack.append((here, 0 if character == "[" else None))
            position += 1
        elif character == '"':
            position = scanstring(text, position + 1)[1]
        else:
            position = _SCALAR.match(text, position).end()  # type: ignore[union-attr]


def as_text(value: Any, indent: str = "") -> str:
    """JSON with what fits, and holds no further lists or objects, on one line."""
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    flat = json.dumps(value, ensure_ascii=False)
    items = value.values() if isinstance(value, dict) else value
    if len(indent) + len(flat) <= 110 and not any(isinstance(item, dict | list) for item in items):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        lines = [f"{json.dumps(str(key), ensure_ascii=False)}: {as_text(item, inner)}" for key, item in value.items()]
    else:
        lines = [as_text(item, inner) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(inner + line for line in lines) + f"\n{indent}{closing}"
