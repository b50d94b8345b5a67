"""What the compiled scans share: blocks of positions, tables by channel, loads and stores of bfloat16 and integers.

A scan runs the equation of its namesake in `snnconv.dynamics` over a whole sequence, compiled once for every shape:
parallel over positions, time outside, positions inside, so that a membrane never leaves the cache. Importing this
package's modules needs numba; the compiled code is cached on disk (``NUMBA_CACHE_DIR``).

bfloat16 comes in and goes out as its 16 bits, since numpy has no such type. Fused multiply-add cannot change
a result here: a threshold is only ever multiplied by 0, 1 or a power of two, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

__all__ = [
    "BLOCK", "block_at", "fill", "input_step", "jit", "load", "negate", "output_step", "recall", "remember", "store",
    "times",
]  # fmt: skip

BLOCK = 2048
"""Positions per block, about: potentials and tables stay in the first-level cache."""

jit: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")


def load(value):
    """A stored value as a number: bfloat16 is kept in 16 bits without a type of its own."""


@overload(load, inline="always")
def _overload_load(value):
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def store(value, like):
    """A number as it is kept beside ``like``: `load` the other way round."""


@overload(store, inline="always")
def _overload_store(value, like):
    if like == types.uint16:  # the value is a bfloat16 already: its lower half is zero
        return lambda value, like: np.uint16(np.float32(value).view(np.uint32) >> np.uint32(16))
    if like == types.uint8:
        return lambda value, like: np.uint8(value)
    return lambda value, like: value


def negate(value):
    """A stored value with its sign changed."""


@overload(negate, inline="always")
def _overload_negate(value):
    if value == types.uint16:
        return lambda value: np.uint16(value ^ np.uint16(0x8000))
    if value == types.int8:
        return lambda value: np.int8(-value)
    return lambda value: -value


def times(number, amplitude):
    """A whole number of spikes times an amplitude, as it is stored."""


@overload(times, inline="always")
def _overload_times(number, amplitude):
    """A whole number of up to 8 bits times an amplitude, rounded once, to the amplitude's type."""
    if amplitude == types.uint16:

        def rounded(number, amplitude):
            bits = np.float32(number * load(amplitude)).view(np.uint32)
            even = (bits >> np.uint32(16)) & np.uint32(1)  # to nearest, ties to even
            return np.uint16((bits + np.uint32(0x7FFF) + even) >> np.uint32(16))

        return rounded
    if amplitude == types.int8:
        return lambda number, amplitude: np.int8(number)
    return lambda number, amplitude: number * amplitude


@jit
def recall(v, v_state, resume, first, count):
    """What neurons remember: ``v_state``, or where the run starts afresh nothing."""
    for i in range(count):
        v[i] = v_state[first + i] if resume else np.float32(0)


@jit
def remember(v, v_state, first, count):
    """Leave what neurons remember in ``v_state``."""
    for i in range(count):
        v_state[first + i] = v[i]


@jit
def block_at(number, layout, share):
    """A block's first position, how many there are, and whether its channel values are others than the last one's.

    ``layout`` is ``(size, x_stride, channels, inner, length, uniform)``, as of `job.Flat` and `launch.shares`;
    ``share`` a thread's first block and the one behind its last.
    """
    size, _, _, _, length, uniform = layout
    first = number * length
    return first, min(length, size - first), not uniform or number == share[0]


@jit
def input_step(x, t, first, count, layout):
    """A block's currents at a step."""
    _, x_stride, _, _, _, _ = layout
    return x[t * x_stride + first : t * x_stride + first + count]


@jit
def output_step(out, t, first, count, layout):
    """Where a block's spikes of a step go."""
    size, _, _, _, _, _ = layout
    return out[t * size + first : t * size + first + count]


@jit
def fill(buffer, table, first, count, layout):
    """Write the channel values of positions from ``first``; channel = position // inner % channels."""
    _, _, channels, inner, _, _ = layout
    if channels == 1:
        value = table[0]
        for i in range(count):
            buffer[i] = value
        return
    channel = first // inner % channels
    i = 0
    if inner == 1:
        while i < count:
            run = min(channels - channel, count - i)
            for j in range(run):
                buffer[i + j] = table[channel + j]
            i += run
            channel = 0
        return
    left = inner - first % inner
    while i < count:
        run = min(left, count - i)
        value = table[channel]
        for j in range(run):
            buffer[i + j] = value
        i += run
        left = inner
        channel += 1
        if channel == channels:
            channel = 0
