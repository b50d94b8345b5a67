"""What pickles from strangers may ask for, each made of parts that can do nothing else.

A checkpoint of mmengine asks for arrays and its history of the log beside tensors: :func:`safe_globals`.

The real ones can be turned against their user: ``getattr`` reaches anything, ``numpy.ndarray(1, 'O', data)`` takes
eight bytes of the file for the address of an object, and ``numpy.dtype`` accepts a state of such fields. The ones here
make arrays and scalars of numbers and text, and know four methods of one class.
"""

from __future__ import annotations

import pickle
import sys
from typing import IO, Any, NoReturn

import numpy as np

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]

__all__ = ["HISTORY", "LogHistory", "array_of", "name_of", "read_inert", "safe_globals"]

HISTORY = "mmengine.logging.history_buffer"
STATISTICS = ("min", "max", "current", "mean")
CODES = "?bhilqpBHILQPefdgFDGSU"  # numpy's codes of truth values, numbers and text
NUMBERS = {f"{kind}{size}" for kind in "fiu" for size in (4, 8)}


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
            _refuse(f"numpy.dtype({code!r:.200})")

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


# --- pickles of which a few numbers are wanted -------------------------------------------------------------


class _Inert:
    """Stands for whatever class or function a pickle names: remembers what it is given and does nothing."""

    name = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        self = object.__new__(cls)
        self.args, self.state = args, None  # type: ignore[attr-defined]
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return _Inert(self, *args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    add = append


class _InertReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return type("_Inert", (_Inert,), {"name": f"{module}.{name}"})


def read_inert(file: IO[bytes]) -> Any:
    """A pickle in which everything that it names is replaced by what does nothing: nothing of the file is run.

    Such an object has what it was called with as ``args``, and the state that the pickle gives it as ``state``.

    >>> import io
    >>> name_of(read_inert(io.BytesIO(pickle.dumps(print))))
    'builtins.print'
    """
    return _InertReader(file).load()


def name_of(value: Any) -> str:
    """What an object of :func:`read_inert` stands for; empty for any other."""
    kind = value if isinstance(value, type) else type(value)
    return str(kind.name) if issubclass(kind, _Inert) else ""


def array_of(value: Any) -> np.ndarray:
    """The array of numbers, in double precision, that an object of :func:`read_inert` stands for, from its bytes.

    Raises:
        Exception: of any type, where it stands for something else.
    """
    name = name_of(value)
    if name.endswith("._reconstruct"):
        _, shape, kind, fortran, data = value.state
    elif name.endswith("._frombuffer"):
        data, kind, shape, order = value.args
        fortran = order == "F"
    else:
        raise TypeError(f"{name or type(value).__name__} is no array")
    code = kind.args[0]
    if code not in NUMBERS or fortran:
        raise TypeError(f"an array of {code!r:.200}")
    order = kind.state[1] if kind.state else "="
    return np.frombuffer(data, np.dtype(code).newbyteorder(order)).reshape(shape).astype(np.float64)
