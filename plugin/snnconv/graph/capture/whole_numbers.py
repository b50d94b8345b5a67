"""``int(size)`` while a network is exported: a size that has a name keeps it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["whole_numbers"]

_NOT_THEIRS = frozenset({"torch", *sys.stdlib_module_names})
"""Packages that no network's own code is in."""
_QUOTIENTS = ("FloatTrueDiv", "IntTrueDiv", "TrueDiv")
_ROUNDED = ("TruncToInt", "FloorToInt", "CeilToInt", "Trunc", "floor", "ceiling")
"""What torch has for ``a / b``, and for a fraction as a whole number, in one release or another."""


def _simpler(size: Any) -> Any:
    """⌊an/a⌋ as n: torch leaves it as it stands, and the sizes of the next layer are made of it, and so on.

    Of one quotient alone, which floating point gives exactly where it is whole: ``int(n / 49 * 49)`` may be n - 1.
    """
    if not isinstance(size, torch.SymInt):
        return size
    from sympy import Integer
    from torch.utils._sympy import functions

    quotients = tuple(getattr(functions, name) for name in _QUOTIENTS if hasattr(functions, name))
    rounded = size.node.expr
    if type(rounded).__name__ not in _ROUNDED or not isinstance(rounded.args[0], quotients):
        return size
    above, below = rounded.args[0].args
    if isinstance(above, functions.ToFloat):
        (above,) = above.args
    if above.is_integer and below.is_number and float(below).is_integer():
        whole = above / Integer(int(below))
        if whole.is_integer:
            size.node._expr, size.node._expr_ver = whole, -1  # what torch kept of it is of an older version
    return size


class _Whole(type):
    """``int(size)`` of a size that has a name keeps the name; all else is as with `int`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], (torch.SymInt, torch.SymFloat)):
            size = torch.sym_int(args[0])
            return _simpler(size) if isinstance(args[0], torch.SymFloat) else size
        return int(*args, **kwargs)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, int)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, int)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is int

    def __hash__(cls) -> int:
        return hash(int)


class _Int(int, metaclass=_Whole):
    """Stands for `int` where a network's code is (``int(windows.shape[0] / per_picture)`` of Swin)."""


@contextmanager
def whole_numbers(model: nn.Module) -> Iterator[None]:
    """``int(...)`` in the files of a network's classes leaves sizes their names: Python's own makes them numbers."""
    kinds = {kind.__module__ for module in model.modules() for kind in type(module).__mro__}
    own = [vars(sys.modules[name]) for name in kinds if name in sys.modules and name.split(".")[0] not in _NOT_THEIRS]
    shadowed = [space for space in own if "int" not in space]
    for space in shadowed:
        space["int"] = _Int
    try:
        yield
    finally:
        for space in shadowed:
            del space["int"]
