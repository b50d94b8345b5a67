"""What single neurons did: currents, membrane potentials and spikes of one site over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconv.dynamics import shifted_threshold_integrate
from snnconv.dynamics.neuron import follow
from snnconv.graph.source import broadcast
from snnconv.network import SpikingNetwork

__all__ = ["Trace", "trace"]


@dataclass(frozen=True)
class Trace:
    """One site of a converted network over time.

    Attributes:
        site: its name.
        current: input of each step ``[T, B, ...]``, in units of the threshold; of shifted-threshold IF, which sums it
            before it fires, one step ``[1, B, ...]``.
        membrane: potential after each step ``[T, B, ...]``.
        spikes: unit spikes ``[T, B, ...]``, -1 among them for signed neurons.
        threshold: θ of every neuron ``[B, ...]`` (the one of step k is q·2^k for shifted-threshold IF).
        worth: what a spike of each step takes off the membrane ``[T]``, in units of θ.
    """

    site: str
    current: Tensor
    membrane: Tensor
    spikes: Tensor
    threshold: Tensor
    worth: Tensor

    def neurons(self, picked: Sequence[int] | None = None, sample: int = 0, count: int = 4) -> list[int]:
        """Positions in the flattened step of one sample: those asked for, or the ``count`` that spike most."""
        flat = self.spikes[:, sample].flatten(1)
        if picked is None:
            return flat.abs().sum(0).topk(min(count, flat.shape[1])).indices.tolist()
        wrong = [i for i in picked if not 0 <= i < flat.shape[1]]
        if wrong:
            raise ValueError(
                f"{self.site} has {flat.shape[1]} neurons a sample, 0 … {flat.shape[1] - 1}: no {wrong[0]}"
            )
        return list(picked)

    def spread(self, sample: int = 0, count: int = 80) -> list[int]:
        """Positions of ``count`` neurons that spike, evenly over the layer; the first ones where none does."""
        active = (self.spikes[:, sample].flatten(1) != 0).any(0).nonzero().flatten()
        if not len(active):
            active = torch.arange(self.spikes[:, sample].flatten(1).shape[1])[:count]
        places = torch.linspace(0, len(active) - 1, min(count, len(active))).round().long()
        return active[places].tolist()

    def deciding(self, sample: int = 0, count: int = 4) -> list[int]:
        """Positions of the ``count`` neurons that spike and rest most evenly: neither silent nor at every step."""
        spiking = (self.spikes[:, sample].flatten(1) != 0).float().mean(0)
        return (spiking - 0.5).abs().topk(min(count, len(spiking)), largest=False).indices.sort().values.tolist()


def trace(snn: SpikingNetwork, x: Any, site: str) -> Trace:
    """Run ``snn`` on ``x`` and follow one site step by step, by the reference equations on the currents it got.

    Args:
        snn: a converted network.
        x: inputs ``[B, ...]``; a few, since every step of every neuron is kept.
        site: one of ``snn.neurons``.

    Raises:
        ValueError: no such site; the message lists them.

    >>> import snnconv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=6), calibration=torch.randn(64, 4))
    >>> trace(snn, torch.randn(2, 4), "1").membrane.shape
    torch.Size([6, 2, 8])
    """
    if site not in snn.neurons:
        raise ValueError(f"there is no site {site!r}; the network has {', '.join(snn.neurons)}")
    parts: list[Tensor] = []
    snn.run(snn.given(x), inputs=lambda name, x_seq: parts.append(x_seq) if name == site else None)
    current = torch.cat(parts)
    if snn.method.coding == "sum":  # summed before it fires
        current = shifted_threshold_integrate(current).unsqueeze(0)
    theta = broadcast(snn.thresholds[site].to(current), current.dim() - 1, snn.program.sites[site].axis)
    node = snn.neurons[site]
    smallest = broadcast(torch.as_tensor(node.v_threshold).to(current), current.dim() - 1, node.channel_axis)
    record, options = snn.method.at(site).neuron_at(snn.program.sites[site].function)
    axis = {"channel_axis": node.channel_axis} if len(record.settable) < len(record.options) else {}
    options = record.settings({**options, **axis})
    spikes, potentials = follow(record, current, smallest, **options)
    weight, steps = record.weight, range(len(spikes))
    worth = [1.0 if weight is None else weight(k, **options) / snn.method.at(site).levels for k in steps]
    return Trace(site, current, potentials, spikes, theta.expand(current.shape[1:]), torch.tensor(worth))
