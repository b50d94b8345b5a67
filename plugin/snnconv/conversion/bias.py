"""Bias correction on the converted network's own activations, layer after layer.

A converted layer's rate differs from the source activation because its input does, and because spikes come in an
order. The mean of that difference per channel is a constant current, so a constant current takes it away. One pass
over a batch corrects every layer in order, each on the already corrected output of those before it. A current that
makes a channel's mean error larger is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from snnconv.conversion.histogram import channels_first
from snnconv.conversion.ranks import Ranks
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn
from snnconv.runtime.batch import same_shapes
from snnconv.runtime.program import Program
from snnconv.runtime.readout import join_batches
from snnconv.runtime.run import RunState
from snnconv.runtime.values import numbers

__all__ = ["BiasCorrection", "affordable_samples", "correct_biases"]

ITERATIONS = 3
STEP = 0.8
CORRECTION_BYTES = 256 * 2**20
CORRECTION_SAMPLES = (64, 256)
CORRECTION_WORK = 4096  # samples times steps
CORRECTION_VALUES = 2**30  # samples times steps times neurons: a dense network's sample has many values a channel
FEWEST_SAMPLES = 16


@dataclass(frozen=True)
class Target:
    """What the correction asks of a site: a byte for each activation, not the activations.

    Attributes:
        mean: of each channel's activations ``[C]``.
        active: where an activation is not zero, ``[C, N]``: there a current counts, of either sign.
    """

    mean: Tensor
    active: Tensor

    @classmethod
    def of(cls, y: Tensor, axis: int) -> Target:
        """Of activations ``[B, ...]``."""
        rows = channels_first(y, axis, True)
        return cls(rows.mean(1), rows != 0)


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

    def run(self, batches: Sequence[Any], progress: ProgressFn | None = None) -> None:
        """Correct on each batch in turn; currents are averaged."""
        program, method = self.network.program, self.network.method
        aligned = self.ranks.aligned(batches)
        for number, (batch, weight) in enumerate(aligned, start=1):
            targets: dict[str, Target] = {}
            self.ann.static(batch, partial(self._note, targets))
            correct = partial(self._site, targets, number, weight)
            if method.coding == "sum":
                program.static(batch, correct)
            else:  # both phases of a two-phase method in one sequence, so that a site can fire it again
                program.steps(batch, method.latency, correct, RunState())
            self.network.reset()
            if progress:
                progress("bias correction", number, len(aligned))

    def _note(self, targets: dict[str, Target], site: str, z: Tensor) -> Tensor:
        """The source's activation, of which the target stays."""
        y = self.ann.sites[site].activation(z)
        targets[site] = Target.of(y, self.network.program.sites[site].axis)
        return y

    def _site(self, targets: dict[str, Target], number: int, weight: float, site: str, x: Tensor) -> Tensor:
        """Correct one site for currents ``[T, B, ...]`` (in sum coding their sum ``[B, ...]``); return its outputs."""
        wanted, before = targets.pop(site), self.current.get(site)
        if self.network.program.sites[site].function.encodes:  # what it reads is not its own to correct
            return self._fire(site, x, torch.zeros_like(wanted.mean[:1]))
        if before is None:
            shape = [1] * (x.dim() if self.network.method.coding == "sum" else x.dim() - 1)
            if len(wanted.mean) > 1:
                shape[self.network.program.sites[site].axis] = -1
            before = torch.zeros_like(wanted.mean).reshape(shape)
        settled, error = self._settle(site, x, wanted, before, weight)
        current = before + (settled - before) / number
        out = self._fire(site, x, current)
        # where inputs lie on a border between two levels, as zeros do behind another ReLU, a small current is a level
        worse = self._missing(wanted, self._rate(site, out), weight).abs() > error
        if bool(worse.any()):
            current = torch.where(worse.reshape(current.shape), before, current)
            out = self._fire(site, x, current)
        self.current[site] = current
        return out

    def _settle(self, site: str, x: Tensor, wanted: Target, current: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """The current at which the mean rate of each channel is the source's mean activation; the error without."""
        error = None
        for _ in range(ITERATIONS):
            got = self._rate(site, self._fire(site, x, current))
            active = self.ranks.mean((wanted.active | (got != 0)).to(got).mean(1), weight).clamp(min=0.1)
            missing = self._missing(wanted, got, weight)
            error = missing.abs() if error is None else error
            current = current + (STEP * missing / active).reshape(current.shape)
        assert error is not None
        return current, error

    def _missing(self, wanted: Target, got: Tensor, weight: float) -> Tensor:
        """What each channel's mean rate lacks."""
        return self.ranks.mean(wanted.mean - got.mean(1), weight)

    def _fire(self, site: str, x: Tensor, current: Tensor) -> Tensor:
        neurons = self.network.population
        neurons.neurons[site].reset()
        fire = neurons.fire_total if self.network.method.coding == "sum" else neurons.fire_all
        if self.network.method.coding == "differential":  # as a bias it enters once
            first = x[:1] + current
            x, current = torch.cat([first, x[1:].expand(-1, *first.shape[1:])]), torch.zeros_like(current)
        return numbers(fire(site, x + current))

    def _rate(self, site: str, out: Tensor) -> Tensor:
        """Rates ``[C, N]`` of a site's outputs."""
        method = self.network.method
        rate = out if method.coding == "sum" else self.network.readout.of_site(out[method.pre_timesteps_ :])
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
