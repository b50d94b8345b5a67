"""``int(size)`` while a network is exported: a size that has a name keeps it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["whole_numbers"]

_NOT_THEIRS = frozenset({"torch", *sys.stdlib_module_names})
"""Packages that no network's own code is in."""


def _simpler(size: Any) -> Any:
    """⌊an/a⌋ as n: torch leaves it as it stands, and the sizes of the next layer are made of it, and so on."""
    if not isinstance(size, torch.SymInt) or len(size.node.expr.args) != 1:
        return size
    from sympy import Float, Integer
    from torch.utils._sympy import functions

    names = ("FloatTrueDiv", "IntTrueDiv", "TrueDiv", "ToFloat")
    kinds = tuple(getattr(functions, name) for name in names if hasattr(functions, name))
    inner = size.node.expr.args[0]
    inner = inner.replace(lambda term: isinstance(term, kinds), lambda term: term.args[0] / math.prod(term.args[1:]))
    inner = inner.xreplace({number: Integer(number) for number in inner.atoms(Float) if float(number).is_integer()})
    if inner.is_integer:
        size.node._expr, size.node._expr_ver = inner, -1  # what torch kept of it is of an older version
    return size


class _Whole(type):
    """``int(size)`` of a size that has a name keeps the name; all else is as with `int`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], (torch.SymInt, torch.SymFloat)):
            return _simpler(torch.sym_int(args[0]))
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
