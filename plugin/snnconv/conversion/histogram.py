"""Histograms of a network's activations, in one pass.

The range of a channel's bins is a power of two that doubles whenever a larger value comes, bins being merged by pairs:
no value is read twice, and what is found does not depend on the order of the batches, nor on which process saw which of
them. Of an input with more than `VALUES` values a channel, evenly spaced ones are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconv.conversion.ranks import Ranks
from snnconv.graph.source import ConversionError
from snnconv.progress import ProgressFn
from snnconv.runtime.program import Program
from snnconv.runtime.values import NeuronFn

__all__ = ["Histogram", "channels_first", "histograms", "run_all"]

BINS = 2048
VALUES = 2**12
"""Values of one channel, of one input, that are counted: evenly spaced ones where there are more."""
SMALLEST = 2.0**-100


def channels_first(z: Tensor, axis: int, per_channel: bool) -> Tensor:
    """``[C, N]`` view of one site's values (``[1, N]`` where channels share a threshold, or there are none).

    >>> channels_first(torch.zeros(2, 3, 4), 1, True).shape
    torch.Size([3, 8])
    >>> channels_first(torch.zeros(2), 1, True).shape
    torch.Size([1, 2])
    """
    if not per_channel or not _has_axis(z, axis):
        return z.reshape(1, -1)
    return z.movedim(axis, 0).reshape(z.shape[axis], -1)


@dataclass
class Histogram:
    """Histogram of one site's activations, of both signs where there are negative ones.

    Attributes:
        peak: largest magnitude of each channel ``[C]`` (or ``[1]``).
        scale: ``[C]``, a power of two not below ``peak``: upper edge of the last bin (0 for a silent channel).
        bins: ``[C, 1 + B]``, counts of zeros and of values in B equal bins over ``(0, scale]``; or ``[C, B + 1 + B]``,
            where there are negative values, which lie in front of the zeros in the same way.
        sums: where asked for, shape of one input's activations → their sum over the inputs, element by element, and
            the number of these inputs. One shape, unless inputs differ in size.

    >>> h = Histogram.of(torch.tensor([[0.5, -2.0], [0.0, 3.0]]))
    >>> h.peak, h.scale, h.total
    (tensor([0.5000, 3.0000]), tensor([0.5000, 4.0000]), 2)
    >>> h.magnitudes(signed=False).sum(1), h.magnitudes(signed=True).sum(1)
    (tensor([1, 1]), tensor([1, 2]))
    """

    peak: Tensor
    scale: Tensor
    bins: Tensor
    sums: dict[tuple[int, ...], tuple[Tensor, int]] = field(default_factory=dict)

    @classmethod
    def empty(cls, like: Tensor, channels: int) -> Histogram:
        """One that has seen nothing, of ``channels`` on the device of ``like``."""
        wide = torch.promote_types(like.dtype, torch.float32)  # 16 bits do not hold the scale
        bins = torch.zeros(channels, 1 + BINS, dtype=torch.int32, device=like.device)
        return cls(like.new_zeros(channels), like.new_zeros(channels, dtype=wide), bins)

    @classmethod
    def of(cls, y: Tensor, axis: int = 1, per_channel: bool = True) -> Histogram:
        """Of the values ``[B, ...]`` alone."""
        found = cls.empty(y, len(channels_first(y, axis, per_channel)))
        found.add(y, axis, per_channel)
        return found

    def add(self, y: Tensor, axis: int = 1, per_channel: bool = True, signed: bool = True) -> None:
        """Add values ``[B, ...]``; not ``signed``: none is negative, which need not be looked for.

        Raises:
            ValueError: one of them is NaN or infinite.
        """
        rows = _rows(y, axis, per_channel)
        peak = _of_inputs(rows, torch.maximum).amax(1)
        below = -_of_inputs(rows, torch.minimum).amin(1) if signed else None
        peak = peak if below is None else torch.maximum(peak, below)
        if not bool(torch.isfinite(peak).all()):
            raise ValueError("a value is NaN or infinite")
        if not self.signed and below is not None and bool((below > 0).any()):
            self.bins = F.pad(self.bins, (BINS, 0))
        self.peak = torch.maximum(self.peak, peak)
        self._hold(self.peak)
        index = _sampled(rows) * (BINS / self.scale.clamp(min=SMALLEST))[:, None]
        index = index.abs().ceil_().copysign_(index) if self.signed else index.ceil_()
        channels, width = self.bins.shape
        starts = torch.arange(channels, dtype=torch.int32, device=y.device) * width + self._zero
        places = _in_memory_order(index.to(torch.int32).add_(starts[:, None]))
        one_each = torch.ones((), dtype=torch.int32, device=y.device).expand(places.shape)
        self.bins.view(-1).index_add_(0, places, one_each)

    @property
    def signed(self) -> bool:
        """Whether there are negative values."""
        return self._zero > 0

    @property
    def total(self) -> int:
        """Number of values of each channel that were counted, zeros included."""
        return int(self.bins[0].sum())

    @property
    def width(self) -> Tensor:
        """Width of a bin ``[C]``."""
        return self.scale / BINS

    def magnitudes(self, signed: bool) -> Tensor:
        """Counts ``[C, B]`` of the values' magnitudes; without ``signed`` a negative value counts as zero."""
        positive = self.bins[:, self._zero + 1 :]
        return positive + self.bins[:, : self._zero].flip(1) if signed and self.signed else positive

    @property
    def _zero(self) -> int:
        """Place of the zeros among a channel's bins."""
        return self.bins.shape[1] - 1 - BINS

    def _hold(self, peak: Tensor) -> None:
        """Double ranges until they hold ``peak``, merging bins by pairs."""
        mantissa, exponent = torch.frexp(peak.to(self.scale.dtype))
        wanted = torch.ldexp(torch.where(mantissa > 0.5, 1.0, 0.5), exponent).to(self.scale.dtype)
        wanted = wanted.where(peak > 0, 0)
        self.scale = torch.where(self.scale > 0, self.scale, wanted)
        while bool((low := self.scale < wanted).any()):
            merged = self.bins[low]
            outward = merged[:, self._zero + 1 :], merged[:, : self._zero].flip(1)
            halves = [F.pad(v.unflatten(1, (-1, 2)).sum(2, dtype=v.dtype), (0, v.shape[1] // 2)) for v in outward]
            self.bins[low] = torch.cat([halves[1].flip(1), merged[:, self._zero, None], halves[0]], 1)
            self.scale = torch.where(low, 2 * self.scale, self.scale)

    def gather(self, ranks: Ranks) -> None:
        """What all ``ranks`` have seen together."""
        if ranks.size == 1:
            return
        self.peak = ranks.largest(self.peak)
        self._hold(self.peak)
        if int(ranks.largest(torch.tensor(int(self.signed)))) and not self.signed:
            self.bins = F.pad(self.bins, (BINS, 0))
        self.bins = ranks.total(self.bins)

    def merged(self) -> Histogram:
        """All channels as one."""
        peak = self.peak.max().expand_as(self.peak).contiguous()
        whole = Histogram(peak, self.scale.clone(), self.bins.clone())
        whole._hold(peak)
        return Histogram(peak[:1], whole.scale[:1], whole.bins.sum(0, keepdim=True, dtype=self.bins.dtype))

    def to(self, device: torch.device | str | None) -> Histogram:
        """The same on another device."""
        return Histogram(self.peak.to(device), self.scale.to(device), self.bins.to(device), self.sums)

    def add_elements(self, y: Tensor) -> None:
        """Add activations ``[B, ...]`` to the sums."""
        shape = tuple(y.shape[1:])
        total, inputs = self.sums.get(shape, (0, 0))
        self.sums[shape] = total + y.sum(0, dtype=torch.promote_types(y.dtype, torch.float32)), inputs + len(y)

    def largest_mean(self, ranks: Ranks | None = None) -> float:
        """The largest of the elements' means over the inputs of all ``ranks``; of the shape that most inputs have."""
        ranks = ranks or Ranks()
        total, inputs = max(self.sums.values(), key=lambda entry: entry[1], default=(self.peak[:0], 0))
        most, least = ranks.largest(torch.tensor([total.numel(), -total.numel()])).tolist()
        if most == -least:  # else ranks differ in the size of their inputs
            total, inputs = ranks.total(total.clone()), int(ranks.total(torch.tensor(inputs)))
            return float(ranks.mean(total.max() / inputs))
        counted = ranks.total(torch.tensor(float(inputs)))
        return float(ranks.total(total.max().cpu() if inputs else torch.zeros(())) / counted)


def histograms(
    ann: Program,
    batches: Iterable[Tensor],
    per_channel: bool,
    progress: ProgressFn | None = None,
    ranks: Ranks | None = None,
    elements: bool = False,
) -> dict[str, Histogram]:
    """Histograms of every site's activation over ``batches`` of all ``ranks`` (one pass of the source network).

    ``elements``: with the sums of each element, which take as much memory as the activations of one input.

    Raises:
        ConversionError: an activation that is NaN or infinite; the message names it.
    """
    ranks = ranks or Ranks()
    found: dict[str, Histogram] = {}

    def count(site: str, z: Tensor) -> Tensor:
        place = ann.sites[site]
        y = place.activation(z)
        if not y.numel():
            return y  # nothing was found that this part of the network would act on
        if site not in found:
            channels = y.shape[place.axis] if per_channel and _has_axis(y, place.axis) else 1
            found[site] = Histogram.empty(y, channels)
        try:
            found[site].add(y, place.axis, per_channel, place.function.signed)
        except ValueError as error:
            raise ConversionError(
                f"{site}: its activation is NaN or infinite on the calibration data; snnconv.compare(model, model, x) "
                "shows where it begins: mend the weights, or leave such inputs out"
            ) from error
        if elements:
            found[site].add_elements(y)
        return y

    run_all(ann, batches, count, "thresholds: histogram", progress)
    return _gathered(found, list(ann.sites), ranks)


def _gathered(found: dict[str, Histogram], sites: Sequence[str], ranks: Ranks) -> dict[str, Histogram]:
    """What all ``ranks`` have seen, at the same sites on each: one may have had no input that came to a site."""
    if ranks.size == 1:
        return found
    like = next((entry.peak for entry in found.values()), torch.zeros(()))
    whole: dict[str, Histogram] = {}
    for name in sites:
        channels = int(ranks.largest(torch.tensor(len(found[name].peak) if name in found else 0)))
        if channels:
            whole[name] = found[name] if name in found else Histogram.empty(like, channels)
            whole[name].gather(ranks)
    return whole


def run_all(ann: Program, batches: Iterable[Tensor], neuron: NeuronFn, title: str, progress: ProgressFn | None) -> None:
    """Run the network over all batches with ``neuron`` at its sites."""
    batches = list(batches)
    for index, batch in enumerate(batches):
        ann.static(batch, neuron)
        if progress:
            progress(title, index + 1, len(batches))


def _has_axis(z: Tensor, axis: int) -> bool:
    return 0 < (axis if axis >= 0 else axis + z.dim()) < z.dim()


def _rows(y: Tensor, axis: int, per_channel: bool) -> Tensor:
    """Activations as ``[B, C, N]``, N positions of each input."""
    if not per_channel or not _has_axis(y, axis):
        return y.reshape(len(y) if y.dim() > 1 else 1, 1, -1)
    return y.movedim(axis, 1).flatten(2) if y.dim() > 2 else y.unsqueeze(2)


def _of_inputs(rows: Tensor, of_two: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Largest or smallest of ``[B, ...]`` over the inputs, halves at once: amax over a dimension takes much longer."""
    while len(rows) > 1:
        half = len(rows) // 2
        one = of_two(rows[:half], rows[half : 2 * half])
        rows = torch.cat([one, rows[2 * half :]]) if len(rows) % 2 else one
    return rows[0]


def _sampled(rows: Tensor) -> Tensor:
    """Evenly spaced positions of ``[B, C, N]``, where a channel has more than `VALUES` in one input."""
    positions = rows.shape[2]
    step = -(-positions // VALUES)
    while step > 1 and math.gcd(step, positions) > 1:  # all columns of a map, not some
        step += 1
    return rows[:, :, ::step] if step > 1 else rows


def _in_memory_order(index: Tensor) -> Tensor:
    """All elements of a dense tensor as they lie, whatever its layout."""
    strides = index.stride()
    return index.permute(sorted(range(index.dim()), key=lambda d: -strides[d])).reshape(-1)
