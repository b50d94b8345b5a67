"""Where a monotone function first comes to a level, to the last bit: the search behind a ladder's thresholds.

Floats of one dtype stand in the order of whole numbers (`ordinal`), so that an interval of them can be halved until
nothing lies between its ends. Most of the halving is spared by a table of the function and by interpolation; what the
search returns does not depend on either.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["first_above", "from_ordinal", "halved", "ordinal"]

TABLE = 2**14
"""Intervals of a table, evenly spaced among the floats."""
SCHEDULE: tuple[int | None, ...] = (None, None, None, 6, None, None, 4, 16)
"""Interpolations (None), and looks beside the better end, so many bits of floats away; then halves."""

_WHOLE = {torch.float32: torch.int32, torch.float64: torch.int64}

Holds = Callable[[Tensor], Tensor]


def ordinal(z: Tensor) -> Tensor:
    """Floats as whole numbers in the same order, int64; 0 stands for 0.

    >>> ordinal(torch.tensor([-1.4e-45, -0.0, 0.0, 1.4e-45])).tolist()
    [-1, 0, 0, 1]
    """
    bits = z.contiguous().view(_WHOLE[z.dtype]).long()
    return torch.where(bits >= 0, bits, _least(z.dtype) - bits)


def from_ordinal(number: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `ordinal`."""
    bits = torch.where(number >= 0, number, _least(dtype) - number)
    return bits.to(_WHOLE[dtype]).view(dtype)


def _least(dtype: torch.dtype) -> int:
    return torch.iinfo(_WHOLE[dtype]).min


def halved(out: Tensor, into: Tensor, holds: Holds, dtype: torch.dtype) -> Tensor:
    """Halve intervals of ordinals, at whose end ``out`` a condition does not hold and at whose end ``into`` it does.

    Returns:
        the ordinals of the first floats, seen from ``out``, for which it holds.
    """
    while True:
        middle = _middle(out, into)
        if bool(((middle == out) | (middle == into)).all()):
            return into
        up = holds(from_ordinal(middle, dtype))
        out, into = torch.where(up, out, middle), torch.where(up, middle, into)


def _middle(a: Tensor, b: Tensor) -> Tensor:
    """The mean, rounded down, without a sum that could be too large."""
    return (a & b) + ((a ^ b) >> 1)


def first_above(
    function: Callable[[Tensor], Tensor], wanted: Tensor, half: Tensor, out: Tensor, into: Tensor, dtype: torch.dtype
) -> Tensor:
    """The first floats, seen from ``out``, with ``f(z) + half >= wanted``; `halved` finds the same, more slowly.

    Args:
        function: f, elementwise, of floats ``[N]`` in ``dtype``.
        wanted: float64 ``[N]``.
        half: ``[N]``, in ``dtype``, in which the sum is rounded.
        out: ordinals ``[N]`` for which it does not hold.
        into: ordinals ``[N]`` for which it does; f is monotone in between.
        dtype: of the floats.
    """
    found, todo = into.clone(), torch.arange(len(wanted))

    def above(place: Tensor) -> Tensor:
        return (function(from_ordinal(place, dtype)) + half).double() - wanted

    out, into = _looked_up(function, above, wanted - half.double(), out, into, dtype)
    low, high = above(out), above(into)
    step = 0
    while True:
        place = _middle(out, into)
        done = (place == out) | (place == into)
        if 4 * int(done.sum()) >= len(done):
            found[todo[done]] = into[done]
            kept = (v[~done] for v in (todo, out, into, low, high, place, wanted, half))
            todo, out, into, low, high, place, wanted, half = kept
        if not len(todo):
            return found
        if step < len(SCHEDULE):
            bits = SCHEDULE[step]
            guess = _between(out, into, low, high, dtype) if bits is None else _beside(out, into, low, high, bits)
            inside = torch.where(out < into, (guess > out) & (guess < into), (guess < out) & (guess > into))
            place, step = torch.where(inside, guess, place), step + 1
        y = above(place)
        up = y >= 0
        low, high = torch.where(up, low, y), torch.where(up, y, high)
        out, into = torch.where(up, out, place), torch.where(up, place, into)


def _looked_up(
    function: Callable[[Tensor], Tensor],
    above: Callable[[Tensor], Tensor],
    level: Tensor,
    out: Tensor,
    into: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Narrower intervals, by a table of f, where what it says is true to the last bit."""
    for a in out.unique().tolist():  # a piece each
        mine = out == a
        b = int(into[mine][0])
        stride = (b >> TABLE.bit_length() - 1) - (a >> TABLE.bit_length() - 1)
        places = torch.cat([a + stride * torch.arange(TABLE), torch.tensor([b])])
        values = function(from_ordinal(places, dtype)).double().cummax(0).values
        at = torch.searchsorted(values, level[mine]).clamp_(1, TABLE)
        narrow_out, narrow_into = out.clone(), into.clone()
        narrow_out[mine], narrow_into[mine] = places[at - 1], places[at]
        below, reached = above(narrow_out) < 0, above(narrow_into) >= 0
        out = torch.where(mine & below, narrow_out, out)
        into = torch.where(mine & reached, narrow_into, into)
    return out, into


def _between(out: Tensor, into: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype) -> Tensor:
    """Where a straight line between the ends is 0."""
    a, b = from_ordinal(out, dtype).double(), from_ordinal(into, dtype).double()
    z = a + (b - a) * (low / (low - high))
    return ordinal(torch.where(z.isfinite(), z, a).to(dtype))


def _beside(out: Tensor, into: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """So many floats inside of the end that is nearer to the level."""
    way = torch.where(out < into, 2**bits, -(2**bits))
    return torch.where(-low < high, out + way, into - way)
