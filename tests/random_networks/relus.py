"""Every way to write a ReLU, and places for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.random_networks.draw import Draw

FRESH = ("conv", "linear", "norm", "add")
"""What begins the label of a step whose value may be written over without touching an input."""

WRITTEN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "F.relu": lambda m, h: F.relu(h),
    "torch.relu": lambda m, h: torch.relu(h),
    "method relu": lambda m, h: h.relu(),
    "clamp(min=0)": lambda m, h: h.clamp(min=0),
    "torch.clamp(0)": lambda m, h: torch.clamp(h, 0),
    "clamp_min": lambda m, h: h.clamp_min(0.0),
    "clamp to one": lambda m, h: h.clamp(0, 1),
    "F.relu6": lambda m, h: F.relu6(h),
    "F.hardtanh to two": lambda m, h: F.hardtanh(h, 0.0, 2.0),
    "where": lambda m, h: torch.where(h > 0, h, torch.zeros_like(h)),
    "where of a number": lambda m, h: torch.where(h > 0, h, 0.0),
    "maximum": lambda m, h: torch.maximum(h, torch.zeros_like(h)),
    "maximum of a new zero": lambda m, h: torch.maximum(h, h.new_zeros(())),
    "mask": lambda m, h: h * (h > 0),
    "threshold": lambda m, h: F.threshold(h, 0.0, 0.0),
    "masked_fill": lambda m, h: h.masked_fill(h < 0, 0.0),
    "relu of relu": lambda m, h: F.relu(torch.relu(h)),
    "relu of the negative": lambda m, h: F.relu(-h),
    "relu of a difference": lambda m, h: F.relu(0.5 - h),
    "relu, scaled, relu": lambda m, h: torch.relu(torch.relu(h) * 0.7 - 0.1),
}
IN_PLACE: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "relu_": lambda m, h: h.relu_(),
    "F.relu in place": lambda m, h: F.relu(h, inplace=True),
    "clamp_": lambda m, h: h.clamp_(min=0),
}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "nn.ReLU": nn.ReLU,
    "nn.ReLU6": nn.ReLU6,
    "nn.Hardtanh to one": lambda: nn.Hardtanh(0.0, 1.0),
    "nn.Threshold": lambda: nn.Threshold(0.0, 0.0),
}


def relu(d: Draw, h: int) -> int:
    """A ReLU in one of its forms, half of them modules."""
    fresh = h >= d.arity and d.steps[h - d.arity].label.startswith(FRESH)
    if fresh and d.chance(0.2):
        label = d.one_of("nn.ReLU in place", *IN_PLACE)
        return d.add(label, IN_PLACE.get(label, nn.ReLU(inplace=True)), h)
    if d.chance(0.5):
        label = d.one_of("nn.ReLU", "nn.ReLU", *MODULES)
        return d.add(label, MODULES[label](), h)
    label = d.one_of(*WRITTEN)
    return d.add(label, WRITTEN[label], h)


def both_signs(d: Draw, h: int) -> int:
    """Concatenated ReLU."""
    axis = d.axis(h)
    return d.add("cat of both signs", lambda m, h: torch.cat([F.relu(h), F.relu(-h)], axis), h)


def shared_relu(d: Draw, h: int) -> int:
    """One module of the network called again, else twice in a row with a shift between."""
    earlier = [s.module for s in d.steps if type(s.module) is nn.ReLU and not s.module.inplace]
    if earlier:
        return d.add("the same nn.ReLU again", d.one_of(*earlier), h)
    return d.add("one nn.ReLU twice", lambda m, h: m.relu(m.relu(h) - 0.2), h, relu=nn.ReLU())


OTHERS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "sigmoid": lambda m, h: torch.sigmoid(h),
    "tanh": lambda m, h: h.tanh(),
    "silu": lambda m, h: F.silu(h),
    "gelu": lambda m, h: F.gelu(h),
    "gelu by tanh": lambda m, h: F.gelu(h, approximate="tanh"),
    "elu": lambda m, h: F.elu(h),
    "leaky relu": lambda m, h: F.leaky_relu(h, 0.1),
    "softplus": lambda m, h: F.softplus(h),
    "hardswish": lambda m, h: F.hardswish(h),
    "hardsigmoid": lambda m, h: F.hardsigmoid(h),
    "mish": lambda m, h: F.mish(h),
    "softmax": lambda m, h: h.softmax(-1),
    "square": lambda m, h: h * h,
    "abs": lambda m, h: h.abs(),
    "exp of a clamp": lambda m, h: torch.exp(h.clamp(-2, 1)),
    "square root of a ReLU": lambda m, h: torch.sqrt(F.relu(h) + 0.25),
    "clamp between": lambda m, h: h.clamp(-0.5, 0.5),
    "minimum": lambda m, h: torch.minimum(h, h.new_ones(())),
}


def other_activation(d: Draw, h: int) -> int:
    """An activation or function that is no ReLU."""
    if d.chance(0.15):
        return d.add("nn.PReLU", nn.PReLU(d.channels(h) if d.axis(h) == 1 else 1), h)
    label = d.one_of(*OTHERS)
    return d.add(label, OTHERS[label], h)
