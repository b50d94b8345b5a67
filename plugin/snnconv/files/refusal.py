"""The error of every reader of files from strangers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["UntrustedFileError", "brief", "first_line", "refused_as", "regular"]

LONGEST = 400
"""Characters of what a message repeats of a file: a damaged one may hold any text anywhere."""


class UntrustedFileError(ValueError):
    """A file that is damaged, is something else, or asks for code to be run; the message names it."""


def brief(said: object, most: int = LONGEST) -> str:
    """What was said, without its middle where it is longer than ``most`` characters.

    >>> brief("abcdefghij" * 3, most=20)
    'abcdefgh ... hij'
    """
    text = str(said)
    return text if len(text) <= most else f"{text[: most // 2 - 2]} ... {text[-(most // 4 - 2) :]}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, in short; its type where it says nothing.

    >>> first_line(ValueError("no such layer\\n  at line 3")), first_line(StopIteration())
    ('no such layer', 'StopIteration')
    """
    return brief(str(error).strip().partition("\n")[0]) or type(error).__name__


def regular(path: str | os.PathLike[str]) -> None:
    """Refuse a pipe, which would be waited for, a socket, and a device, which may never end.

    Raises:
        OSError: there is nothing of this name.
        UntrustedFileError: it is one of these.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UntrustedFileError(f"{path} is a pipe, a socket or a device; give a file")


@contextmanager
def refused_as(kind: type[Exception]) -> Iterator[None]:
    """Raise what a reader refuses as ``kind``, the error of whoever asked for the file.

    Raises:
        Exception: of this ``kind``, with the refusal's words.

    >>> with refused_as(LookupError):
    ...     raise UntrustedFileError("a.json: line 1, column 2: not JSON")
    Traceback (most recent call last):
    ...
    LookupError: a.json: line 1, column 2: not JSON
    """
    try:
        yield
    except UntrustedFileError as error:
        raise kind(str(error)) from error
