"""Unevenness error: spike counts that depart from what the same current, spread evenly, would give."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.graph.source import ConversionError, Site, broadcast
from snnconv.inputs import Progress, network_batches
from snnconv.metrics.comparing import reference_program
from snnconv.network import SpikingNetwork
from snnconv.report import table

__all__ = ["CATEGORIES", "LayerUnevenness", "Unevenness", "unevenness"]

CATEGORIES = ("wrongly active", "too many", "too few", "wrongly silent")
"""0 = m < n; 0 < m < n; 0 < n < m; n = 0 < m, for n spikes where m are right."""
REFERENCES = ("input", "source")


@dataclass(frozen=True)
class LayerUnevenness:
    """One layer.

    Attributes:
        name: its site.
        values: neurons times inputs.
        counts: category → how many of them.
    """

    name: str
    values: int
    counts: dict[str, int]

    @property
    def shares(self) -> dict[str, float]:
        """Category → part of all values."""
        return {category: count / max(self.values, 1) for category, count in self.counts.items()}


@dataclass(frozen=True)
class Unevenness:
    """Every layer in order; prints as a table.

    Attributes:
        layers: one :class:`LayerUnevenness` a site.
        samples: inputs measured.
        against: ``"input"`` or ``"source"``.
    """

    layers: tuple[LayerUnevenness, ...]
    samples: int
    against: str

    @property
    def total(self) -> LayerUnevenness:
        """All layers together."""
        counts = {category: sum(layer.counts[category] for layer in self.layers) for category in CATEGORIES}
        return LayerUnevenness("all layers", sum(layer.values for layer in self.layers), counts)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a layer and category: ``layer``, ``category``, ``share``."""
        return [
            {"layer": layer.name, "category": category, "share": share}
            for layer in self.layers
            for category, share in layer.shares.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            (layer.name, *(f"{100 * layer.shares[category]:.2f} %" for category in CATEGORIES))
            for layer in (*self.layers, self.total)
        ]
        return table(("layer", *CATEGORIES), rows)


def unevenness(
    model: nn.Module,
    snn: SpikingNetwork,
    loader: Any,
    limit: int | None = 256,
    against: str = "input",
    progress: Progress | None = None,
) -> Unevenness:
    r"""How often a neuron's spikes are not as many as they should be, in four categories (SRP; Hao et al., AAAI 2023).

    A neuron that starts at θ/2 and gets the same current z at each of T steps emits

    .. math:: m = \mathrm{clip}(\lfloor T z/\theta + 1/2 \rfloor, 0, T)

    spikes (arXiv 2302.02091; the quantised activation of T levels). Spikes of the layers before come unevenly in time,
    so that n ≠ m: *wrongly active* (0 = m < n), *too many* (0 < m < n), *too few* (0 < n < m), *wrongly silent*
    (n = 0 < m). For signed IF, n is positive minus negative spikes; for SRP, spikes of the second phase, masked.

    Args:
        model: the source network.
        snn: the network converted from it by a rate method.
        loader: a tensor, a list of tensors, or a loader.
        limit: inputs to use at most.
        against: z is the mean current that the neuron itself got, so that only timing counts (``"input"``), or the
            source network's (``"source"``), which adds the errors of the layers before.
        progress: called with a title, the number of inputs done, and their total.

    Raises:
        ConversionError: shifted-threshold IF, which has no uneven spikes; networks that do not belong together.
        ValueError: another ``against``.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> method = snnconv.methods.IF(timesteps=8, thresholds="max", correction="none")
    >>> snn = snnconv.convert(model, method, calibration=torch.randn(64, 4))
    >>> found = unevenness(model, snn, torch.randn(16, 4))
    >>> sum(found.total.counts.values())  # one layer, constant input
    0
    """
    if against not in REFERENCES:
        raise ValueError(f"against must be one of {REFERENCES}, got {against!r}")
    if snn.method.coding == "sum":
        raise ConversionError("shifted-threshold IF fires when all input is there: its spikes cannot come unevenly")
    if snn.method.coding == "differential":
        raise ConversionError("spikes of several sizes cannot be counted against those of an even input")
    parts = network_batches(snn, loader, limit)
    reference = reference_program(model, snn, parts[0])
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    values: Counter[str] = Counter()
    for number, part in enumerate(parts, start=1):
        outputs: dict[str, Tensor] = {}
        steps: Counter[str] = Counter()

        def read(site: str, out: Tensor, kept: dict[str, Tensor] = outputs, seen: Counter[str] = steps) -> None:
            seen[site] += out.shape[0]
            if seen[site] > snn.method.pre_timesteps_:
                kept[site] = out.double().sum(0)

        def expect(site: str, z: Tensor, kept: dict[str, Tensor] = outputs) -> Tensor:
            total, kind = kept[site], reference.sites[site]
            wanted = _even(z, kind, snn.thresholds[site], snn.timesteps)
            spikes = (total / _size(kind, snn.thresholds[site], total)).round()
            for category, where in zip(CATEGORIES, _compared(spikes, wanted), strict=True):
                counts[site][category] += int(where.sum())
            values[site] += spikes.numel()
            return (total / snn.timesteps).to(z) if against == "input" else kind.activation(z)

        with torch.no_grad():
            snn.run(part, observe=read)
            (snn.program if against == "input" else reference).static(part, expect)
        if progress:
            progress("unevenness", number, len(parts))
    layers = tuple(
        LayerUnevenness(name, values[name], {category: counts[name][category] for category in CATEGORIES})
        for name in snn.program.sites
    )
    return Unevenness(layers, sum(map(len, parts)), against)


def _even(z: Tensor, site: Site, threshold: Tensor, timesteps: int) -> Tensor:
    """Spikes for the current ``z`` at every step."""
    theta = broadcast(threshold.to(z), z.dim(), site.axis).double()
    return (z.double() * timesteps / theta + 0.5).floor().clamp(0, timesteps)


def _size(site: Site, threshold: Tensor, out: Tensor) -> Tensor:
    """Size of one spike of the neuron's output."""
    return out.new_ones(()) if site.kind == "rate_norm" else broadcast(threshold.to(out), out.dim(), site.axis)


def _compared(spikes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    more, fewer, none = spikes > wanted, spikes < wanted, wanted == 0
    return more & none, more & ~none, fewer & (spikes > 0), fewer & (spikes == 0)
