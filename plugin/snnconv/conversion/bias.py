"""Bias correction on the converted network's own activations, layer after layer.

A converted layer's rate differs from the source activation because its input does, and because spikes come in an
order. The mean of that difference per channel is a constant current, so a constant current takes it away. One pass
over a batch corrects every layer in order, each on the already corrected output of those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnconv.conversion.ranks import Ranks
from snnconv.conversion.thresholds import channels_first
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn
from snnconv.runtime.batch import same_shapes
from snnconv.runtime.program import Program
from snnconv.runtime.readout import join_batches
from snnconv.runtime.run import RunState

__all__ = ["BiasCorrection", "affordable_samples", "correct_biases"]

ITERATIONS = 3
STEP = 0.8
CORRECTION_BYTES = 256 * 2**20
CORRECTION_SAMPLES = (64, 256)
CORRECTION_WORK = 4096  # samples times steps
CORRECTION_VALUES = 2**30  # samples times steps times neurons: a dense network's sample has many values a channel
FEWEST_SAMPLES = 16


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
            targets: dict[str, Tensor] = {}

            def record(site: str, z: Tensor, targets: dict[str, Tensor] = targets) -> Tensor:
                targets[site] = self.ann.sites[site].activation(z)
                return targets[site]

            def correct(site: str, x: Tensor, number: int = number, targets: dict[str, Tensor] = targets) -> Tensor:
                return self._site(site, x, targets[site], number)

            self.ann.static(batch, record)
            if method.coding == "sum":
                program.static(batch, lambda site, z, correct=correct: correct(site, z.unsqueeze(0)).sum(0))  # type: ignore[misc]
            else:  # both phases of a two-phase method in one sequence, so that a site can fire it again
                program.steps(batch, method.latency, correct, RunState())
            self.network.reset()
            if progress:
                progress("bias correction", number, len(batches))

    def _site(self, site: str, x_seq: Tensor, target: Tensor, number: int) -> Tensor:
        """Correct one site for currents ``[T, B, ...]`` and return its outputs."""
        axis = self.network.program.sites[site].axis
        wanted = channels_first(target, axis, True)
        before = self.current.get(site)
        if before is None:
            shape = [1] * target.dim()
            if wanted.shape[0] > 1:
                shape[axis] = -1
            before = torch.zeros(wanted.shape[0], dtype=wanted.dtype, device=wanted.device).reshape(shape)
        self.current[site] = before + (self._settle(site, x_seq, wanted, before) - before) / number
        return self._fire(site, x_seq, self.current[site])

    def _settle(self, site: str, x_seq: Tensor, wanted: Tensor, current: Tensor) -> Tensor:
        """The current at which the mean rate of each channel is the source's mean activation."""
        for _ in range(ITERATIONS):
            got = self._rates(site, x_seq, current)
            active = self.ranks.mean(((wanted > 0) | (got > 0)).to(wanted).mean(1)).clamp(min=0.1)
            current = current + (STEP * self.ranks.mean((wanted - got).mean(1)) / active).reshape(current.shape)
        return current

    def _fire(self, site: str, x_seq: Tensor, current: Tensor) -> Tensor:
        self.network.neurons[site].reset()
        if self.network.method.coding == "differential":  # as a bias it enters once
            first = x_seq[:1] + current
            return self.network.fire_all(site, torch.cat([first, x_seq[1:].expand(-1, *first.shape[1:])]))
        return self.network.fire_all(site, x_seq + current)

    def _rates(self, site: str, x_seq: Tensor, current: Tensor) -> Tensor:
        out = self._fire(site, x_seq, current)
        rate = self.network.readout.of_site(out[self.network.method.pre_timesteps_ :])
        return channels_first(rate, self.network.program.sites[site].axis, True)


def affordable_samples(spec: dict[str, Any], method: Method) -> int:
    """Samples that the correction of a large network can take in reasonable time."""
    return max(FEWEST_SAMPLES, CORRECTION_VALUES // max(1, method.latency * int(spec.get("neurons", 0))))


def correct_biases(
    ann: Program,
    snn: Program,
    method: Method,
    thresholds: dict[str, Tensor],
    batches: Sequence[Any],
    framework: str,
    spec: dict[str, Any],
    tell: ProgressFn,
    ranks: Ranks,
) -> None:
    """Shift biases by what is left of each channel's mean error on the converted network's own activations."""
    network = SpikingNetwork(snn, method, thresholds, framework, None, 0, spec)
    steps = 1 if method.coding == "sum" else method.latency
    least, most = CORRECTION_SAMPLES
    wanted = min(most, max(least, CORRECTION_WORK // method.latency))
    wanted = min(wanted, affordable_samples(spec, method))
    size = max(4, min(wanted, CORRECTION_BYTES // max(1, 4 * steps * int(spec["widest"]))))
    wanted, size = -(-wanted // ranks.size), max(1, size // ranks.size)  # this rank's share of each batch
    data = join_batches(list(batches))[:wanted] if same_shapes(batches) else batches[0]
    work = BiasCorrection(ann, network, ranks)
    work.run(list(data.split(size)), tell)
    for site, current in work.current.items():
        snn.shift(site, current)
