"""Reconstruction: weights, biases and thresholds adjusted so that the quantised network says what the source says.

No labels: the target is the source network's own output and activations on the calibration inputs. Forward, each site
is the quantiser that its neuron computes for constant input, clip(⌊f(z)L/θ + 1/2⌋, −L or 0, L)·θ/L (in sum coding that
is the spiking network itself); backward, gradients pass straight through it.

At the beginning half of the values, drawn anew at every step, are not quantised, so that each layer learns beside
inputs of either kind (QDrop, Wei et al., ICLR 2022, arXiv 2203.05740); at the end all are, as in the network itself.

Few inputs become many: images are flipped, shifted, and mixed with one another (mixup, Zhang et al., ICLR 2018, arXiv
1710.09412), which needs no labels, since the source network says what any input is.

In rate coding a second stage follows: forward, each site says what its neurons really say, spikes that come in an order
and all; backward, the quantiser's gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconv.activations.quant import quantised
from snnconv.conversion.ranks import Ranks
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn
from snnconv.runtime.batch import same_shapes
from snnconv.runtime.program import Program
from snnconv.runtime.readout import join_batches

__all__ = ["Reconstruction", "reconstruct"]

BATCH = 32
LEARNING_RATE = 3e-3
WARM_UP = 0.1
LAYER_WEIGHT = 0.1
"""Of the layers' errors beside the output's: a layer's rounding cannot be trained away, and its gradient is noise."""
TEMPERATURE = 4.0
"""By which class scores are divided: with few inputs, all scores say more than the one that wins (arXiv 1503.02531)."""
PASSES = 48
"""Passes over the inputs, divided by the bits of a value: the fewer levels, the more there is to mend."""
FEWEST_PASSES = 12
MIN_STEPS = 200
DROP = 0.5
"""Share of the values that are not quantised when the first stage begins; it falls evenly to none at its end."""
MIXED = 0.5
"""Largest share of another image in an image."""
SPIKING_PASSES = 8
"""Of the second stage, whatever the number of levels."""
SPIKING_RATE = 1e-3


class Reconstruction:
    """Gradient steps on one network being converted.

    Args:
        ann: the source network.
        snn: the network to be converted; its weights are adjusted in place.
        thresholds: where the thresholds start.
        method: says how many levels above zero each site has.
        total: number of steps that will be taken (for the learning rate's schedule).
        seed: of batches and augmentation.
        ranks: the processes that share the inputs; their gradients are averaged.
        network: ``snn`` with neurons: forward, sites say what these say.
        rate: learning rate, relative to the size of a tensor.
    """

    def __init__(
        self,
        ann: Program,
        snn: Program,
        thresholds: dict[str, Tensor],
        method: Method,
        total: int,
        seed: int = 0,
        ranks: Ranks | None = None,
        network: SpikingNetwork | None = None,
        rate: float = LEARNING_RATE,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.network = network
        self.ann = ann
        self.snn = snn
        self.method = method
        self.total = total
        self.generator = torch.Generator().manual_seed(seed)
        self.lowest = {site: 0.05 * value for site, value in thresholds.items()}
        self.theta = {site: torch.nn.Parameter(value.clone()) for site, value in thresholds.items()}
        self.weights = snn.trainable()
        groups = [
            # relative to the tensor's size: folded BatchNorm leaves layers with very different scales
            {"params": [p], "lr": float(p.detach().square().mean().sqrt().clamp(min=1e-3)) * rate}
            for p in (*self.weights, *self.theta.values())
        ]
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate)

    def _rate(self, step: int) -> float:
        warm = max(1, int(self.total * WARM_UP))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.total - warm)))

    def step(self, x: Any, weight: float = 1.0) -> float:
        """One step on inputs ``[B, ...]``, of ``weight`` in the mean over the ranks; returns the loss."""
        x = self._augment(x)
        wanted: dict[str, Tensor] = {}

        def record(site: str, z: Tensor) -> Tensor:
            wanted[site] = self.ann.sites[site].activation(z)
            return wanted[site]

        with torch.no_grad():
            target = self.ann.static(x, record)
        layers: list[Tensor] = []
        said = self._said(x)
        share = 0.0 if self.network is not None else DROP * (1 - self.schedule.last_epoch / self.total)

        def quantise(name: str, z: Tensor) -> Tensor:
            site = self.snn.sites[name]
            out = quantised(site.function, z, self.theta[name], self.method.at(name).levels, site.axis)
            if name in said:
                out = out + (said[name] - out).detach()
            elif share > 0:  # in the layout of the values: another one takes several times as long
                dropped = torch.empty_like(out, device="cpu").uniform_(generator=self.generator).lt_(share).to(z.device)
                out = torch.lerp(out, site.activation(z), dropped)
            energy = torch.linalg.vector_norm(wanted[name]).square() / wanted[name].numel()
            layers.append(F.mse_loss(out, wanted[name]) / energy.clamp(min=1e-12))
            return out

        with torch.enable_grad():
            output = self.snn.static(x, quantise)
            loss = output_loss(output, target) + LAYER_WEIGHT * torch.stack(layers).mean()
            self.optimiser.zero_grad()
            loss.backward()
        for parameter in (*self.weights, *self.theta.values()):
            if parameter.grad is not None:
                parameter.grad = self.ranks.mean(parameter.grad, weight)
        self.optimiser.step()
        self.schedule.step()
        with torch.no_grad():
            for name, value in self.theta.items():
                value.copy_(torch.maximum(value, self.lowest[name]))
        return float(loss)

    def _said(self, x: Any) -> dict[str, Tensor]:
        """What the neurons of each site say with the weights and thresholds as they are."""
        if self.network is None:
            return {}
        with torch.no_grad():
            for site, theta in self.theta.items():
                self.network.population.set_threshold(site, theta.detach())
            return self.network.rates(x)

    def _augment(self, x: Any) -> Any:
        """Images: a random flip, shift and mixture. Labels are not needed, so nothing has to keep its class."""
        if not isinstance(x, Tensor) or x.dim() != 4 or min(x.shape[2:]) < 16:
            return x
        reach = max(1, min(x.shape[2:]) // 10)
        padded = F.pad(x, (reach,) * 4, mode="reflect")
        height, width = x.shape[2:]
        starts = torch.randint(0, 2 * reach + 1, (len(x), 2), generator=self.generator).tolist()
        x = torch.stack([p[:, i : i + height, j : j + width] for p, (i, j) in zip(padded, starts, strict=True)])
        flip = torch.rand(len(x), generator=self.generator).to(x.device) < 0.5
        x = torch.where(flip[:, None, None, None], x.flip(3), x)
        share = MIXED * torch.rand(len(x), 1, 1, 1, generator=self.generator).to(x)
        x = x + share * (x.roll(1, 0) - x)
        return x.contiguous(memory_format=torch.channels_last)


def output_loss(output: object, target: object) -> Tensor:
    """Squared error relative to the target; of class scores ``[B, classes]`` a Kullback-Leibler divergence beside it.

    The divergence is that of the scores over `TEMPERATURE`, times its square (Hinton et al., arXiv 1503.02531).

    >>> float(output_loss(torch.zeros(1, 2), torch.zeros(1, 2)))
    0.0
    """
    outputs = [v for v in torch.utils._pytree.tree_leaves(output) if isinstance(v, Tensor)]
    targets = [v for v in torch.utils._pytree.tree_leaves(target) if isinstance(v, Tensor)]
    total = outputs[0].new_zeros(())
    for out, aim in zip(outputs, targets, strict=True):
        if out.dim() == 2 and out.shape[1] > 1:
            soft, wanted = ((scores / TEMPERATURE).log_softmax(1) for scores in (out, aim))
            total = total + TEMPERATURE**2 * F.kl_div(soft, wanted, log_target=True, reduction="batchmean")
        if out.is_floating_point():
            total = total + (out - aim).square().mean() / aim.square().mean().clamp(min=1e-12)
    return total


def reconstruct(
    ann: Program,
    snn: Program,
    thresholds: dict[str, Tensor],
    method: Method,
    batches: Sequence[Any],
    progress: ProgressFn | None = None,
    ranks: Ranks | None = None,
    seed: int = 0,
    framework: str = "spikingjelly",
    spec: dict[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Adjust the weights of ``snn`` on ``batches`` (of all ``ranks``) and return its new thresholds.

    The number of steps is fixed by the number of inputs, not by a clock, so that a seed gives the same network.
    ``framework`` and ``spec`` (what the inputs are) make the network of neurons that rate coding is reconstructed with.
    """
    data = join_batches(list(batches)) if same_shapes(batches) else batches[0]
    a_pass = int((ranks or Ranks()).largest(torch.tensor(math.ceil(len(data) / BATCH))))  # of shares of any size
    passes = passes_of(method.levels, a_pass)
    steps = passes * a_pass
    work = Reconstruction(ann, snn, thresholds, method, steps, seed, ranks)
    _run(work, data, passes, "reconstruction", progress)
    if method.coding == "rate":
        found = {site: value.detach().clone() for site, value in work.theta.items()}
        network = SpikingNetwork(snn, method, found, framework, None, 0, spec)
        steps = SPIKING_PASSES * a_pass
        work = Reconstruction(ann, snn, found, method, steps, seed, ranks, network, SPIKING_RATE)
        _run(work, data, SPIKING_PASSES, "reconstruction: spikes", progress)
    for tensor in work.weights:
        tensor.requires_grad_(False)
    return {site: value.detach().clone() for site, value in work.theta.items()}


def passes_of(levels: int, steps: int) -> int:
    """Passes of the first stage over inputs of which one pass takes so many steps.

    >>> [passes_of(2**bits - 1, 32) for bits in (1, 2, 3, 4, 8)]
    [48, 24, 16, 12, 12]
    """
    passes = max(FEWEST_PASSES, math.ceil(PASSES / math.log2(levels + 1)))
    return max(passes, math.ceil(MIN_STEPS / steps))


def _run(work: Reconstruction, data: Any, passes: int, what: str, progress: ProgressFn | None) -> None:
    """Passes over the inputs in a new order each."""
    done = 0
    for _ in range(passes):
        order = torch.randperm(len(data), generator=work.generator)
        for places, weight in work.ranks.aligned(order.split(BATCH)):
            work.step(data[places], weight)
            done += 1
            if progress:
                progress(what, done, work.total)
