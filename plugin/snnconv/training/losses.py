"""Losses for networks with trained activations: few spikes, and rates that settle after few steps.

Both kinds are computed from what the activations gave in a forward pass, collected by a context manager::

    with one_bits(model) as bits:
        loss = F.cross_entropy(model(x), y)
    loss = loss + 1e-6 * bits.total()
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.activations.quant import QuantReLU, chunks
from snnconv.activations.rate_norm import RateNorm
from snnconv.graph.source import broadcast, unique_name

__all__ = [
    "BitSparsity", "Coefficient", "Collected", "InferenceRate", "RateInferenceLoss", "Regularizer", "one_bits",
    "rate_ks",
]  # fmt: skip

EPS = 1e-5
SCHEDULES = ("constant", "linear", "cosine")
WEIGHTINGS = ("neurons", "synapses")
SURROGATES = ("bits", "code")
REDUCTIONS = ("mean", "sum")
DISTANCES = ("cosine", "mse")


@dataclass(frozen=True)
class Coefficient:
    """A coefficient over the course of training.

    Attributes:
        value: what it comes to.
        schedule: ``"constant"``; ``"linear"``: from 0 in a straight line; ``"cosine"``: from 0 as half a cosine wave.
        span: part of the training after which ``value`` is reached.

    Raises:
        ValueError: a negative value, an unknown schedule, a span outside (0, 1].

    >>> [round(Coefficient(2.0, "linear", span=0.5)(progress), 2) for progress in (0, 0.25, 0.5, 1)]
    [0.0, 1.0, 2.0, 2.0]
    """

    value: float
    schedule: str = "constant"
    span: float = 1.0

    def __post_init__(self) -> None:
        if not self.value >= 0:
            raise ValueError(f"a coefficient must be at least 0, got {self.value}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}")
        if not 0 < self.span <= 1:
            raise ValueError(f"span must be in (0, 1], got {self.span}")

    def __call__(self, progress: float) -> float:
        """Its value when the part ``progress`` of the training, 0 to 1, is done."""
        done = 1.0 if self.schedule == "constant" else min(1.0, max(0.0, progress) / self.span)
        return self.value * ((1 - math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else done)


@dataclass
class Collected:
    """One number a layer of the last forward pass, by the layer's path (``relu:2`` for its second call).

    Attributes:
        weights: what a layer's number counts in the sum, by the same names; None: 1 everywhere.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] | None = None

    def total(self) -> Tensor:
        """Sum over the layers."""
        weights = self.weights
        terms = [value if weights is None else value * weights[name] for name, value in self.values.items()]
        return torch.stack(terms).sum()

    def mean(self) -> Tensor:
        """Mean over the layers."""
        return torch.stack(list(self.values.values())).mean()


@contextmanager
def _collecting(
    model: nn.Module, kind: type[nn.Module], measure: Callable[[Any, Tensor, Tensor], Tensor], needs: str
) -> Iterator[Collected]:
    layers = {name: module for name, module in model.named_modules() if isinstance(module, kind)}
    if not layers:
        raise ValueError(f"this network has no {needs}: make one with snnconv.prepare(model, activations.{needs}(...))")
    found = Collected()

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, inputs: Any, out: Tensor) -> None:
            found.values[unique_name(name, found.values)] = measure(module, inputs[0], out)

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in layers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _known(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


# --- bit sparsity ------------------------------------------------------------------------------------------


def _count_bits(k: Tensor, levels: int) -> Tensor:
    """Number of ones in the binary form of each integer 0 … levels, as uint8.

    >>> _count_bits(torch.tensor([0.0, 5.0, 15.0]), 15).tolist()
    [0, 2, 4]
    """
    if levels > 255:
        table = torch.tensor([i.bit_count() for i in range(levels + 1)], dtype=torch.uint8, device=k.device)
        return table[k.int()]
    k = k.to(torch.uint8)  # pairs, fours and eights of bits are summed in place: three times faster than a table
    k = k - ((k >> 1) & 0x55)
    k = (k & 0x33) + ((k >> 2) & 0x33)
    return (k + (k >> 4)) & 0x0F


class _OneBits(torch.autograd.Function):
    """Number of one-bits of y·L/α; backward, the surrogate's gradient goes straight through to z/α."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, out: Tensor, clip: Tensor, levels: int, grad_scale: float, surrogate: str
    ) -> Tensor:
        ctx.shape = clip.shape
        clip = clip.float().reshape(clip.shape or [1] * z.dim())
        lsb = clip / levels
        inside = torch.empty(z.shape, dtype=torch.uint8, device=z.device)  # bits below the clip: a bit means z > 0
        total = torch.zeros((), dtype=torch.int64, device=z.device)
        for z_, out_, target in chunks(z, out, inside):
            bits = _count_bits((out_ / lsb).round_().clamp_(max=levels), levels)
            total += bits.sum(dtype=torch.int64)
            if surrogate == "bits":
                torch.mul(bits, z_ < clip, out=target)
            else:
                target.copy_((z_ > 0) & (z_ < clip))
        ctx.save_for_backward(z, clip, inside)
        ctx.width, ctx.grad_scale = levels.bit_length() if surrogate == "bits" else 1 / levels, grad_scale
        return total.to(torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, clip, inside = ctx.saved_tensors
        slope = grads[0] / (ctx.width * clip)  # of z/α by z, a bit; of zL/α, a value in range
        grad_z, sizes = torch.empty_like(z), torch.zeros_like(clip)
        for z_, inside_, target in chunks(z, inside, grad_z):
            target.copy_(inside_ * slope)
            sizes += (inside_ * z_.to(clip.dtype)).sum_to_size(clip.shape)
        grad_clip = (-sizes * slope / clip * ctx.grad_scale).reshape(ctx.shape)
        return grad_z, None, grad_clip if ctx.needs_input_grad[2] else None, None, None, None


def one_bits(model: nn.Module, surrogate: str = "bits", reduction: str = "mean") -> AbstractContextManager[Collected]:
    """Collects the number of one-bits of every :class:`~snnconv.activations.QuantReLU`, a layer's sum for one input.

    It is the number of spikes that the layer emits as shifted-threshold IF neurons (Datta et al., arXiv 2312.06900).
    Its gradient is a surrogate that goes straight through to z/α inside the clip; for α it is scaled as the
    activation's own.

    Args:
        model: a network with quantised activations.
        surrogate: ``"bits"``: the L1 gradient of every bit, 1 where it is set, averaged over the ⌈log₂(L + 1)⌉ bits, so
            that by z it is (bits set)/(⌈log₂(L + 1)⌉·α); ``"code"``: that of the code zL/α, so that it is L/α for
            every value in range, whatever its bits (the authors').
        reduction: ``"mean"``, for one input; ``"sum"``, over the batch (the authors').

    Raises:
        ValueError: a network without ``QuantReLU``, an unknown surrogate or reduction.

    >>> layer = QuantReLU(levels=7, clip=7.0)
    >>> with one_bits(layer) as bits:
    ...     _ = layer(torch.tensor([[1.0, 2.0, 7.0]]))
    >>> float(bits.total())
    5.0
    """

    _known("surrogate", surrogate, SURROGATES)
    _known("reduction", reduction, REDUCTIONS)

    def count(layer: QuantReLU, z: Tensor, out: Tensor) -> Tensor:
        clip = broadcast(layer.alpha, z.dim(), layer.axis)
        total: Tensor = _OneBits.apply(z, out.detach(), clip, layer.levels, layer.gradient_scale(z), surrogate)
        return total / max(len(z), 1) if reduction == "mean" else total

    return _collecting(model, QuantReLU, count, "QuantReLU")


# --- rate inference ----------------------------------------------------------------------------------------


def rate_ks(model: nn.Module) -> AbstractContextManager[Collected]:
    """Collects K = Σy / (‖y‖₂² + ε) of every :class:`~snnconv.activations.RateNorm`, over the batch.

    y in [0, 1] is the normalised activation. T steps of an IF neuron make a relative error ‖y − φ(T)‖²/‖y‖² of at most
    K/T (Ding et al., IJCAI 2021, arXiv 2105.11654): a smaller K needs fewer steps.

    Raises:
        ValueError: a network without ``RateNorm``.

    >>> layer = RateNorm()
    >>> with rate_ks(layer) as ks:
    ...     _ = layer(torch.tensor([[1.0, 1.0, 0.0]]))
    >>> round(ks.mean().item(), 2)
    1.0
    """

    def ratio(layer: RateNorm, z: Tensor, out: Tensor) -> Tensor:
        y = out.float() / layer.theta if layer.scaled else out.float()
        return y.sum() / (y.square().sum() + EPS)

    return _collecting(model, RateNorm, ratio, "RateNorm")


class RateInferenceLoss(nn.Module):
    """1 − cos(logits of stage (i), logits) + λ·K̄ (Ding et al., IJCAI 2021, arXiv 2105.11654).

    Args:
        weight: λ.
        distance: ``"cosine"``, or ``"mse"``: the mean squared difference of the logits in place of 1 − cos.

    Shapes: both logits ``[B, classes]``; K̄ a scalar, ``rate_ks(...).mean()``. Returns a scalar.

    Raises:
        ValueError: a negative weight, an unknown distance.

    >>> loss = RateInferenceLoss(weight=0.1)
    >>> round(float(loss(torch.ones(1, 2), torch.ones(1, 2), torch.tensor(3.0))), 4)
    0.3
    """

    def __init__(self, weight: float = 0.1, distance: str = "cosine") -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        _known("distance", distance, DISTANCES)
        self.weight = weight
        self.distance = distance

    def forward(self, reference: Tensor, logits: Tensor, mean_k: Tensor) -> Tensor:
        wanted, found = reference.detach().flatten(1).float(), logits.flatten(1).float()
        if self.distance == "mse":
            return F.mse_loss(found, wanted) + self.weight * mean_k
        return 1 - F.cosine_similarity(wanted, found, dim=1).mean() + self.weight * mean_k


# --- in a training loop ------------------------------------------------------------------------------------


class Regularizer(nn.Module, ABC):
    """A term for the loss that is computed from the activations of a forward pass.

    Args:
        coefficient: its weight.
        schedule, span: how it gets there, see :class:`Coefficient`.
    """

    name = ""
    looks_inside = True
    """Whether it reads values inside the network, not its output alone."""

    def __init__(self, coefficient: float, schedule: str = "constant", span: float = 1.0) -> None:
        super().__init__()
        self.coefficient = Coefficient(coefficient, schedule, span)

    @abstractmethod
    def watch(self, model: nn.Module) -> AbstractContextManager[Collected]:
        """Context manager for the forward pass."""

    @abstractmethod
    def amount(self, found: Collected) -> Tensor:
        """What is to become small."""

    def forward(self, found: Collected, progress: float = 1.0) -> Tensor:
        """The term when the part ``progress`` of the training is done."""
        return self.coefficient(progress) * self.amount(found)


class BitSparsity(Regularizer):
    """coefficient × number of one-bits an input, over all layers: spikes of a shifted-threshold network; `one_bits`.

    Args:
        coefficient, schedule, span: see :class:`Regularizer`.
        weighting: ``"neurons"``, a one-bit counts 1 everywhere (Datta et al., arXiv 2312.06900); ``"synapses"``, it
            counts the connections that its spike reaches, divided by their mean over all neurons: the sum is the
            network's synaptic operations (SOPs), and falls in deep layers, too, where neurons are few and reach many.
            What runs in training only counts 0.
        surrogate, reduction: the gradient, and over what the bits are summed; see `one_bits`. A coefficient for the
            authors' code belongs to ``surrogate="code", reduction="sum"``.

    Raises:
        ValueError: another weighting, surrogate or reduction; a network without ``QuantReLU``.
        ConversionError: ``"synapses"`` with a network that cannot be traced.

    >>> layer, sparsity = QuantReLU(levels=7, clip=7.0), BitSparsity(0.5, "linear")
    >>> with sparsity.watch(layer) as found:
    ...     _ = layer(torch.tensor([[3.0, 4.0]]))
    >>> float(sparsity(found, progress=0.5))
    0.75
    """

    name = "one_bits"

    def __init__(
        self,
        coefficient: float,
        schedule: str = "constant",
        span: float = 1.0,
        weighting: str = "neurons",
        surrogate: str = "bits",
        reduction: str = "mean",
    ) -> None:
        super().__init__(coefficient, schedule, span)
        _known("weighting", weighting, WEIGHTINGS)
        _known("surrogate", surrogate, SURROGATES)
        _known("reduction", reduction, REDUCTIONS)
        self.weighting, self.surrogate, self.reduction = weighting, surrogate, reduction
        self._synapses: tuple[weakref.ref[nn.Module], torch.Size, dict[str, float]] | None = None

    def watch(self, model: nn.Module) -> AbstractContextManager[Collected]:
        return self._bits(model) if self.weighting == "neurons" else self._watch_synapses(model)

    def _bits(self, model: nn.Module) -> AbstractContextManager[Collected]:
        return one_bits(model, self.surrogate, self.reduction)

    @contextmanager
    def _watch_synapses(self, model: nn.Module) -> Iterator[Collected]:
        inputs: list[Tensor] = []
        handle = model.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()[:1]))
        try:
            with self._bits(model) as found:
                yield found
        finally:
            handle.remove()
        if inputs:
            found.weights = self._weights(model, inputs[-1], list(found.values))

    def _weights(self, model: nn.Module, example: Tensor, layers: list[str]) -> dict[str, float]:
        """Connections that a spike of each layer reaches, relative to their mean; traced once a shape of the input."""
        if self._synapses is not None and self._synapses[0]() is model and self._synapses[1] == example.shape:
            return self._synapses[2]
        from snnconv.metrics.synapses import synapses_per_spike  # it imports the executor, which imports this package

        reached = synapses_per_spike(model, example)
        reached = {name: reached.get(name, (0.0, 0)) for name in layers}
        synapses = sum(each * neurons for each, neurons in reached.values())
        if not synapses:
            raise ValueError(f"no spike of {', '.join(layers)} reaches a layer: count with weighting='neurons'")
        mean = synapses / sum(neurons for _, neurons in reached.values())
        weights = {name: each / mean for name, (each, _) in reached.items()}
        self._synapses = weakref.ref(model), example.shape, weights
        return weights

    def amount(self, found: Collected) -> Tensor:
        if self.weighting == "synapses" and found.weights is None:
            raise RuntimeError("one-bits are weighted when the forward pass is over: leave the watch(...) block first")
        return found.total()


class InferenceRate(Regularizer):
    """coefficient × K̄, the mean over the rate norm layers of K; `rate_ks`.

    >>> InferenceRate(0.1).coefficient.value
    0.1
    """

    name = "mean_k"

    def watch(self, model: nn.Module) -> AbstractContextManager[Collected]:
        return rate_ks(model)

    def amount(self, found: Collected) -> Tensor:
        return found.mean()
