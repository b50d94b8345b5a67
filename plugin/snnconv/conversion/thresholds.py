"""Thresholds from data: maximum, percentile, MSE-optimal, and local threshold balancing.

All but the last are statistics of the source network's activations, read off their histograms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from snnconv.conversion.histogram import SMALLEST, Histogram, channels_first
from snnconv.conversion.ranks import Ranks
from snnconv.graph.source import broadcast
from snnconv.methods.base import Method
from snnconv.progress import ProgressFn
from snnconv.runtime.program import Program

__all__ = [
    "Seen",
    "balanced_thresholds",
    "max_threshold",
    "mse_threshold",
    "percentile_threshold",
    "power_threshold",
    "revive",
]

GRID = 120
SLAB = 2**20
"""Levels of all channels and candidates that are looked up at once."""


def revive(theta: Tensor) -> Tensor:
    """Give channels that never were active the mean threshold of the others (1 where all were silent).

    >>> revive(torch.tensor([0.0, 2.0, 4.0]))
    tensor([3., 2., 4.])
    """
    alive = theta > SMALLEST  # of what is smaller a level is no number any more
    mean = theta[alive].mean() if bool(alive.any()) else theta.new_tensor(1.0)
    return torch.where(alive, theta, mean)


def max_threshold(histogram: Histogram) -> Tensor:
    """The largest activation of each channel."""
    return revive(histogram.peak)


def percentile_threshold(histogram: Histogram, percent: float, signed: bool = False) -> Tensor:
    """The value below which ``percent`` % of a channel's activations lie, zeros included; ``signed``: of magnitudes."""
    counts = histogram.magnitudes(signed).double()
    silent = histogram.total - counts.sum(1, keepdim=True)
    cumulative = silent + counts.cumsum(1)
    reached = (cumulative >= percent / 100 * histogram.total).to(torch.uint8).argmax(1)
    upper = ((reached + 1) * histogram.width).to(histogram.peak).minimum(histogram.peak)
    return revive(torch.where(cumulative[:, -1] > 0, upper, histogram.peak))


def mse_threshold(
    histogram: Histogram, levels: int, grid: int = GRID, cap: float | None = None, signed: bool = False
) -> Tensor:
    """Threshold that minimises the mean squared error of a quantiser with ``levels`` levels above zero.

    argmin_θ E[(y − clip(⌊yL/θ + 1/2⌋, 0, L)·θ/L)²], searched on ``grid`` fractions of the channel's maximum. The
    quantiser is what an IF neuron started at θ/2 computes in T = L steps of constant input.

    Over sorted bins the error has a closed form: with q = θ/L, and N_k and S_k the number and the sum of the values
    that reach level k, those from (k − 1/2)·q on, it is Σy² − 2q·Σ_k S_k + q²·Σ_k (2k − 1)·N_k.

    Args:
        histogram: of the activations.
        levels: L.
        grid: number of candidates.
        cap: largest θ.
        signed: levels −L … L; the quantiser is symmetric, so that magnitudes tell.

    >>> h = Histogram.of(torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0)))
    >>> round(float(mse_threshold(h, 15)), 2)  # even values up to 1: a step more than half a level is cut off
    0.96
    """
    counts, candidates = histogram.magnitudes(signed).double(), _candidates(histogram, grid, cap)
    bins = counts.shape[1]
    # in widths of a bin: centres are b + 1/2
    steps = candidates.double() / (levels * histogram.width.double().clamp(min=1e-300)[:, None])
    centers = torch.arange(bins, device=counts.device, dtype=counts.dtype) + 0.5
    errors = (_errors_by_bin if levels > bins else _errors_by_level)(counts, centers, steps, levels)
    return _best(histogram, signed, candidates, errors)


def power_threshold(
    histogram: Histogram, thresholds: int, grid: int = GRID, cap: float | None = None, signed: bool = False
) -> Tensor:
    """Largest threshold θ with the least squared error of a step that says 0 or one of θ/2^k, k = 0 … n−1.

    What a multi-threshold neuron says of a constant input in its first step: the largest θ/2^k that is at most 4/3 of
    it. With a_k the sizes from the smallest on, and N_k and S_k the number and the sum of the values from ¾·a_k on, the
    error is Σy² − 2·Σ_k (a_k − a_{k−1})·S_k + Σ_k (a_k² − a_{k−1}²)·N_k.

    Args:
        histogram: of the activations.
        thresholds: n.
        grid, cap, signed: as of `mse_threshold`.

    >>> h = Histogram.of(torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0)))
    >>> round(float(power_threshold(h, 4)), 2)
    0.84
    """
    counts, candidates = histogram.magnitudes(signed).double(), _candidates(histogram, grid, cap)
    number, total, squares = _sums(counts)
    power = squares[:, :1]
    top = candidates.double() / histogram.width.double().clamp(min=1e-300)[:, None]
    errors = power.expand(top.shape).clone()
    for k in range(thresholds):
        size = top * 2.0 ** (k + 1 - thresholds)
        below = size / 2 if k else torch.zeros_like(size)
        first = (0.75 * size - 0.5).ceil_().clamp_(0, counts.shape[1]).long()
        errors += (size**2 - below**2) * number.gather(1, first) - 2 * (size - below) * total.gather(1, first)
    return _best(histogram, signed, candidates, errors)


def _candidates(histogram: Histogram, grid: int, cap: float | None) -> Tensor:
    """Thresholds ``[C, grid]`` to choose from: fractions of each channel's largest value, up to ``cap``."""
    candidates = torch.stack([histogram.peak * fraction for fraction in torch.linspace(1.1, 0.02, grid).tolist()], 1)
    return candidates if cap is None else candidates.clamp(max=cap)


def _best(histogram: Histogram, signed: bool, candidates: Tensor, errors: Tensor) -> Tensor:
    best = errors.argmin(1, keepdim=True)
    theta = torch.where(histogram.magnitudes(signed).any(1), candidates.gather(1, best)[:, 0], histogram.peak)
    return revive(theta)


def _sums(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, sum and squares ``[C, bins + 1]`` of the values from each bin on, in widths of a bin.

    They are whole numbers, halves and quarters, so that nothing is rounded.
    """
    centers = torch.arange(counts.shape[1], device=counts.device, dtype=counts.dtype) + 0.5
    found = []
    for values in (counts, counts * centers, counts * centers**2):
        before = torch.zeros(len(values), values.shape[1] + 1, dtype=values.dtype, device=values.device)
        torch.cumsum(values, 1, out=before[:, 1:])
        found.append(before[:, -1:] - before)
    return found[0], found[1], found[2]


def _errors_by_level(counts: Tensor, centers: Tensor, steps: Tensor, levels: int) -> Tensor:
    """Squared errors ``[C, candidates]`` from the numbers and sums of the values that reach each level.

    Infinite where what is cut off alone amounts to more than the whole error of another candidate.
    """
    number, total, power = _sums(counts)
    row = torch.arange(len(counts), device=counts.device)[:, None] * number.shape[1]
    k = torch.arange(1, levels + 1, device=counts.device, dtype=counts.dtype)
    errors = torch.full_like(steps, torch.inf)
    wanted = _not_cut_off(number, total, power, steps, levels)
    begins, q = row.expand(steps.shape)[wanted], steps[wanted]
    found = []
    for begin, step in zip(begins.split(SLAB // levels), q.split(SLAB // levels), strict=True):
        first = (step[:, None] * (k - 0.5) - 0.5).ceil_().clamp_(0, counts.shape[1]).long().add_(begin[:, None])
        reached, sums = number.take(first), total.take(first)
        squares = power.take(begin)
        found.append(squares - 2 * step * sums.sum(1) + step**2 * (reached @ (2 * k - 1)))
    errors[wanted] = torch.cat(found)
    return errors


def _not_cut_off(number: Tensor, total: Tensor, power: Tensor, steps: Tensor, levels: int) -> Tensor:
    """Candidates whose error may be the least: values above θ err by what is above, those below by q/2 at most."""
    theta = steps * levels
    above = (theta - 0.5).ceil().clamp_(0, number.shape[1] - 1).long()
    more, sums, squares = (v.gather(1, above) for v in (number, total, power))
    cut = squares - 2 * theta * sums + theta**2 * more
    most = cut + steps**2 / 4 * (number[:, :1] - more)
    return cut <= most.amin(1, keepdim=True) + 1e-9 * power[:, :1]


def _errors_by_bin(counts: Tensor, centers: Tensor, steps: Tensor, levels: int) -> Tensor:
    """The same, bin by bin: for more levels than there are bins."""
    found = []
    for q in steps.clamp(min=1e-300).unbind(1):
        quantised = (centers / q[:, None] + 0.5).floor_().clamp_(max=levels) * q[:, None]
        found.append((counts * (centers - quantised) ** 2).sum(1))
    return torch.stack(found, 1)


@dataclass(frozen=True)
class Seen:
    """A site's activations on the calibration data, of which a statistic makes θ of each channel ``[C]``.

    Attributes:
        histogram: of the activations, channel by channel.
        cap: largest θ; None: there is none.
        signed: whether the neuron says values of both signs, so that magnitudes count.

    >>> seen = Seen(Histogram.of(torch.tensor([[0.5, 2.0], [0.0, 3.0]])))
    >>> seen.largest()
    tensor([0.5000, 3.0000])
    """

    histogram: Histogram
    cap: float | None = None
    signed: bool = False

    def largest(self) -> Tensor:
        """The largest activation."""
        return max_threshold(self.histogram)

    def percentile(self, percent: float) -> Tensor:
        """The value below which so many percent of the activations lie."""
        return percentile_threshold(self.histogram, percent, self.signed)

    def least_error(self, method: Method) -> Tensor:
        """Where the quantiser that the method's neuron is has the least squared error."""
        if method.powers is not None:
            return power_threshold(self.histogram, method.powers, cap=self.cap, signed=self.signed)
        return mse_threshold(self.histogram, method.levels, cap=self.cap, signed=self.signed)


def balanced_thresholds(
    ann: Program,
    batches: Sequence[Tensor],
    per_channel: bool,
    k: float = 1.0,
    max_batches: int = 2000,
    tolerance: float = 1e-3,
    progress: ProgressFn | None = None,
    ranks: Ranks | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Local threshold balancing (arXiv 2409.03368): θ_c ← θ_c + 2k·mean(max(z_c − θ_c, 0)), batch after batch.

    Every layer sees the clipped output min(relu(z), θ) of the one before. Runs until no site's mean relative update
    over a round of the batches exceeds ``tolerance``, at most ``max_batches`` batches.

    Returns:
        thresholds by site, and the number of batches used.
    """
    ranks = ranks or Ranks()
    theta: dict[str, Tensor] = {}
    change: dict[str, float] = {}

    def update(weight: float, site: str, z: Tensor) -> Tensor:
        axis = ann.sites[site].axis
        y = ann.sites[site].activation(z)
        rows = channels_first(y, axis, per_channel)
        old = theta.get(site, torch.zeros(rows.shape[0], dtype=rows.dtype, device=rows.device))
        new = old + 2 * k * ranks.mean((rows - old[:, None]).clamp_(min=0).mean(1), weight)
        theta[site] = new
        change[site] = float((new - old).sum() / new.sum().clamp(min=1e-12))
        return torch.minimum(y, broadcast(new, y.dim(), axis))

    used, aligned = 0, ranks.aligned(batches)
    while used < max_batches:
        largest = 0.0
        for batch, weight in aligned:
            ann.static(batch, partial(update, weight))
            used += 1
            largest = max(largest, max(change.values(), default=0.0))
            if progress:
                progress("threshold balancing", used, max_batches)
            if used == max_batches:
                break
        if largest < tolerance:
            break
    return {site: revive(value) for site, value in theta.items()}, used
