"""A forward that asks for numbers, to decide by them which way to go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snnconv.graph.source import ConversionError

__all__ = ["Asked"]

_TRUTHS = frozenset({"__bool__", "equal", "allclose", "is_nonzero", "__contains__"})
_MEMORY = frozenset({"numpy", "__array__", "data_ptr", "__dlpack__"})


class Asked:
    """What a forward asks for over time, and what it is told.

    What is the same at every step is told. Of a number that changes, the largest one is told, and a second run that
    is told the smallest one has to make the same calls: then every comparison is decided the same way at every step.

    Args:
        keeps: whether such a second run can be made.

    Attributes:
        asks: whether anything was asked that is not true or false.
        first: where a number that changes was first asked for, and how.
        calls: what the forward called from then on, with what besides tensors.
        pick: which of the two numbers is told.

    >>> asked = Asked(True)
    >>> asked.answered("layer", "item", [3.0, 3.0]), asked.answered("layer", "item", [1.0, 2.0, 1.5])
    ((3.0, [3.0]), (2.0, [1.0, 2.0]))
    """

    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps
        self.asks = False
        self.first: tuple[str, str] | None = None
        self.calls: list[Any] = []
        self.pick: Callable[[Any], Any] = max

    def note(self, name: str) -> None:
        """A question about what neurons put out."""
        self.asks |= name not in _TRUTHS

    def answered(self, where: str, name: str, found: list[Any]) -> tuple[Any, list[Any]]:
        """What the forward is told of the values of all steps so far, and what to remember of them.

        Raises:
            ConversionError: there is no one answer.
        """
        if name not in _MEMORY and all(v == found[0] for v in found):
            return found[0], found[:1]
        self.first = self.first or (where, name)
        if name in _MEMORY or not self.keeps or not all(type(v) in (int, float) and v == v for v in found):
            raise self.refusal()
        ends = [min(found), max(found)]
        return self.pick(ends), ends

    def refusal(self) -> ConversionError:
        """Why no one way through the network is right."""
        where, name = self.first or ("the network", "item")
        return ConversionError(
            f"{where}: its forward asks for the value of a tensor ({name}, as `if`, float() and .item() do) that "
            "changes from step to step, so that no one way through the network is right for all steps; choose by "
            "torch.where, or convert with methods.ShiftedThreshold, which sends sums"
        )
