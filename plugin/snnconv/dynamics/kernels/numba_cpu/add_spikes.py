"""Spikes added to currents, compiled."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..job import Flat
from ..layout import flat
from .compiled import fill, jit
from .launch import array, run_blocks, shares

__all__ = ["add"]


def add(x: Tensor, spikes: Tensor, amplitude: Tensor, axis: int) -> None:
    """``x += spikes * amplitude`` for whole numbers that lie in memory as ``x`` does; ``amplitude`` is by channel."""
    channels = amplitude.numel()
    f = Flat(x, x, x.numel(), 0, channels, x.stride(axis) if channels > 1 else 1)
    length, uniform, blocks, threads = shares(f, x.numel())
    arrays = (array(flat(x.unsqueeze(0))), array(flat(spikes.unsqueeze(0))))
    by_channel = (f.channels, f.inner, array(amplitude.contiguous()))
    run_blocks(add_spikes, (*arrays, f.size, *by_channel, length, uniform), blocks, threads)


@jit
def add_spikes(x, spikes, size, channels, inner, amplitudes, length, uniform, first_block, last_block):
    """Add to ``x`` whole numbers that are worth an amplitude each."""
    amplitude = np.empty(length, np.float32)
    for block in range(first_block, last_block):
        first = block * length
        count = min(length, size - first)
        if not uniform or block == first_block:
            fill(amplitude, amplitudes, first, count, channels, inner)
        xs = x[first : first + count]
        added = spikes[first : first + count]
        for i in range(count):
            xs[i] += np.float32(added[i]) * amplitude[i]
