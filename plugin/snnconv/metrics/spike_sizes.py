"""Which values over time are spikes of their neurons' thresholds, and which are none."""

from __future__ import annotations

import torch
from torch import Tensor

from snnconv.methods.base import Method

__all__ = ["not_spikes"]


def not_spikes(
    seq: Tensor,
    amplitude: Tensor,
    method: Method,
    sizes: tuple[float, ...],
    pooled: bool = False,
    several: Tensor | None = None,
) -> str | None:
    """Say which value of ``[T, B, ...]`` is no spike, if any.

    What a max-pooling behind neurons hands on is the growth of a maximum of sums: it carries their
    rounding, and where spikes are weighted it may be any whole multiple of q. Where neurons of different thresholds are
    compared, it grows by numbers of any size.

    Args:
        seq: the values.
        amplitude: what a spike of the first step is worth at each place, ``[B, ...]`` or what broadcasts.
        method: the neurons' method.
        sizes: of its spikes, in ``amplitude``.
        pooled: whether a maximum stands between the neurons and here.
        several: where that maximum is over neurons of different thresholds.

    >>> from snnconv import methods
    >>> seq = torch.tensor([[[0.5, 0.4]], [[0.0, 0.5]]])
    >>> print(not_spikes(seq, torch.tensor(0.5), methods.IF(2), (1.0,)))
    1 of 4 values are neither 0 nor a spike; the first, 0.4 at step 1, should be 0 or ±0.5
    """
    size = seq.double().abs()
    unit = amplitude.double().abs().unsqueeze(0)
    tolerance = 16 * max(torch.finfo(seq.dtype).eps, torch.finfo(torch.float32).eps)
    tolerance *= 4 * method.levels if pooled else 1
    if method.coding == "sum":
        bits = torch.arange(len(seq), device=seq.device, dtype=torch.float64)
        last = torch.full_like(bits, method.timesteps - 1)
        unit = unit * (2.0 ** -(last if pooled else bits)).reshape(-1, *[1] * amplitude.dim())
    times = (size / unit.clamp(min=1e-300)).round()
    if pooled and method.coding == "sum":
        nearest = unit * times
    elif sizes == (1.0,):
        nearest = unit * times.clamp(max=1)
    else:
        known = torch.tensor((0.0, *sizes), dtype=torch.float64, device=seq.device)
        off = size / unit.clamp(min=1e-300) - known.reshape(-1, *[1] * size.dim())
        nearest = unit * known[off.abs().argmin(0)]
    wrong = (size - nearest).abs() > (tolerance * unit if pooled else tolerance * nearest)
    if several is not None:
        wrong &= ~several
    if not bool(wrong.any()):
        return None
    at = tuple(wrong.nonzero()[0].tolist())
    allowed = float(unit.expand_as(seq)[at])
    return (
        f"{int(wrong.sum())} of {seq.numel()} values are neither 0 nor a spike; the first, "
        f"{float(seq[at]):.6g} at step {at[0] + 1}, should be 0 or ±{allowed:.6g}"
    )
