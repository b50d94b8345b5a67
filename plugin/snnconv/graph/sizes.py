"""For inputs of which sizes a captured graph holds, as data: numbers, names of sizes, conditions on them.

``torch.export`` runs a network once, with sizes that have names. Where its code asks something of a size (``if height
> 32``) the graph is right for sizes of which the same is true, and says nothing of others.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from snnconv.graph.error import ConversionError

__all__ = ["LARGEST", "OPERATORS", "Condition", "Sizes"]

Condition = Any
"""A number, the name of a size, or a list ``[operator, condition, ...]``."""
LARGEST = 2**40


def _product(*values: Any) -> Any:
    return math.prod(values)


def _ceiled(a: Any, b: Any) -> Any:
    return -(-a // b)


OPERATORS: dict[str, tuple[Callable[..., Any], str]] = {
    "add": (lambda *values: sum(values), " + "), "mul": (_product, " · "), "floordiv": (operator.floordiv, " // "),
    "ceildiv": (_ceiled, " /↑ "), "mod": (operator.mod, " % "), "pow": (operator.pow, " ** "),
    "truediv": (operator.truediv, " / "), "max": (max, ", "), "min": (min, ", "), "floor": (math.floor, ""),
    "ceil": (math.ceil, ""), "trunc": (math.trunc, ""), "float": (float, ""), "eq": (operator.eq, " = "),
    "ne": (operator.ne, " ≠ "), "lt": (operator.lt, " < "), "le": (operator.le, " ≤ "), "gt": (operator.gt, " > "),
    "ge": (operator.ge, " ≥ "), "and": (lambda *values: all(values), " and "),
    "or": (lambda *values: any(values), " or "), "not": (operator.not_, "not "),
}  # fmt: skip
"""What a condition may be made of: by name, the function and its sign."""


@dataclass(frozen=True)
class Sizes:
    """For which inputs a graph holds.

    Attributes:
        dims: by input, for each dimension its size, the name of a size, or what it is computed from.
        ranges: by name of a size, the least and the largest (None: no bound) it may be.
        conditions: what else must be true.

    >>> Sizes({"x": ["n", 3, "h"]}, {"n": (1, None), "h": (2, 64)}).refusal({"x": (4, 3, 100)})
    'dimension 2 of x is 100, and was captured for 2 … 64'
    """

    dims: dict[str, list[Condition]]
    ranges: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        """Refuse inputs for which the graph says nothing.

        Raises:
            ConversionError: names the input, its dimension and what it may be.
        """
        shapes = {name: tuple(value.shape) for name, value in inputs.items()}
        if (why := self.refusal(shapes)) is not None:
            raise ConversionError(
                f"{why}: its forward takes other ways for other sizes. Convert it with calibration inputs of this size"
            )

    def refusal(self, shapes: Mapping[str, Sequence[int]]) -> str | None:
        """Why the graph does not hold for inputs of these shapes; None where it does."""
        if len(shapes) == len(self.dims) == 1:
            shapes = dict(zip(self.dims, shapes.values(), strict=True))
        values: dict[str, int] = {}
        places: dict[str, str] = {}
        later: list[tuple[str, int, Condition]] = []
        for name, dims in self.dims.items():
            if name not in shapes:
                continue
            if len(shapes[name]) != len(dims):
                return f"{name} has {len(shapes[name])} dimensions, and was captured with {len(dims)}"
            for axis, (size, wanted) in enumerate(zip(shapes[name], dims, strict=True)):
                place = f"dimension {axis} of {name}"
                if isinstance(wanted, str) and wanted not in values:
                    values[wanted], places[wanted] = size, place
                    low, high = self.ranges.get(wanted, (0, None))
                    if size < low or (high is not None and size > high):
                        least = f"{low} or more" if high is None else f"{low} … {high}"
                        return f"{place} is {size}, and was captured for {least}"
                else:
                    later.append((place, size, wanted))
        for place, size, wanted in later:
            if size != self._value(wanted, values):
                return f"{place} is {size}, and was captured for {self._words(wanted, places)}"
        for condition in self.conditions:
            if not self._value(condition, values):
                return f"the graph was captured for inputs with {self._words(condition, places)}"
        return None

    def _value(self, condition: Condition, values: Mapping[str, Any]) -> Any:
        if isinstance(condition, str):
            return values[condition]
        if not isinstance(condition, list):
            return condition
        function, _ = OPERATORS[condition[0]]
        try:
            return function(*(self._value(part, values) for part in condition[1:]))
        except ZeroDivisionError:
            return False

    def _words(self, condition: Condition, places: Mapping[str, str]) -> str:
        if isinstance(condition, str):
            return places.get(condition, condition)
        if not isinstance(condition, list):
            return str(condition)
        _, sign = OPERATORS[condition[0]]
        parts = [self._words(part, places) for part in condition[1:]]
        if len(parts) == 1 or not sign.strip(", "):
            return f"{condition[0]}({', '.join(parts)})" if condition[0] != "not" else f"not ({parts[0]})"
        return sign.join(f"({p})" if isinstance(c, list) else p for p, c in zip(parts, condition[1:], strict=True))

    # ------------------------------------------------------------------ files

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        ranges = {name: list(bounds) for name, bounds in self.ranges.items()}
        return {"dims": self.dims, "ranges": ranges, "conditions": self.conditions}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Sizes:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConversionError: what `to_dict` does not give.

        >>> Sizes.from_dict(Sizes({"x": ["n", 3]}, {"n": (1, None)}).to_dict()).ranges
        {'n': (1, None)}
        """
        try:
            dims, ranges, conditions = values["dims"], values["ranges"], values["conditions"]
            bounds = {name: (low, high) for name, (low, high) in ranges.items()}
            names = {part for part in _leaves([*dims.values()]) if isinstance(part, str)}
            fits = {*values} == {"dims", "ranges", "conditions"} and isinstance(conditions, list)
            fits &= all(isinstance(d, list) for d in dims.values()) and {*ranges} <= names
            numbers = [n for pair in bounds.values() for n in pair if n is not None]
            fits &= all(type(n) is int and 0 <= n <= LARGEST for n in numbers)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConversionError("sizes: they are no dims, ranges and conditions") from error
        free = _free(dims)
        for condition in (*(d for dim in dims.values() for d in dim), *conditions):
            _check(condition, free)
        if not fits:
            raise ConversionError("sizes: they are no dims, ranges and conditions")
        return Sizes({name: list(dim) for name, dim in dims.items()}, bounds, list(conditions))


def _free(dims: Mapping[str, list[Condition]]) -> set[str]:
    """Names that some dimension has by itself, so that every input tells what they are."""
    return {part for dim in dims.values() for part in dim if isinstance(part, str)}


def _leaves(condition: Condition) -> list[Any]:
    return [leaf for part in condition for leaf in _leaves(part)] if isinstance(condition, list) else [condition]


def _check(condition: Condition, names: set[str], depth: int = 0) -> None:
    """Refuse a condition that is no tree of known operators, names and numbers."""
    if isinstance(condition, list):
        if depth > 64 or len(condition) < 2 or condition[0] not in OPERATORS:
            raise ConversionError(f"sizes: {str(condition)[:60]} is no condition on sizes")
        if condition[0] == "pow" and not (type(condition[2:]) is list and condition[2:] in ([2], [3])):
            raise ConversionError("sizes: a power other than a square or a cube")
        for part in condition[1:]:
            _check(part, names, depth + 1)
    elif isinstance(condition, str):
        if condition not in names:
            raise ConversionError(f"sizes: no dimension is called {condition!r}")
    elif not (isinstance(condition, (int, float)) and abs(condition) <= LARGEST):
        raise ConversionError(f"sizes: {str(condition)[:60]} is no condition on sizes")
