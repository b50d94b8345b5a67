"""Spikes added to currents, compiled."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..job import Flat
from ..layout import flat
from .compiled import block_at, fill, jit, output_step
from .launch import array, run_blocks, shares

__all__ = ["add"]


def add(x: Tensor, spikes: Tensor, amplitude: Tensor, axis: int) -> None:
    """``x += spikes * amplitude`` for whole numbers that lie in memory as ``x`` does; ``amplitude`` is by channel."""
    channels = amplitude.numel()
    f = Flat(x, x, x.numel(), 0, channels, x.stride(axis) if channels > 1 else 1)
    layout, count, threads = shares(f, x.numel())
    arrays = (array(flat(x.unsqueeze(0))), array(flat(spikes.unsqueeze(0))))
    run_blocks(add_spikes, (*arrays, layout, array(amplitude.contiguous())), count, threads)


@jit
def add_spikes(x, spikes, layout, amplitudes, share):
    """Add to ``x`` whole numbers that are worth an amplitude each."""
    _, _, _, _, length, _ = layout
    amplitude = np.empty(length, np.float32)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(amplitude, amplitudes, first, count, layout)
        xs, added = output_step(x, 0, first, count, layout), output_step(spikes, 0, first, count, layout)
        for i in range(count):
            xs[i] += np.float32(added[i]) * amplitude[i]
