"""Bias correction on the converted network's own activations, layer after layer.

A converted layer's rate differs from the source activation because its input does, and because spikes come in an
order. The mean of that difference per channel is a constant current, so a constant current takes it away. One pass
over a batch corrects every layer in order, each on the already corrected output of those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconv.conversion.histogram import channels_first
from snnconv.conversion.ranks import Ranks
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn
from snnconv.runtime.program import Program
from snnconv.runtime.run import RunState

__all__ = ["BiasCorrection"]

ITERATIONS = 3
STEP = 0.8


@dataclass(frozen=True)
class Target:
    """What the correction asks of a site: a byte for each activation, not the activations.

    Attributes:
        mean: of each channel's activations ``[C]``.
        active: where an activation is positive, ``[C, N]``.
    """

    mean: Tensor
    active: Tensor

    @classmethod
    def of(cls, y: Tensor, axis: int) -> Target:
        """Of activations ``[B, ...]``."""
        rows = channels_first(y, axis, True)
        return cls(rows.mean(1), rows > 0)


class BiasCorrection:
    """Currents for every site of a network that is being converted.

    Args:
        ann: the source network.
        network: the spiking network, without currents.
        ranks: the processes that share the batches.

    Attributes:
        current: constant current per channel by site, in units of the site's input, shaped to broadcast against it
            (``[1, C, 1, 1]`` for images).
    """

    def __init__(self, ann: Program, network: SpikingNetwork, ranks: Ranks | None = None) -> None:
        self.ann = ann
        self.network = network
        self.ranks = ranks or Ranks()
        self.current: dict[str, Tensor] = {}

    def run(self, batches: Sequence[Tensor], progress: ProgressFn | None = None) -> None:
        """Correct on each batch in turn; currents are averaged."""
        program, method = self.network.program, self.network.method
        for number, batch in enumerate(batches, start=1):
            targets: dict[str, Target] = {}

            def record(site: str, z: Tensor, targets: dict[str, Target] = targets) -> Tensor:
                y = self.ann.sites[site].activation(z)
                targets[site] = Target.of(y, self.network.program.sites[site].axis)
                return y

            def correct(site: str, x: Tensor, number: int = number, targets: dict[str, Target] = targets) -> Tensor:
                return self._site(site, x, targets[site], number)

            self.ann.static(batch, record)
            if method.coding == "sum":
                program.static(batch, lambda site, z, correct=correct: correct(site, z.unsqueeze(0)).sum(0))  # type: ignore[misc]
            else:  # both phases of a two-phase method in one sequence, so that a site can fire it again
                program.steps(batch, method.latency, correct, RunState())
            self.network.reset()
            if progress:
                progress("bias correction", number, len(batches))

    def _site(self, site: str, x_seq: Tensor, wanted: Target, number: int) -> Tensor:
        """Correct one site for currents ``[T, B, ...]`` and return its outputs."""
        before = self.current.get(site)
        if before is None:
            shape = [1] * (x_seq.dim() - 1)
            if len(wanted.mean) > 1:
                shape[self.network.program.sites[site].axis] = -1
            before = torch.zeros_like(wanted.mean).reshape(shape)
        self.current[site] = before + (self._settle(site, x_seq, wanted, before) - before) / number
        return self._fire(site, x_seq, self.current[site])

    def _settle(self, site: str, x_seq: Tensor, wanted: Target, current: Tensor) -> Tensor:
        """The current at which the mean rate of each channel is the source's mean activation."""
        for _ in range(ITERATIONS):
            got = self._rates(site, x_seq, current)
            active = self.ranks.mean((wanted.active | (got > 0)).to(got).mean(1)).clamp(min=0.1)
            missing = self.ranks.mean(wanted.mean - got.mean(1))
            current = current + (STEP * missing / active).reshape(current.shape)
        return current

    def _fire(self, site: str, x_seq: Tensor, current: Tensor) -> Tensor:
        self.network.neurons[site].reset()
        return self.network.fire_all(site, x_seq + current)

    def _rates(self, site: str, x_seq: Tensor, current: Tensor) -> Tensor:
        out = self._fire(site, x_seq, current)
        method = self.network.method
        rate = out.sum(0) if method.coding == "sum" else out[method.pre_timesteps_ :].mean(0)
        return channels_first(rate, self.network.program.sites[site].axis, True)
