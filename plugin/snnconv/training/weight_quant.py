"""Quantised weights for training: additive powers of two, and 8 bits for the first and the last layer."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snnconv.graph.source import ConversionError

__all__ = ["APoT", "UniformWeight", "apot_levels", "quantise_weights"]

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
LEAST = 1e-6


def apot_levels(bits: int) -> Tensor:
    """Magnitudes of additive powers of two with ``bits`` bits, ascending, the largest 1 (Li et al., ICLR 2020, eq. 5).

    A magnitude is a sum of ⌊bits/2⌋ terms of four values each and, for an odd number of bits, one of two values. Their
    powers of two are dealt out in turn, so that every sum is another number.

    Args:
        bits: of the magnitude, without the sign.

    Raises:
        ValueError: ``bits`` below 1.

    >>> apot_levels(2).tolist()
    [0.0, 0.25, 0.5, 1.0]
    """
    if bits < 1:
        raise ValueError(f"bits must be at least 1, got {bits}")
    terms: list[list[float]] = [[0.0] for _ in range(bits // 2)]
    single, exponent = [0.0], 0
    for turn in range(3):
        if turn == 2 and bits % 2:
            exponent += 1
            single.append(2.0**-exponent)
        for term in terms:
            exponent += 1
            term.append(2.0**-exponent)
    values = torch.tensor(sorted({sum(choice) for choice in itertools.product(*terms, single)}))
    return values / values[-1]


class APoT(nn.Module):
    """Parametrisation of a weight by additive powers of two (APoT; Li et al., ICLR 2020, arXiv 1909.13144).

    w ← (w − mean(w))/std(w), then the nearest of ±α·`apot_levels`. Gradients pass straight through for w (mean and
    deviation count as constants); for the learned clip α, (q − w/α) inside and ±1 outside. As in Fast-SNN (Hu et al.,
    arXiv 2305.19868), a BatchNorm layer behind has to take up the scale. Two bits or fewer are uniform.

    Args:
        bits: bits of a weight, one of them its sign.
        clip: initial α, in standard deviations.

    Raises:
        ValueError: ``bits`` below 2, a clip that is not positive.

    >>> layer = nn.Linear(4, 3)
    >>> _ = parametrize.register_parametrization(layer, "weight", APoT(bits=3))
    >>> len(set((layer.weight.abs() / layer.weight.abs().max()).flatten().tolist())) <= 4
    True
    """

    levels: Tensor
    between: Tensor

    def __init__(self, bits: int = 4, clip: float = 3.0) -> None:
        super().__init__()
        if bits < 2:
            raise ValueError(f"bits must be at least 2 (a sign and a magnitude), got {bits}")
        if not clip > 0:
            raise ValueError(f"clip must be positive, got {clip}")
        self.bits = bits
        self.clip = nn.Parameter(torch.tensor(float(clip)))
        levels = apot_levels(bits - 1)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("between", (levels[1:] + levels[:-1]) / 2, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        fixed, clip = weight.detach(), self.clip.abs() + LEAST
        normal = (weight - fixed.mean()) / (fixed.std() + LEAST)
        ratio = (normal / clip).detach()
        level = self.levels[torch.bucketize(ratio.abs().contiguous(), self.between)] * ratio.sign()
        slope = torch.where(ratio.abs() > 1, ratio.sign(), level - ratio)  # of the clip
        through = normal + clip * slope  # has the gradients, and not the value
        return through - through.detach() + (clip * level).detach()

    def extra_repr(self) -> str:
        return f"bits={self.bits}, clip={float(self.clip):.4g}"


class UniformWeight(nn.Module):
    """Parametrisation of a weight by 2^bits − 1 equal steps between −max|w| and max|w|, straight-through gradient.

    Args:
        bits: bits of a weight, one of them its sign.

    Raises:
        ValueError: ``bits`` below 2.

    >>> UniformWeight(bits=2)(torch.tensor([0.2, -0.6, 1.0])).tolist()
    [0.0, -1.0, 1.0]
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        if bits < 2:
            raise ValueError(f"bits must be at least 2 (a sign and a magnitude), got {bits}")
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        steps = 2 ** (self.bits - 1) - 1
        size = weight.detach().abs().max().clamp(min=LEAST)
        rounded = (weight.detach() / size * steps).round() / steps * size
        through: Tensor = rounded + (weight - weight.detach())  # the gradient of the weight itself
        return through

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


def quantise_weights(model: nn.Module, bits: int = 4, *, ends: int | None = 8, skip: Sequence[str] = ()) -> nn.Module:
    """A trainable copy of a network with quantised weights: APoT inside, uniform in the first and the last layer.

    Weights stay parameters of full precision (``<layer>.parametrizations.weight.original``), and are quantised wherever
    they are read, so that the copy trains, is prepared and converted like any network.
    ``torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")`` writes the quantised ones in their place.

    Args:
        model: the network; it is not changed. First and last are by the order of its modules.
        bits: of weights inside.
        ends: of the first and the last layer; ``None`` leaves them as they are.
        skip: names of layers to leave as they are.

    Raises:
        ConversionError: no layer with weights, a name in ``skip`` that is none, a layer whose weight is parametrised.

    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> [type(layer.parametrizations.weight[0]).__name__ for layer in quantise_weights(network)[::2]]
    ['UniformWeight', 'APoT', 'UniformWeight']
    """
    twin = copy.deepcopy(model)
    layers = {name: module for name, module in twin.named_modules() if isinstance(module, LAYERS)}
    if not layers:
        raise ConversionError("this network has no convolution and no linear layer whose weights could be quantised")
    if unknown := sorted(set(skip) - set(layers)):
        raise ConversionError(f"skip names {', '.join(unknown)}: no convolution or linear layer of this network")
    names = list(layers)
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise ConversionError(f"{name}: its weight has a parametrisation already; quantise the network without it")
        if name in skip:
            continue
        if name not in (names[0], names[-1]):
            parametrize.register_parametrization(layer, "weight", APoT(bits).to(layer.weight.device))
        elif ends is not None:
            parametrize.register_parametrization(layer, "weight", UniformWeight(ends))
    return twin
