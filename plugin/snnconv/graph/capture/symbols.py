"""From the sizes that ``torch.export`` gave names to, and what it asked of them, to plain data (`Sizes`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snnconv.graph.sizes import LARGEST, Condition, Sizes

__all__ = ["sizes_of"]

_KNOWN = {
    "Add": "add", "Mul": "mul", "FloorDiv": "floordiv", "CleanDiv": "floordiv", "CeilDiv": "ceildiv", "Mod": "mod",
    "PythonMod": "mod", "Pow": "pow", "PowByNatural": "pow", "IntTrueDiv": "truediv", "FloatTrueDiv": "truediv",
    "Max": "max", "Min": "min", "FloorToInt": "floor", "CeilToInt": "ceil", "TruncToInt": "trunc", "ToFloat": "float",
    "Equality": "eq", "Unequality": "ne", "StrictLessThan": "lt", "LessThan": "le", "StrictGreaterThan": "gt",
    "GreaterThan": "ge", "And": "and", "Or": "or", "Not": "not",
}  # fmt: skip
"""Sympy's and PyTorch's classes, and what they are called in a condition."""


class _Unknown(Exception):
    """An expression that no condition can say."""


def sizes_of(inputs: Mapping[str, Any], batches: set[str]) -> Sizes:
    """For which sizes of inputs an exported graph holds.

    A size of which something is asked that no `Condition` can say is taken for fixed.

    Args:
        inputs: what the graph was captured with, by name: tensors of ``torch.export``'s kind.
        batches: names of those whose dimension 0 is the batch, which may be 1, too.
    """
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    symbolic: list[Any] = [d for v in tensors.values() for d in v.shape if isinstance(d, torch.SymInt)]
    if not symbolic:
        return Sizes({name: [int(d) for d in v.shape] for name, v in tensors.items()})
    space = symbolic[0].node.shape_env
    ranges: dict[str, tuple[int, int | None]] = {}
    conditions: list[Condition] = []
    fixed: dict[str, int] = {}
    for guard in space.guards:
        try:
            conditions.append(_condition(guard.expr))
        except _Unknown:
            fixed |= {str(s): int(space.var_to_val[s]) for s in guard.expr.free_symbols if s in space.var_to_val}
    dims: dict[str, list[Condition]] = {}
    for name, value in tensors.items():
        dims[name] = []
        size: Any
        for size in value.shape:
            if not isinstance(size, torch.SymInt):
                dims[name].append(int(size))
                continue
            try:
                dims[name].append(_condition(size.node.expr))
            except _Unknown:
                dims[name].append(_hint(size))
            for symbol in size.node.expr.free_symbols:
                ranges[str(symbol)] = _range(space.var_to_range[symbol])
    for name in batches & {*dims}:
        first = dims[name][0] if dims[name] else None
        if isinstance(first, str) and ranges[first][0] == 2:  # one is as good: the caller tries it
            ranges[first] = (1, ranges[first][1])
            conditions = [_of_two(condition, first) for condition in conditions]
    ranges |= {name: (size, size) for name, size in fixed.items() if name in ranges}
    free = {d for dim in dims.values() for d in dim if isinstance(d, str)}
    for name, value in tensors.items():  # what is computed of a size that no input has by itself: a number
        for axis, dim in enumerate(dims[name]):
            if not _names(dim) <= free:
                dims[name][axis] = _hint(value.shape[axis])
    conditions = [c for c in conditions if _names(c) <= free]
    return Sizes(dims, {name: bounds for name, bounds in ranges.items() if name in free}, conditions)


def _of_two(condition: Condition, batch: str) -> Condition:
    """A condition in which a batch of one is taken for one of two: what strides torch asks for differs between them."""
    if isinstance(condition, list):
        return [condition[0], *(_of_two(part, batch) for part in condition[1:])]
    return ["max", condition, 2] if condition == batch else condition


def _hint(size: Any) -> int:
    """What a size was when the graph was captured."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)  # type: ignore[arg-type]


def _names(condition: Condition) -> set[str]:
    if isinstance(condition, list):
        return {name for part in condition[1:] for name in _names(part)}
    return {condition} if isinstance(condition, str) else set()


def _range(bounds: Any) -> tuple[int, int | None]:
    low, high = bounds.lower, bounds.upper
    largest = int(high) if getattr(high, "is_Integer", isinstance(high, int)) else None
    return max(0, int(low)), largest if largest is not None and largest < LARGEST else None


def _condition(expression: Any) -> Condition:
    kind = type(expression).__name__
    if getattr(expression, "is_Symbol", False):
        return str(expression)
    if getattr(expression, "is_Integer", False):
        return max(-LARGEST, min(int(expression), LARGEST))
    if getattr(expression, "is_Float", False):
        return float(expression)
    if getattr(expression, "is_Rational", False):
        return ["truediv", int(expression.p), int(expression.q)]
    if kind in ("BooleanTrue", "BooleanFalse"):
        return int(bool(expression))
    if kind not in _KNOWN:
        raise _Unknown(kind)
    parts = [_condition(part) for part in expression.args]
    if kind in ("Pow", "PowByNatural") and parts[1] not in (2, 3):
        raise _Unknown("a power")
    return [_KNOWN[kind], *parts]
