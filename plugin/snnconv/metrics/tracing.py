"""What single neurons did: currents, membrane potentials and spikes of one site over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconv.dynamics import (
    if_initial,
    if_step,
    shifted_threshold_bit,
    shifted_threshold_integrate,
    signed_if_initial,
    signed_if_step,
    srp_initial,
    srp_step,
)
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
    """

    site: str
    current: Tensor
    membrane: Tensor
    spikes: Tensor
    threshold: Tensor

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
    if snn.method.coding == "sum":
        current = shifted_threshold_integrate(current).unsqueeze(0)
    theta = broadcast(snn.thresholds[site].to(current), current.dim() - 1, snn.program.sites[site].axis)
    return Trace(site, current, *_follow(snn, current, theta), theta.expand(current.shape[1:]))


def _follow(snn: SpikingNetwork, current: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Membrane potentials and unit spikes of every step."""
    method, potentials, spikes = snn.method, [], []
    if method.coding == "sum":
        q = theta / method.levels
        v = current[0] + q * 0.5
        for k in range(method.timesteps - 1, -1, -1):
            spike, v = shifted_threshold_bit(v, q, k)
            spikes.append(spike)
            potentials.append(v)
        return torch.stack(potentials), torch.stack(spikes)
    step = {
        "if": (if_initial, if_step, {}),
        "signed_if": (signed_if_initial, signed_if_step, {"eps": getattr(method, "eps", 0.0)}),
        "srp": (srp_initial, srp_step, {"pre_timesteps": method.pre_timesteps_, "eps": getattr(method, "eps", 0.0)}),
    }
    initial, run, options = step[method.neuron]
    state = initial(current[0], theta)
    for x in current:
        spike, state = run(x, state, theta, **options)  # type: ignore[operator]
        spikes.append(spike)
        potentials.append(state.v)
    return torch.stack(potentials), torch.stack(spikes)
