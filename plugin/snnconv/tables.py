"""Tables of records by their names: what is registered in them, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import TypeVar

__all__ = ["add", "named", "unknown"]

T = TypeVar("T")


def add(table: MutableMapping[str, T], name: str, record: T, what: str, *, replace: bool = False) -> T:
    """Put a record into a table; returns it. The same one may be put in again.

    Args:
        table: of records by their names.
        name: the record's.
        record: it.
        what: the records are, in one word.
        replace: take the place of another one of this name.

    Raises:
        ValueError: the name is another record's.

    >>> add({"if": 1}, "if", 2, "neuron")
    Traceback (most recent call last):
    ValueError: there is a neuron 'if' already: choose another name, or pass replace=True
    """
    if not replace and table.get(name, record) is not record:
        raise ValueError(f"there is a {what} {name!r} already: choose another name, or pass replace=True")
    table[name] = record
    return record


def named(table: Mapping[str, T], name: str, what: str, more: str = "") -> T:
    """The record of a name.

    Raises:
        ValueError: there is none; the message lists those that are, and says ``more``.

    >>> named({"if": 1, "srp": 2}, "hal", "neuron")
    Traceback (most recent call last):
    ValueError: unknown neuron 'hal'; known: if, srp
    """
    if name not in table:
        raise unknown(name, table, what, more)
    return table[name]


def unknown(name: str, known: Iterable[str], what: str, more: str = "") -> ValueError:
    """The error that a name is none of those that are known."""
    return ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}{more and '; ' + more}")
