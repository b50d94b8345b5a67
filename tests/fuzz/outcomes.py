"""What reading a changed file ended in, by name."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import snnconv
from tests.fuzz.samples import Sample, inputs

__all__ = ["GOOD", "SECONDS", "Outcome", "read"]

SECONDS = 10
"""What takes longer hangs."""
GOOD = ("refused", "equal", "another network")
"""Outcomes that are right. "Another network" has a digest of its own: whoever computed that meant the change."""
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


def read(path: Path, sample: Sample, expected: Tensor, sealed: bool) -> Outcome:
    """Load a file, run what comes out, and name what happened.

    Args:
        path: the changed file.
        sample: what it was before.
        expected: what that gives for `inputs`.
        sealed: whether its digest was computed anew.
    """
    _ran.clear()
    try:
        with limited():
            found = _read(path, sample, expected, sealed)
    except Late:
        return Outcome("hang", f"over {SECONDS} s")
    return Outcome("code run", ", ".join(_ran)) if _ran else found


def _read(path: Path, sample: Sample, expected: Tensor, sealed: bool) -> Outcome:
    try:
        snn = snnconv.load(path, model=None if sample.traced else sample.model())
    except snnconv.ConversionError as error:
        return Outcome("refused" if str(path) in str(error) else "no file named", str(error))
    except Exception as error:
        return Outcome("raw", f"load: {type(error).__name__}: {error}")
    try:
        y = snn(inputs())
    except snnconv.ConversionError as error:
        # a network of other inputs is asked for what it does not take
        fits = snn.input_spec.get("shape") == list(inputs().shape[1:]) and snn.input_spec.get("floating")
        return Outcome("refused late" if fits else "refused", str(error))
    except Exception as error:
        return Outcome("raw", f"call: {type(error).__name__}: {error}")
    if isinstance(y, Tensor) and y.shape == expected.shape and torch.equal(y, expected):
        return Outcome("equal")
    if not sealed:
        return Outcome("different", "other values, and the file said nothing")
    if any(not bool(torch.isfinite(v).all()) for v in torch.utils._pytree.tree_leaves(y) if isinstance(v, Tensor)):
        return Outcome("NaN", "finite inputs gave NaN or infinite values")
    return Outcome("another network")
