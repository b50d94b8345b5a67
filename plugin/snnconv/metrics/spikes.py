"""Inputs for measuring a converted network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.calibration import input_batches
from snnconv.network import SpikingNetwork

__all__ = ["Progress", "network_batches", "placement"]

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``."""


def network_batches(snn: SpikingNetwork, data: Any, limit: int | None) -> list[Tensor]:
    """Inputs from ``data`` on the network's device, in batches that fit its memory budget.

    Raises:
        ConversionError: no inputs, or ones that the network does not take.
    """
    batches = input_batches(data, limit, placement(snn)[0], name="the data")
    return [part for batch in batches for part in snn._parts(batch)]


def placement(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and floating dtype of a network's weights (``None`` where it has none).

    >>> placement(nn.Linear(1, 1))
    (device(type='cpu'), torch.float32)
    """
    tensors = [*module.parameters(), *module.buffers()]
    floating = [t for t in tensors if t.is_floating_point()]
    return (tensors[0].device if tensors else None), (floating[0].dtype if floating else None)
