"""Saturation: the share of a layer's values beyond what its neurons can say, on inputs that calibration did not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from snnconv.graph.source import broadcast
from snnconv.inputs import network_batches
from snnconv.network import SpikingNetwork
from snnconv.report import table

__all__ = ["Saturation", "saturation"]


class Saturation(Mapping[str, float]):
    """Share of the values beyond the threshold, by site; prints as a table, the largest first."""

    def __init__(self, shares: Mapping[str, float], samples: int) -> None:
        self._shares = dict(shares)
        self.samples = samples

    def __getitem__(self, site: str) -> float:
        return self._shares[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    def __str__(self) -> str:
        rows = [(site, f"{100 * share:.3g} %") for site, share in sorted(self.items(), key=lambda item: -item[1])]
        return f"{table(('site', 'beyond its threshold'), rows)}\n{self.samples} inputs"


def saturation(snn: SpikingNetwork, data: Any, limit: int | None = None) -> Saturation:
    """Share of each layer's values that lie beyond its thresholds, where neurons say no more than θ.

    What counts is the layer's own input over all steps that are read, as the converted network has it: |f(z)| > θ, z
    the mean of the currents (in sum coding their sum), f the activation without its cap. Thresholds of least squared
    error cut off a little by design, so compare with the share on calibration data: inputs of another kind show as a
    growth, in the first layers first.

    Args:
        snn: the converted network.
        data: inputs, in any form that :func:`snnconv.convert` takes them.
        limit: inputs to look at, at most.

    Raises:
        ConversionError: no inputs, or ones that the network does not take.

    >>> import torch, snnconv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> x = torch.randn(200, 4)
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=8), calibration=x)
    >>> saturation(snn, x)["1"] < saturation(snn, 3 * x)["1"]
    True
    """
    beyond: dict[str, float] = {}
    values: dict[str, int] = {}
    samples = 0
    for batch in network_batches(snn, data, limit):
        last: dict[str, Tensor] = {}

        def note(site: str, x_seq: Tensor, last: dict[str, Tensor] = last) -> None:
            z = x_seq.sum(0) if snn.method.coding == "sum" else x_seq[snn.delay :].mean(0)
            place = snn.program.sites[site]
            y = z.clamp(min=0) if place.function.rectifies else place.activation(z).abs()
            theta = broadcast(snn.thresholds[site].to(y), y.dim(), place.axis)
            last[site] = y > theta  # of two phases, the one that is read comes last

        snn.run(batch, inputs=note)
        for site, over in last.items():
            beyond[site] = beyond.get(site, 0.0) + float(over.sum())
            values[site] = values.get(site, 0) + over.numel()
        samples += len(batch)
    return Saturation({site: beyond[site] / max(1, values[site]) for site in beyond}, samples)
