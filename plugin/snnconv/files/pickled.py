"""What a checkpoint of mmengine may ask for beside tensors, each made of parts that can do nothing else.

The real ones can be turned against their user: ``getattr`` reaches anything, ``numpy.ndarray(1, 'O', data)`` takes
eight bytes of the file for the address of an object, and ``numpy.dtype`` accepts a state of such fields. The ones here
make arrays and scalars of numbers and text, and know four methods of one class.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any, NoReturn

import numpy as np
from numpy._core import multiarray

__all__ = ["HISTORY", "LogHistory", "safe_globals"]

HISTORY = "mmengine.logging.history_buffer"
STATISTICS = ("min", "max", "current", "mean")
CODES = "?bhilqpBHILQPefdgFDGSU"  # numpy's codes of truth values, numbers and text


class LogHistory:
    """Takes the place of mmengine's history of the log, where it is of no interest."""

    min = max = current = mean = None

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


def safe_globals(history: type | None) -> list[Any]:
    """Pairs (object, name under which a checkpoint asks for it) for ``torch.serialization.add_safe_globals``.

    Args:
        history: what mmengine's ``HistoryBuffer`` is: that class, :class:`LogHistory`, or ``None`` to refuse it.
    """
    allowed: list[Any] = [
        (_Array, "numpy.ndarray"),
        (_Type, "numpy.dtype"),
        (_statistic, "builtins.getattr"),
        (_no_bytes, "builtins.bytes"),
    ]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):  # since numpy 2, and before
        allowed += [(_reconstruct, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    if history is not None:
        allowed.append((history, f"{HISTORY}.HistoryBuffer"))
    return allowed


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(f"GLOBAL {what} is not allowed")  # in the words of torch's own refusals


class _Type:
    """``numpy.dtype`` of numbers or text."""

    def __init__(self, code: Any, *options: Any) -> None:
        self.dtype = np.dtype(code) if isinstance(code, str) else np.dtype("O")
        if self.dtype.char not in CODES:
            _refuse(f"numpy.dtype({code!r})")

    def __setstate__(self, state: Any) -> None:
        _, order, *rest = state
        if rest[:3] != [None, None, None]:  # parts of a structure
            _refuse("numpy.dtype.__setstate__")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """``numpy.ndarray`` that only a pickled state fills; pickled again, it is a plain one."""

    __array_priority__ = -1.0  # what is computed from it and a plain array is plain

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("numpy.ndarray.__new__")

    def __setstate__(self, state: Any) -> None:
        version, shape, kind, fortran, data = state
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            _refuse("numpy.ndarray.__setstate__")
        super().__setstate__((version, shape, kind.dtype, fortran, data))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _reconstruct(subtype: Any, shape: Any, code: Any) -> np.ndarray:
    """``numpy._core.multiarray._reconstruct``: an empty array whose state follows."""
    if subtype is not _Array:
        _refuse("numpy._core.multiarray._reconstruct")
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(kind: Any, data: Any) -> Any:
    """``numpy._core.multiarray.scalar``."""
    if not isinstance(kind, _Type) or not isinstance(data, bytes):
        _refuse("numpy._core.multiarray.scalar")
    return multiarray.scalar(kind.dtype, data)


def _no_bytes() -> bytes:
    """``bytes()``, the data of an empty array."""
    return b""


def _statistic(owner: Any, name: Any) -> Any:
    """``getattr`` for the statistics of a ``HistoryBuffer``."""
    real = getattr(sys.modules.get(HISTORY), "HistoryBuffer", LogHistory)
    if name not in STATISTICS or not (owner is LogHistory or owner is real):
        _refuse("builtins.getattr")
    return getattr(owner, name)
