"""What reading a changed file ended in, by name."""

from __future__ import annotations

import resource
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.fuzz.kind import Kind, WrongError

__all__ = ["GOOD", "MEMORY", "SECONDS", "Outcome", "equal", "expected_of", "read", "watch_code"]

SECONDS = 10
"""What takes longer hangs."""
MEMORY = 2**30
"""Bytes that reading one file may add to the process."""
LONGEST = 1200
"""Characters of a refusal; more is not a sentence or two of ours."""
GOOD = ("refused", "equal", "another")
"""Outcomes that are right. "Another" is what a file says whose author computed its checksums anew, or that has none."""
_CODE = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
)
_ran: list[str] = []


class Outcome(NamedTuple):
    """The name of an outcome, and what was said."""

    name: str
    detail: str = ""


class Late(BaseException):
    """Not an error that anything else would catch."""


def watch_code() -> None:
    """Note, from now on, whatever this process starts."""
    sys.addaudithook(lambda event, args: _ran.append(event) if event in _CODE else None)


@contextmanager
def limited(seconds: int = SECONDS) -> Iterator[None]:
    """Stop what takes longer, where signals can."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def expected_of(kind: Kind, folder: Path) -> dict[str, Any]:
    """What reading each sample gives; ``None`` for one that is refused as it is."""
    found: dict[str, Any] = {}
    for name, content in kind.samples().items():
        path = folder / name
        path.write_bytes(content)
        try:
            found[name] = kind.read(path)
        except kind.refused:
            found[name] = None
        path.unlink()
    return found


def read(kind: Kind, path: Path, expected: Any, meant: bool) -> Outcome:
    """Read a file as a user would, and name what happened.

    Args:
        kind: of file.
        path: the changed file, under the name of its sample.
        expected: what reading the sample gives.
        meant: whether its checksums were computed anew.
    """
    _ran.clear()
    before = _peak()
    try:
        with limited():
            found = _read(kind, path, expected, meant)
    except Late:
        return Outcome("hang", f"over {SECONDS} s")
    if _ran:
        return Outcome("code run", ", ".join(_ran))
    return found if _peak() - before < MEMORY else Outcome("memory", found.name)


def _read(kind: Kind, path: Path, expected: Any, meant: bool) -> Outcome:
    try:
        got = kind.read(path)
    except WrongError as error:
        return Outcome(error.name, str(error))
    except kind.refused as error:
        said = str(error)
        if len(said) > LONGEST:
            return Outcome("long words", said)
        return Outcome("refused" if not kind.is_file or str(path) in said else "no file named", said)
    except Exception as error:
        return Outcome("raw", f"{type(error).__name__}: {error}")
    if equal(got, expected):
        return Outcome("equal")
    if path.name in kind.checksums and not meant:
        return Outcome("different", "other values, and the file said nothing")
    problem = kind.odd(got)
    return Outcome("odd", problem) if problem else Outcome("another")


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same, tensors in them included.

    >>> equal({"x": [torch.ones(2)]}, {"x": [torch.ones(2)]}), equal([1], [1.5])
    (True, False)
    """
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        same = isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return same and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def not_finite(value: Any) -> str:
    """Why what finite inputs gave is none of a network's answers: NaN or infinite numbers in it."""
    leaves = torch.utils._pytree.tree_leaves(value)
    bad = any(isinstance(v, Tensor) and not bool(torch.isfinite(v).all()) for v in leaves)
    return "finite inputs gave NaN or infinite values" if bad else ""
