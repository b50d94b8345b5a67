"""Thresholds of a ladder: where the code of a function's value changes, found once by bisection.

A neuron that emits the bits of ``code = round(f(z)/q)`` need not know f: the code is constant between finitely many
values of z, and with these as thresholds every bit is one comparison.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .. import limits
from .function import Function, evaluate
from .ladder_search import first_above, from_ordinal, halved, ordinal
from .threshold import threshold_like

__all__ = ["Ladder", "ladder_thresholds"]


@dataclass(frozen=True)
class Ladder:
    """Thresholds on the membrane for one function, one least significant bit q and one number of bits.

    Attributes:
        values: ``[..., pieces, codes]`` in the membrane's dtype, the leading dimensions broadcasting against one step:
            of a piece on which f is monotone, z has a code of at least m (m = lowest + 1 … L) where
            ``direction * z >= values[..., m - lowest - 1]``.
        direction: ``[..., pieces]``: 1 where f rises on the piece, -1 where it falls.
        borders: ``[pieces - 1]``: z belongs to the piece behind as many borders as it is above.
        lowest: the smallest code, -L or 0.
        highest: L, the largest code.
        kept: what kernels make of it, by their name.
    """

    values: Tensor
    direction: Tensor
    borders: Tensor
    lowest: int
    highest: int
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    _moved: dict[torch.device, Ladder] = field(default_factory=dict, compare=False, repr=False)

    def to(self, device: torch.device) -> Ladder:
        """On a device; the values are those found on the CPU, bit for bit."""
        if device == self.values.device:
            return self
        if device not in self._moved:
            tensors = {name: getattr(self, name).to(device) for name in ("values", "direction", "borders")}
            self._moved[device] = replace(self, **tensors, kept={}, _moved={})
        return self._moved[device]

    def piece(self, z: Tensor) -> Tensor:
        """Which piece each z lies on, int64."""
        found = torch.zeros_like(z, dtype=torch.int64)
        for border in self.borders:
            found += z > border
        return found

    def bit(self, z: Tensor, code: Tensor, k: int) -> Tensor:
        """The bit of weight 2^k, for a prefix ``code`` of larger bits: 0, 1 or -1, in the dtype of z."""
        return self._bit(self._placed(z), code.long(), k)

    def bits(self, z: Tensor, timesteps: int) -> Iterator[Tensor]:
        """The bits of z, the largest first."""
        placed, code = self._placed(z), torch.zeros_like(z, dtype=torch.int64)
        for k in range(timesteps - 1, -1, -1):
            bit = self._bit(placed, code, k)
            code = code + bit.long() * 2**k
            yield bit

    def _placed(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``direction * z``, where the thresholds of its channel and piece begin, and whether its code is below 0."""
        lead, pieces, codes = self.values.shape[:-2], self.values.shape[-2], self.values.shape[-1]
        row = torch.arange(lead.numel(), device=z.device).reshape(lead) * pieces + self.piece(z)
        at, row = torch.take(self.direction, row) * z, row * codes - self.lowest - 1
        if not self.lowest:
            return at, row, torch.zeros_like(z, dtype=torch.bool)
        return at, row, at < torch.take(self.values, row)

    def _bit(self, placed: tuple[Tensor, Tensor, Tensor], code: Tensor, k: int) -> Tensor:
        at, row, negative = placed
        threshold = torch.take(self.values, row + torch.where(negative, code - 2**k + 1, code + 2**k))
        above, below = at >= threshold, at < threshold
        return (above & ~negative).to(at.dtype) - (below & negative).to(at.dtype)


# --- found once --------------------------------------------------------------------------------------------

_KEPT: OrderedDict[Any, Ladder] = OrderedDict()
_LOCK = threading.Lock()


def ladder_thresholds(
    function: Function,
    lsb: float | Tensor,
    timesteps: int,
    signed: bool,
    dtype: torch.dtype,
    ndim: int,
    channel_axis: int = 1,
) -> Ladder:
    """The ladder of ``code = clip(floor(f(z)/q + 1/2), -L or 0, L)``, in the neuron's own comparisons.

    Args:
        function: f; monotone between its ``extrema``.
        lsb: ``q``, a float or a tensor that broadcasts against one step.
        timesteps: number of bits, ``L = 2^timesteps - 1``.
        signed: whether codes below 0 are sent.
        dtype: of the membrane.
        ndim: dimensions of one step ``[B, ...]``.
        channel_axis: of one step, along which parameters of f run.

    Returns:
        the ladder, on the CPU; what was found is kept (`snnconv.limits.LADDERS` thresholds in all).

    Raises:
        ValueError: more thresholds than `snnconv.limits.LADDER`, or a function that states no extrema, or not all.

    Example:
        >>> class Halved:
        ...     extrema, signed, linear = (), True, False
        ...     def __call__(self, z, axis=1):
        ...         return 0.5 * z
        >>> ladder_thresholds(Halved(), 1.0, 1, True, torch.float32, 2).values.round()
        tensor([[[[-1.,  1.]]]])
    """
    q = torch.as_tensor(threshold_like(lsb, torch.empty(0, dtype=dtype)), dtype=dtype).detach().cpu()
    q = q.reshape([1] * (ndim - q.dim()) + list(q.shape))
    known: Any = function
    try:
        hash(function)
    except TypeError:
        known = id(function)
    key = (known, q.shape, q.contiguous().numpy().tobytes(), timesteps, signed, dtype, channel_axis % ndim)
    with _LOCK:
        found = _KEPT.get(key)
        if found is not None:
            _KEPT.move_to_end(key)
            return found
    found = _found(function, q, timesteps, signed, channel_axis % ndim)
    with _LOCK:
        _KEPT[key] = found
        while len(_KEPT) > 1 and sum(ladder.values.numel() for ladder in _KEPT.values()) > limits.LADDERS:
            _KEPT.popitem(last=False)
    return found


@torch.no_grad()
def _found(function: Function, q: Tensor, timesteps: int, signed: bool, axis: int) -> Ladder:
    if function.extrema is None:
        raise ValueError(
            f"{function!r} does not say where it turns: a ladder needs its extrema; or take realisation='function', "
            "which needs none"
        )
    highest = 2**timesteps - 1
    lowest = -highest if signed else 0
    kinds = torch.arange(lowest + 1, highest + 1)
    borders = torch.tensor([_below(z, q.dtype) for z in function.extrema], dtype=q.dtype)
    largest = torch.finfo(q.dtype).max
    low = torch.cat([torch.tensor([-largest], dtype=q.dtype), _next(borders)])
    high = torch.cat([borders, torch.tensor([largest], dtype=q.dtype)])
    ends = [evaluate(function, z.reshape([1] * q.dim() + [-1]), axis) for z in (low, high)]
    lead = torch.broadcast_shapes(q.shape, ends[0].shape[:-1])
    count = lead.numel() * len(low) * len(kinds)
    if count > limits.LADDER:
        raise ValueError(
            f"a ladder for {timesteps} bits and {lead.numel()} channels has {count} thresholds, more than "
            f"snnconv.limits.LADDER = {limits.LADDER}: take fewer bits, one threshold for all channels, or "
            "realisation='function'"
        )
    _check_monotone(function, low, high, q.dim(), axis)
    direction = torch.where(ends[1] >= ends[0], 1, -1).to(q.dtype).expand(*lead, len(low))
    half, reached = (q * 0.5).unsqueeze(-1).unsqueeze(-1), _reached(q, kinds).unsqueeze(-2)

    def holds(z: Tensor) -> Tensor:
        """Whether the code of z is at least m, by the neuron's own comparisons of ``f(z) + q/2``."""
        return (evaluate(function, z, axis) + half).double() >= reached

    # in the order along which f rises: the first z whose code is m or more
    rises = (direction > 0).unsqueeze(-1)
    shape = (*lead, len(low), len(kinds))
    first = torch.where(rises, low.reshape(-1, 1), high.reshape(-1, 1)).expand(shape).contiguous()
    last = torch.where(rises, high.reshape(-1, 1), low.reshape(-1, 1)).expand(shape).contiguous()
    up = direction > 0
    begin, end = torch.where(up, ends[0], ends[1]).unsqueeze(-1), torch.where(up, ends[1], ends[0]).unsqueeze(-1)
    always, ever = ((y + half).double() >= reached for y in (begin, end))
    there = ever & ~always
    out, into = ordinal(first), ordinal(last)
    if ends[0].shape[:-1].numel() == 1:  # one function for all channels: the thresholds that there are, in a row

        def f(z: Tensor) -> Tensor:
            return evaluate(function, z.reshape([1] * q.dim() + [-1]), axis).reshape(-1)

        wanted, halves = reached.expand(shape)[there], half.expand(shape)[there]
        into[there] = first_above(f, wanted, halves, out[there], into[there], q.dtype)
    else:
        into = halved(torch.where(there, out, into), into, holds, q.dtype)
    values = from_ordinal(into, q.dtype) * direction.unsqueeze(-1)
    values = torch.where(always, -torch.inf, torch.where(ever, values, torch.inf))
    return Ladder(values.contiguous(), direction.contiguous(), borders, lowest, highest)


def _reached(q: Tensor, codes: Tensor) -> Tensor:
    """The smallest ``v = y + q/2``, float64, whose spikes sum to ``codes`` or more.

    For m > 0 that is ``m*q``. A bit below 0 is sent where ``v < q - theta_k``, which rounds: a code of -j or less,
    j = p + 2^k with 2^k its last bit, where ``v < (q - theta_k) - p*q``.
    """
    j = 1 - codes
    last = torch.where(j > 0, j & -j, 1)
    exact = q.double().unsqueeze(-1)
    rounded = (q.unsqueeze(-1) - q.unsqueeze(-1) * last.to(q.dtype)).double()
    return torch.where(codes > 0, exact * codes, rounded - exact * (j - last))


def _check_monotone(function: Function, low: Tensor, high: Tensor, ndim: int, axis: int) -> None:
    """Refuse a function that turns where it does not say so."""
    near = torch.cat([torch.linspace(-30, 30, 6001), torch.logspace(-8, 30, 381), -torch.logspace(-8, 30, 381)])
    offsets = torch.cat([torch.logspace(-6, 0, 61), -torch.logspace(-6, 0, 61)])
    z = torch.cat([near, *(offsets + border for border in low[1:])]).double().sort().values
    for a, b in zip(low.double(), high.double(), strict=True):
        inside = z[(z >= a) & (z <= b)]
        y = function(inside.reshape([1] * ndim + [-1]), axis)
        steps = y.diff(dim=-1)
        noise = 1e-12 * (1 + y.abs()[..., 1:])
        up, down = (steps > noise).any(-1), (steps < -noise).any(-1)
        if bool((up & down).any()):
            raise ValueError(
                f"{function!r} both rises and falls between {float(a):g} and {float(b):g}, where it states no "
                "extremum: a ladder needs all of them in `extrema`; or take realisation='function', which needs none"
            )
        if bool(y.isnan().any()):
            raise ValueError(f"{function!r} is not a number somewhere between {float(a):g} and {float(b):g}")


def _below(z: float, dtype: torch.dtype) -> float:
    """The largest float of a dtype that is not above z."""
    found = torch.tensor(z, dtype=dtype)
    if float(found) > z:
        found = torch.nextafter(found, torch.tensor(-torch.inf, dtype=dtype))
    return float(found)


def _next(z: Tensor) -> Tensor:
    return torch.nextafter(z, torch.full_like(z, torch.inf))
