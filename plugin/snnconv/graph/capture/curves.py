"""Functions of one number that are put together from lines and one rounding, as data: what a ReLU is, however written.

A :class:`Curve` is y(x) = a·⌊h(x)⌋ + p(x), h and p made of finitely many lines (``Lines``); most have no rounding.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from snnconv.graph.activation import ReLU

__all__ = ["Curve", "Lines", "Quantiser", "Unknown", "same_number"]

TOLERANCE = 1e-6  # of numbers that were computed from 32-bit ones
Line = tuple[float, float]  # slope, offset


class Unknown(Exception):
    """The result is no function of this form."""


def same_number(a: float, b: float) -> bool:
    """Equal up to the rounding of 32-bit numbers.

    >>> same_number(1.0, 1.0 + 1e-8), same_number(0.0, 1e-3)
    (True, False)
    """
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) + 1e-12


@dataclass(frozen=True)
class Lines:
    """A function made of lines: on one piece between each two neighbouring points, with a value at each point.

    >>> x = Lines.identity()
    >>> x.where(x.compare(Lines.constant(0.0), ">"), Lines.constant(0.0)).plain()
    ((0.0,), ((0.0, 0.0), (1.0, 0.0)))
    """

    points: tuple[float, ...]
    values: tuple[float, ...]
    pieces: tuple[Line, ...]

    @staticmethod
    def identity() -> Lines:
        """y = x."""
        return Lines((), (), ((1.0, 0.0),))

    @staticmethod
    def constant(value: float) -> Lines:
        """y = value."""
        return Lines((), (), ((0.0, float(value)),))

    def number(self) -> float | None:
        """Its value, where it is constant."""
        return self.pieces[0][1] if not self.points and self.pieces[0][0] == 0 else None

    def at(self, x: float) -> float:
        """y(x)."""
        place = bisect.bisect_left(self.points, x)
        if place < len(self.points) and self.points[place] == x:
            return self.values[place]
        slope, offset = self.pieces[place]
        return slope * x + offset

    def cut(self, points: tuple[float, ...]) -> Lines:
        """The same with more points."""
        every = tuple(sorted({*self.points, *points}))
        inside = [_inside(every, i) for i in range(len(every) + 1)]
        pieces = tuple(self.pieces[bisect.bisect_left(self.points, x)] for x in inside)
        return Lines(every, tuple(map(self.at, every)), pieces)

    def combined(
        self, other: Lines, line: Callable[[Line, Line], Line], value: Callable[[float, float], float]
    ) -> Lines:
        """Two functions put together, piece by piece and point by point."""
        a, b = self.cut(other.points), other.cut(self.points)
        pieces = tuple(map(line, a.pieces, b.pieces))
        return Lines(a.points, tuple(map(value, a.values, b.values)), pieces)

    def __add__(self, other: Lines) -> Lines:
        return self.combined(other, lambda a, b: (a[0] + b[0], a[1] + b[1]), lambda a, b: a + b)

    def __mul__(self, other: Lines) -> Lines:
        def line(a: Line, b: Line) -> Line:
            if a[0] and b[0]:
                raise Unknown("a product of two lines")
            return a[0] * b[1] + b[0] * a[1], a[1] * b[1]

        return self.combined(other, line, lambda a, b: a * b)

    def __neg__(self) -> Lines:
        return self * Lines.constant(-1.0)

    def compare(self, other: Lines, sign: str) -> Lines:
        """1 where ``self`` > (``>=``, ``<``, ``<=``) ``other``, else 0."""
        if sign in ("<", "<="):
            return other.compare(self, sign.replace("<", ">"))
        gap = self + -other
        crossings = []
        for i, (slope, offset) in enumerate(gap.pieces):
            if slope:
                x = -offset / slope + 0.0
                low = gap.points[i - 1] if i else -math.inf
                high = gap.points[i] if i < len(gap.points) else math.inf
                if low < x < high:
                    crossings.append(x)
        gap = gap.cut(tuple(crossings))
        values = [0.0 if x in crossings else v for x, v in zip(gap.points, gap.values, strict=True)]
        above = [gap.pieces[i][0] * x + gap.pieces[i][1] for i, x in enumerate(_middles(gap.points))]
        equal = sign == ">="
        pieces = tuple((0.0, float(y > 0 or (equal and y == 0))) for y in above)
        return Lines(gap.points, tuple(float(v > 0 or (equal and v == 0)) for v in values), pieces)

    def where(self, condition: Lines, other: Lines) -> Lines:
        """``self`` where the condition is 1, ``other`` where it is 0."""
        if any(slope or offset not in (0.0, 1.0) for slope, offset in condition.pieces):
            raise Unknown("a condition that is not true or false")
        return condition * self + (Lines.constant(1.0) + -condition) * other

    def maximum(self, other: Lines) -> Lines:
        """The larger of both."""
        return self.where(self.compare(other, ">="), other)

    def minimum(self, other: Lines) -> Lines:
        """The smaller of both."""
        return self.where(self.compare(other, "<="), other)

    def plain(self) -> tuple[tuple[float, ...], tuple[Line, ...]] | None:
        """Points and pieces, without points at which nothing changes; ``None`` where it jumps."""
        points: list[float] = []
        pieces = [self.pieces[0]]
        for x, value, piece in zip(self.points, self.values, self.pieces[1:], strict=True):
            before, after = pieces[-1][0] * x + pieces[-1][1], piece[0] * x + piece[1]
            if not (same_number(before, after) and same_number(before, value)):
                return None
            if not all(map(same_number, pieces[-1], piece)):
                points.append(x)
                pieces.append(piece)
        return tuple(points), tuple(pieces)


def _inside(points: tuple[float, ...], i: int) -> float:
    """A number inside the piece ``i`` between points."""
    if not points:
        return 0.0
    if i == 0:
        return points[0] - 1.0
    return points[-1] + 1.0 if i == len(points) else (points[i - 1] + points[i]) / 2


def _middles(points: tuple[float, ...]) -> list[float]:
    return [_inside(points, i) for i in range(len(points) + 1)]


@dataclass(frozen=True)
class Curve:
    """y(x) = height·⌊stairs(x)⌋ + lines(x).

    Attributes:
        lines: p.
        stairs: h, or ``None`` without a rounding.
        height: a.
    """

    lines: Lines
    stairs: Lines | None = None
    height: float = 1.0

    def __add__(self, other: Curve) -> Curve:
        lines = self.lines + other.lines
        if other.stairs is None:
            return replace(self, lines=lines)
        if self.stairs is None:
            return replace(other, lines=lines)
        raise Unknown("a sum of two roundings")

    def __mul__(self, other: Curve) -> Curve:
        if self.stairs is None and other.stairs is None:
            return Curve(self.lines * other.lines)
        factor = other.number() if other.stairs is None else self.number()
        one = self if other.stairs is None else other
        if factor is None:
            raise Unknown("a product with a rounding")
        return Curve(one.lines * Lines.constant(factor), one.stairs, one.height * factor)

    def __neg__(self) -> Curve:
        return self * Curve(Lines.constant(-1.0))

    def number(self) -> float | None:
        """Its value, where it is constant."""
        return self.lines.number() if self.stairs is None else None

    def floor(self) -> Curve:
        """⌊y⌋."""
        if self.stairs is not None:
            raise Unknown("a rounding of a rounding")
        return Curve(Lines.constant(0.0), self.lines)

    def bounded(self, low: float | None, high: float | None) -> Curve:
        """min(max(y, low), high); of a rounding, by bounds that are steps of it: ⌊min(max(h, m), n)⌋, m and n whole."""
        if self.stairs is None:
            lines = self.lines
            lines = lines if low is None else lines.maximum(Lines.constant(low))
            return Curve(lines if high is None else lines.minimum(Lines.constant(high)))
        base = self.lines.number()
        if base is None or self.height <= 0:
            raise Unknown("bounds of a slanted rounding")
        stairs = self.stairs
        for bound, bind in ((low, Lines.maximum), (high, Lines.minimum)):
            if bound is not None:
                step = (bound - base) / self.height
                if not same_number(step, round(step)):
                    raise Unknown("a bound between two steps")
                stairs = bind(stairs, Lines.constant(round(step)))
        return replace(self, stairs=stairs)

    def relu(self) -> ReLU | None:
        """The ReLU, with or without a cap, that this is; ``None`` where it is none.

        >>> Curve(Lines.identity()).bounded(0.0, 6.0).relu()
        ReLU(cap=6.0)
        """
        lines = None if self.stairs is not None else self.lines.plain()
        if lines is None or not 1 <= len(lines[0]) <= 2 or not same_number(lines[0][0], 0.0):
            return None
        rest, pieces = lines[0][1:], lines[1]
        wanted = [(0.0, 0.0), (1.0, 0.0), *[(0.0, cap) for cap in rest]]
        if not all(map(_same_line, pieces, wanted)):
            return None
        return ReLU(*rest)

    def quantiser(self) -> Quantiser | None:
        """The quantised ReLU that this is; ``None`` where it is none.

        >>> x = Curve(Lines.identity()).bounded(0.0, 2.0)
        >>> four, half = Curve(Lines.constant(4.0)), Curve(Lines.constant(0.5))
        >>> ((x * half * four + half).floor() * half).quantiser()
        Quantiser(threshold=2.0, levels=4, shift=0.0)
        """
        base = self.lines.number()
        lines = None if self.stairs is None else self.stairs.plain()
        if lines is None or base is None or not same_number(base, 0.0) or self.height <= 0:
            return None
        points, pieces = lines
        if len(points) != 2 or pieces[0][0] or pieces[2][0]:
            return None
        (slope, offset), lowest, highest = pieces[1], pieces[0][1], pieces[2][1]
        levels = math.floor(highest + TOLERANCE)
        if math.floor(lowest + TOLERANCE) != 0 or levels < 1 or not same_number(slope * self.height, 1.0):
            return None
        shift = self.height * (offset - 0.5)
        return Quantiser(self.height * levels, levels, 0.0 if abs(shift) <= TOLERANCE * self.height else shift)


@dataclass(frozen=True)
class Quantiser:
    """θ/L·clip(⌊(x + b)·L/θ + 1/2⌋, 0, L): threshold θ, levels L, shift b."""

    threshold: float
    levels: int
    shift: float


def _same_line(a: Line, b: Line) -> bool:
    return same_number(a[0], b[0]) and same_number(a[1], b[1])
