"""Currents and the spikes that are added to them, in one pass over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from .backends import numba_runs
from .layout import same_layout

__all__ = ["add_in_one_pass"]


def add_in_one_pass(x: Tensor, spikes: Tensor, amplitude: Tensor, axis: int, backend: str) -> bool:
    """``x += spikes * amplitude`` by numba; False where that does not apply.

    Args:
        x: currents ``[B, ...]``.
        spikes: whole numbers of the same shape.
        amplitude: ``[1]`` or ``[C]``, along ``axis``.
        backend: what was asked for.
    """
    fits = x.dtype == amplitude.dtype == torch.float32 and x.device.type == "cpu"
    if not numba_runs(backend, x.numel()) or not fits or not same_layout(spikes.unsqueeze(0), x.unsqueeze(0)):
        return False
    from .numba_cpu.add_spikes import add

    add(x, spikes, amplitude, axis)
    return True
