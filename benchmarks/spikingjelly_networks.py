"""SpikingJelly's recipes as rows of a config: ``dict(type="SpikingJelly", recipe="ltb", timesteps=[...])``."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from snnbench.networks.models import PadShortcut, with_conv_shortcuts
from snnbench.testing.readouts import CONVERSIONS, Window

from .spikingjelly_recipes import SpikingJellyRecipe, _no_log, convert


class RecipeNetwork:
    """A network converted by SpikingJelly, run step by step as in its examples; outputs may be nested tuples."""

    def __init__(self, snn: nn.Module, timesteps: int) -> None:
        self.snn = snn
        self.timesteps = timesteps

    def readouts(self, x: torch.Tensor, windows: Sequence[Window]) -> list[Any]:
        """The output averaged over each window ``(first, last)``, counted from 1."""
        from spikingjelly.activation_based import functional

        totals: list[Any] = [None] * len(windows)
        with torch.no_grad(), _no_log():
            functional.reset_net(self.snn)
            for step in range(1, max(last for _, last in windows) + 1):
                out = self.snn(x)
                for index, (first, last) in enumerate(windows):
                    if first <= step <= last:
                        total = totals[index]
                        totals[index] = out if total is None else tree_map(operator.add, total, out)
            functional.reset_net(self.snn)
        return [
            tree_map(lambda v, steps=last - first + 1: v / steps, total)
            for total, (first, last) in zip(totals, windows, strict=True)
        ]


def build(
    module: nn.Module,
    calibration: Sequence[torch.Tensor],
    timesteps: int,
    recipe: str,
    mode: str = "99.9%",
) -> RecipeNetwork:
    """Convert ``module`` by one of SpikingJelly's recipes; it refuses what it cannot convert.

    Zero-padding shortcuts, which it refuses, are written as the convolutions that compute the same.

    Raises:
        RuntimeError: SpikingJelly's reason.
    """
    if any(isinstance(child, PadShortcut) for child in module.modules()):
        module = with_conv_shortcuts(module)
    try:
        snn = convert(module, SpikingJellyRecipe(recipe, mode), calibration)  # type: ignore[arg-type]
    except Exception as error:  # its converter raises whatever its tracer meets
        raise RuntimeError(f"SpikingJelly refuses this network: {error}") from error
    return RecipeNetwork(snn, timesteps)


CONVERSIONS["SpikingJelly"] = build
