"""A kind of file as one record, and the table of all: one file of ``tests/fuzz/kinds`` each."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.changes import Changed

__all__ = ["KINDS", "Kind", "WrongError", "find", "find_or_skip"]

KINDS = tuple(sorted(path.stem for path in (Path(__file__).parent / "kinds").glob("[a-z]*.py")))
"""Names of all kinds."""


class WrongError(Exception):
    """A reader that sees by itself that what happened is wrong: the outcome's name, and what was said."""

    def __init__(self, name: str, said: object) -> None:
        super().__init__(str(said))
        self.name = name


def _nothing(value: Any) -> str:
    return ""


@dataclass(frozen=True)
class Kind:
    """How files of one kind are made, changed and read.

    Attributes:
        samples: file name → content, of files as the project or a user's programs write them.
        change: a changed file of a content.
        read: what a user gets out of a file; its name is that of the sample.
        refused: the errors by which it is refused in our words.
        odd: why what came out of a file should have been refused; empty where it is a fair reading.
        checksums: samples that hold checksums over all that is read: a changed byte is told.
        is_file: whether a refusal names the file.
        count: files of the short form of the test.
        needs: packages.
    """

    samples: Callable[[], Mapping[str, bytes]]
    change: Callable[[bytes, random.Random], Changed]
    read: Callable[[Path], Any]
    refused: tuple[type[Exception], ...]
    odd: Callable[[Any], str] = _nothing
    checksums: frozenset[str] = frozenset()
    is_file: bool = True
    count: int = 48
    needs: tuple[str, ...] = ()


def find(name: str) -> Kind:
    """The kind of this name.

    >>> find("picture").refused[0].__name__
    'UntrustedFileError'
    """
    found = importlib.import_module(f"tests.fuzz.kinds.{name}").KIND
    assert isinstance(found, Kind)
    return found


def find_or_skip(name: str) -> Kind:
    """The kind of this name; the test is skipped, with the package's name, where it needs one that is not here."""
    import pytest

    try:
        kind = find(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    for package in kind.needs:
        pytest.importorskip(package)
    return kind
