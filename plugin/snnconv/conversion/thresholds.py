"""Thresholds from data: maximum, percentile, MSE-optimal, and local threshold balancing.

All but the last are statistics of the source network's activations: one pass finds each channel's maximum, a second
one its histogram, so that memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snnconv.conversion.ranks import Ranks
from snnconv.graph.source import broadcast
from snnconv.runtime.program import Program

__all__ = ["Histogram", "balanced_thresholds", "histograms", "mse_threshold", "percentile_threshold"]

BINS = 1024
Progress = Callable[[str, int, int], None]


@dataclass
class Histogram:
    """Histogram of one site's positive activations.

    Attributes:
        peak: largest activation of each channel ``[C]`` (or ``[1]``).
        counts: ``[C, bins]``, bins equally spaced over ``(0, peak]``.
        total: number of values of each channel, zeros included.
        sums: where asked for, shape of one input's activations → their sum over the inputs, element by element, and
            the number of these inputs. One shape, unless inputs differ in size.
    """

    peak: Tensor
    counts: Tensor
    total: int
    sums: dict[tuple[int, ...], tuple[Tensor, int]] = field(default_factory=dict)

    def add(self, y: Tensor) -> None:
        """Add activations ``[B, ...]`` to the sums."""
        shape = tuple(y.shape[1:])
        total, inputs = self.sums.get(shape, (0, 0))
        self.sums[shape] = total + y.sum(0, dtype=torch.promote_types(y.dtype, torch.float32)), inputs + len(y)

    def largest_mean(self, ranks: Ranks | None = None) -> float:
        """The largest of the elements' means over the inputs of all ``ranks``; of the shape that most inputs have."""
        ranks = ranks or Ranks()
        total, inputs = max(self.sums.values(), key=lambda entry: entry[1])
        most, least = ranks.largest(torch.tensor([total.numel(), -total.numel()])).tolist()
        if most == -least:  # else ranks differ in the size of their inputs
            total, inputs = ranks.total(total.clone()), int(ranks.total(torch.tensor(inputs)))
        return float(ranks.mean(total.max() / inputs))

    @property
    def centers(self) -> Tensor:
        """Bin centres ``[C, bins]``."""
        bins = self.counts.shape[1]
        return (torch.arange(bins, device=self.peak.device) + 0.5) / bins * self.peak[:, None]


def channels_first(z: Tensor, axis: int, per_channel: bool) -> Tensor:
    """``[C, N]`` view of one site's values (``[1, N]`` where channels share a threshold, or there are none).

    >>> channels_first(torch.zeros(2, 3, 4), 1, True).shape
    torch.Size([3, 8])
    >>> channels_first(torch.zeros(2), 1, True).shape
    torch.Size([1, 2])
    """
    if not per_channel or not 0 < (axis if axis >= 0 else axis + z.dim()) < z.dim():
        return z.reshape(1, -1)
    return z.movedim(axis, 0).reshape(z.shape[axis], -1)


def histograms(
    ann: Program,
    batches: Sequence[Tensor],
    per_channel: bool,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    elements: bool = False,
) -> dict[str, Histogram]:
    """Histograms of every site's activation over ``batches`` of all ``ranks`` (two passes of the source network).

    ``elements``: with the sums of each element, which take as much memory as the activations of one input.
    """
    ranks = ranks or Ranks()
    found: dict[str, Histogram] = {}

    def maxima(site: str, z: Tensor) -> Tensor:
        y = ann.sites[site].activation(z)
        if not y.numel():
            return y  # nothing was found that this part of the network would act on
        rows = channels_first(y, ann.sites[site].axis, per_channel)
        peak = rows.amax(1).clamp(min=0)
        if site in found:
            found[site].peak = torch.maximum(found[site].peak, peak)
        else:
            found[site] = Histogram(peak, torch.zeros(len(peak), BINS, device=z.device), 0)
        return y

    def counts(site: str, z: Tensor) -> Tensor:
        y = ann.sites[site].activation(z)
        if not y.numel():
            return y
        rows = channels_first(y, ann.sites[site].axis, per_channel)
        entry = found[site]
        channels = rows.shape[0]
        peak = entry.peak.to(torch.promote_types(entry.peak.dtype, torch.float32))  # 16 bits do not hold the scale
        scale = (BINS / peak.clamp(min=1e-12))[:, None]
        index = (rows * scale).ceil_().clamp_(0, BINS).long()  # bin 0 collects the zeros
        index += torch.arange(channels, device=rows.device)[:, None] * (BINS + 1)
        histogram = torch.bincount(index.flatten(), minlength=channels * (BINS + 1)).reshape(channels, BINS + 1)
        entry.counts += histogram[:, 1:]
        entry.total += rows.shape[1]
        if elements:
            entry.add(y)
        return y

    run_all(ann, batches, maxima, "thresholds: range", progress)
    for entry in found.values():
        entry.peak = ranks.largest(entry.peak)
    run_all(ann, batches, counts, "thresholds: histogram", progress)
    for entry in found.values():
        entry.counts = ranks.total(entry.counts)
        entry.total = int(ranks.total(torch.tensor(entry.total)))
    return found


def run_all(
    ann: Program,
    batches: Iterable[Tensor],
    neuron: Callable[[str, Tensor], Tensor],
    title: str,
    progress: Progress | None,
) -> None:
    """Run the network over all batches with ``neuron`` at its sites."""
    batches = list(batches)
    for index, batch in enumerate(batches):
        ann.static(batch, neuron)
        if progress:
            progress(title, index + 1, len(batches))


def revive(theta: Tensor) -> Tensor:
    """Give channels that never were active the mean threshold of the others (1 where all were silent).

    >>> revive(torch.tensor([0.0, 2.0, 4.0]))
    tensor([3., 2., 4.])
    """
    alive = theta > 0
    mean = theta[alive].mean() if bool(alive.any()) else theta.new_tensor(1.0)
    return torch.where(alive, theta, mean)


def max_threshold(histogram: Histogram) -> Tensor:
    """The largest activation of each channel."""
    return revive(histogram.peak)


def percentile_threshold(histogram: Histogram, percent: float) -> Tensor:
    """The value below which ``percent`` % of a channel's activations lie, zeros included."""
    silent = histogram.total - histogram.counts.sum(1, keepdim=True)
    cumulative = silent + histogram.counts.cumsum(1)
    reached = (cumulative >= percent / 100 * histogram.total).float().argmax(1)
    upper = (reached + 1) / histogram.counts.shape[1] * histogram.peak
    return revive(torch.where(cumulative[:, -1] > 0, upper, histogram.peak))


def mse_threshold(histogram: Histogram, levels: int, grid: int = 120, cap: float | None = None) -> Tensor:
    """Threshold that minimises the mean squared error of a quantiser with ``levels`` levels above zero.

    argmin_θ E[(y − clip(⌊yL/θ + 1/2⌋, 0, L)·θ/L)²], searched on ``grid`` fractions of the channel's maximum. The
    quantiser is what an IF neuron started at θ/2 computes in T = L steps of constant input.
    """
    best = torch.full_like(histogram.peak, torch.inf)
    theta = histogram.peak.clone()
    centers = histogram.centers
    for fraction in torch.linspace(1.1, 0.02, grid).tolist():
        candidate = histogram.peak * fraction
        if cap is not None:
            candidate = candidate.clamp(max=cap)
        lsb = (candidate / levels).clamp(min=1e-12)[:, None]
        quantised = (centers / lsb + 0.5).floor().clamp(0, levels) * lsb
        error = (histogram.counts * (centers - quantised) ** 2).sum(1)
        better = error < best
        best = torch.where(better, error, best)
        theta = torch.where(better, candidate, theta)
    return revive(theta)


def balanced_thresholds(
    ann: Program,
    batches: Sequence[Tensor],
    per_channel: bool,
    k: float = 1.0,
    max_batches: int = 2000,
    tolerance: float = 1e-3,
    progress: Progress | None = None,
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

    def update(site: str, z: Tensor) -> Tensor:
        axis = ann.sites[site].axis
        y = ann.sites[site].activation(z)
        rows = channels_first(y, axis, per_channel)
        old = theta.get(site, torch.zeros(rows.shape[0], dtype=rows.dtype, device=rows.device))
        new = old + 2 * k * ranks.mean((rows - old[:, None]).clamp_(min=0).mean(1))
        theta[site] = new
        change[site] = float((new - old).sum() / new.sum().clamp(min=1e-12))
        return torch.minimum(y, broadcast(new, y.dim(), axis))

    used = 0
    while used < max_batches:
        largest = 0.0
        for batch in batches:
            ann.static(batch, update)
            used += 1
            largest = max(largest, max(change.values(), default=0.0))
            if progress:
                progress("threshold balancing", used, max_batches)
            if used == max_batches:
                break
        if largest < tolerance:
            break
    return {site: revive(value) for site, value in theta.items()}, used
