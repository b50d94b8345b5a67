"""Small converted networks of every method, both frameworks, traced and call by call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.activations import RateNorm

__all__ = ["SAMPLES", "Loop", "Sample", "Traced", "inputs"]


def inputs(count: int = 16) -> Tensor:
    """Pictures ``[count, 1, 6, 6]``, the same in every process."""
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def _relu(trained: bool) -> nn.Module:
    return RateNorm() if trained else nn.ReLU()


class Traced(nn.Module):
    """BatchNorm, a shortcut, max-pooling, an analog activation, an upsampling, sizes that are computed."""

    def __init__(self, trained: bool = False) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), _relu(trained))
        self.second, self.act = nn.Conv2d(4, 4, 3, padding=1), _relu(trained)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.act(self.second(F.max_pool2d(x, 2)))
        y = F.interpolate(y, size=x.shape[-2:], mode="nearest")
        y = torch.cat([x + y, y[..., :]], 1)
        return self.head(F.silu(y).mean((2, 3)).view(x.size(0), -1))


class Loop(nn.Module):
    """A forward that does not trace."""

    def __init__(self, trained: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(36, 8), nn.Linear(8, 8)])
        self.acts = nn.ModuleList([_relu(trained), _relu(trained)])
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer, act in zip(self.layers, self.acts, strict=True):
            x = act(layer(x))
        if float(x.detach().sum()) < -1e30:
            x = x * 0
        return self.head(x)


class Sample(NamedTuple):
    """How one converted network is made."""

    model: Callable[[], nn.Module]
    method: methods.Method
    framework: str = "spikingjelly"

    @property
    def traced(self) -> bool:
        return isinstance(self.model(), Traced)

    def network(self) -> snnconv.SpikingNetwork:
        """The same network in every process."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = self.model()
            model.train()(inputs())
            return snnconv.convert(model.eval(), self.method, inputs(), framework=self.framework, progress=False)


METHODS = {
    "if": methods.IF(5, delay=1),
    "signed_if": methods.SignedIF(4),
    "srp": methods.SRP(3, 2),
    "shifted_threshold": methods.ShiftedThreshold(3),
    "ltb": methods.LocalThresholdBalancing(8, max_batches=8),
    "rate_norm": methods.RateNorm(6),
    "multi_threshold": methods.MultiThreshold(4),
    "hierarchical": methods.HierarchicalMultiThreshold(4),
}
BY_GRAPH = ("multi_threshold", "hierarchical")
"""Methods that a network which does not trace is refused for."""
SAMPLES = {
    f"{name}.{kind}.{framework}": Sample(lambda m=model, n=name: m(n == "rate_norm"), method, framework)
    for name, method in METHODS.items()
    for kind, model in (("graph", Traced), ("tree", Loop))
    if kind == "graph" or name not in BY_GRAPH
    for framework in ("spikingjelly", "snntorch")
}
"""By the names of method, kind of program and framework."""
