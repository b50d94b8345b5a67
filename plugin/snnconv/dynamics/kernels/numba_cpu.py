"""Multi-step scans for the CPU, compiled once for every shape.

Each function runs the equation of its namesake in `snnconv.dynamics` over a whole sequence: parallel over
positions, time outside, positions inside, so that a membrane never leaves the cache. Importing this module
needs numba; the compiled code is cached on disk (``NUMBA_CACHE_DIR``).

bfloat16 comes in and goes out as its 16 bits, since numpy has no such type. Fused multiply-add cannot change
a result here: a threshold is only ever multiplied by 0, 1 or a power of two, which is exact.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

BLOCK = 2048
"""Positions per block, about: potentials and tables stay in the first-level cache."""

_jit: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")


def _load(value): ...


@overload(_load, inline="always")
def _overload_load(value):
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def _store(value, like): ...


@overload(_store, inline="always")
def _overload_store(value, like):
    if like == types.uint16:  # the value is a bfloat16 already: its lower half is zero
        return lambda value, like: np.uint16(np.float32(value).view(np.uint32) >> np.uint32(16))
    if like == types.uint8:
        return lambda value, like: np.uint8(value)
    return lambda value, like: value


def _negate(value): ...


@overload(_negate, inline="always")
def _overload_negate(value):
    if value == types.uint16:
        return lambda value: np.uint16(value ^ np.uint16(0x8000))
    if value == types.int8:
        return lambda value: np.int8(-value)
    return lambda value: -value


@_jit
def _fill(buffer, table, first, count, channels, inner):
    """Write the channel values of positions from ``first``; channel = position // inner % channels."""
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


@_jit
def _if_steps(x, out, v, theta, amplitude, start, stop, first, count, x_stride, size):
    zero = amplitude.dtype.type(0)
    for t in range(start, stop):
        xs = x[t * x_stride + first : t * x_stride + first + count]
        outs = out[t * size + first : t * size + first + count]
        for i in range(count):
            u = v[i] + _load(xs[i])
            fired = u >= theta[i]
            v[i] = u - theta[i] if fired else u
            outs[i] = amplitude[i] if fired else zero


@_jit
def if_scan(
    x,
    out,
    v_state,
    resume,
    keep,
    steps,
    size,
    x_stride,
    channels,
    inner,
    thetas,
    amplitudes,
    length,
    uniform,
    first_block,
    last_block,
):
    """Run integrate-and-fire; ``x`` and ``out`` are flat, step t at ``t * stride``.

    ``resume`` starts from ``v_state``, ``keep`` leaves the last potential there.
    """
    v = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    amplitude = np.empty(length, out.dtype)
    for block in range(first_block, last_block):
        first = block * length
        count = min(length, size - first)
        if not uniform or block == first_block:
            _fill(theta, thetas, first, count, channels, inner)
            _fill(amplitude, amplitudes, first, count, channels, inner)
        for i in range(count):
            v[i] = v_state[first + i] if resume else theta[i] * np.float32(0.5)
        _if_steps(x, out, v, theta, amplitude, 0, steps, first, count, x_stride, size)
        if keep:
            for i in range(count):
                v_state[first + i] = v[i]


@_jit
def srp_scan(
    x,
    out,
    steps,
    size,
    x_stride,
    channels,
    inner,
    thetas,
    amplitudes,
    dead_zones,
    pre,
    length,
    uniform,
    first_block,
    last_block,
):
    """Run SRP-IF: ``pre`` steps of phase 1, then phase 2 with the silenced neurons' amplitude at zero."""
    v = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    dead_zone = np.empty(length, np.float32)
    amplitudes_ = np.empty(length, out.dtype)
    amplitude = np.empty(length, out.dtype)
    for block in range(first_block, last_block):
        first = block * length
        count = min(length, size - first)
        if not uniform or block == first_block:
            _fill(theta, thetas, first, count, channels, inner)
            _fill(dead_zone, dead_zones, first, count, channels, inner)
            _fill(amplitudes_, amplitudes, first, count, channels, inner)
        for i in range(count):
            v[i] = theta[i] * np.float32(0.5)
            amplitude[i] = amplitudes_[i]
        if pre > 0:
            _if_steps(x, out, v, theta, amplitude, 0, pre, first, count, x_stride, size)
            for i in range(count):
                if not v[i] > dead_zone[i]:
                    amplitude[i] = 0
                v[i] = theta[i] * np.float32(0.5)
        _if_steps(x, out, v, theta, amplitude, pre, steps, first, count, x_stride, size)


@_jit
def srp_phase(
    x,
    out,
    mask,
    is_first,
    steps,
    size,
    x_stride,
    channels,
    inner,
    thetas,
    amplitudes,
    dead_zones,
    length,
    uniform,
    first_block,
    last_block,
):
    """Run one phase of SRP-IF: the first writes ``mask``, in the second it sets amplitudes to zero."""
    v = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    dead_zone = np.empty(length, np.float32)
    amplitudes_ = np.empty(length, out.dtype)
    amplitude = np.empty(length, out.dtype)
    zero = amplitude.dtype.type(0)
    for block in range(first_block, last_block):
        first = block * length
        count = min(length, size - first)
        if not uniform or block == first_block:
            _fill(theta, thetas, first, count, channels, inner)
            _fill(dead_zone, dead_zones, first, count, channels, inner)
            _fill(amplitudes_, amplitudes, first, count, channels, inner)
        for i in range(count):
            v[i] = theta[i] * np.float32(0.5)
            amplitude[i] = amplitudes_[i] if is_first or mask[first + i] else zero
        _if_steps(x, out, v, theta, amplitude, 0, steps, first, count, x_stride, size)
        if is_first:
            for i in range(count):
                mask[first + i] = v[i] > dead_zone[i]


@_jit
def signed_if_scan(
    x,
    out,
    v_state,
    n_state,
    resume,
    keep,
    steps,
    size,
    x_stride,
    channels,
    inner,
    thetas,
    amplitudes,
    dead_zones,
    length,
    uniform,
    first_block,
    last_block,
):
    """Run signed integrate-and-fire; states as in `if_scan`."""
    v = np.empty(length, np.float32)
    n = np.empty(length, np.int32)
    theta = np.empty(length, np.float32)
    dead_zone = np.empty(length, np.float32)
    amplitude = np.empty(length, out.dtype)
    for block in range(first_block, last_block):
        first = block * length
        count = min(length, size - first)
        if not uniform or block == first_block:
            _fill(theta, thetas, first, count, channels, inner)
            _fill(dead_zone, dead_zones, first, count, channels, inner)
            _fill(amplitude, amplitudes, first, count, channels, inner)
        for i in range(count):
            v[i] = v_state[first + i] if resume else theta[i] * np.float32(0.5)
            n[i] = np.int32(n_state[first + i]) if resume else np.int32(0)
        _signed_steps(x, out, v, n, theta, dead_zone, amplitude, steps, first, count, x_stride, size)
        if keep:
            for i in range(count):
                v_state[first + i] = v[i]
                n_state[first + i] = n[i]


@_jit
def _signed_steps(x, out, v, n, theta, dead_zone, amplitude, steps, first, count, x_stride, size):
    zero = amplitude.dtype.type(0)
    for t in range(steps):
        xs = x[t * x_stride + first : t * x_stride + first + count]
        outs = out[t * size + first : t * size + first + count]
        for i in range(count):
            u = v[i] + _load(xs[i])
            fired = u >= theta[i]
            # A positive spike leaves u >= 0, so at most one of the two fires.
            taken_back = (u + dead_zone[i] < np.float32(0)) & (n[i] > 0)
            down = u - theta[i] if fired else u
            v[i] = u + theta[i] if taken_back else down
            n[i] += np.int32(fired) - np.int32(taken_back)
            emitted = amplitude[i] if fired else zero
            outs[i] = _negate(amplitude[i]) if taken_back else emitted


@_jit
def shifted_threshold_scan(
    x,
    out,
    in_steps,
    out_steps,
    size,
    x_stride,
    channels,
    inner,
    lsbs,
    amplitudes,
    decay,
    length,
    uniform,
    first_block,
    last_block,
):
    """Sum ``in_steps`` of input, then fire ``out_steps`` bits.

    ``amplitudes`` are those of the first bit, as float32; ``decay`` takes them from bit to bit, 0.5 or 1.
    """
    v = np.empty(length, np.float32)
    lsb = np.empty(length, np.float32)
    amplitudes_ = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    amplitude = np.empty(length, np.float32)
    top = np.float32(2.0 ** (out_steps - 1))
    for block in range(first_block, last_block):
        first = block * length
        count = min(length, size - first)
        if not uniform or block == first_block:
            _fill(lsb, lsbs, first, count, channels, inner)
            _fill(amplitudes_, amplitudes, first, count, channels, inner)
        for i in range(count):
            v[i] = 0
        for t in range(in_steps):
            _accumulate(x, v, t * x_stride + first, count)
        for i in range(count):
            v[i] += lsb[i] * np.float32(0.5)
            theta[i] = lsb[i] * top
            amplitude[i] = amplitudes_[i]
        for t in range(out_steps):
            _fire_bit(out, v, theta, amplitude, decay, t * size + first, count)


@functools.cache
def shifted_threshold_total(bits: int) -> Callable[..., None]:
    """Kernel that sums ``in_steps`` of input, then writes the sum of the weighted spikes of ``bits`` bits.

    The spikes are never written. It is compiled once for every number of bits, so that a neuron's bits are straight
    code on registers.
    """
    top = np.float32(2.0 ** (bits - 1))

    @_jit
    def total_of(v, out, lsb, amplitude, count):
        half, zero = np.float32(0.5), np.float32(0)
        none = out.dtype.type(0)
        for i in range(count):
            u = v[i] + lsb[i] * half
            theta = lsb[i] * top
            weight = amplitude[i]
            total = zero
            for _ in range(bits):
                fired = u >= theta
                u = u - theta if fired else u
                total += weight if fired else zero
                theta *= half
                weight *= half
            out[i] = _store(total, none)

    @_jit
    def kernel(
        x, out, in_steps, size, x_stride, channels, inner, lsbs, amplitudes, length, uniform, first_block, last_block
    ):
        v = np.empty(length, np.float32)
        lsb = np.empty(length, np.float32)
        amplitude = np.empty(length, np.float32)
        for block in range(first_block, last_block):
            first = block * length
            count = min(length, size - first)
            if not uniform or block == first_block:
                _fill(lsb, lsbs, first, count, channels, inner)
                _fill(amplitude, amplitudes, first, count, channels, inner)
            for i in range(count):
                v[i] = 0
            for t in range(in_steps):
                _accumulate(x, v, t * x_stride + first, count)
            total_of(v, out[first : first + count], lsb, amplitude, count)

    made: Callable[..., None] = kernel
    return made


@_jit
def add_codes(x, codes, size, channels, inner, amplitudes, length, uniform, first_block, last_block):
    """Add to ``x`` whole numbers that are worth an amplitude each."""
    amplitude = np.empty(length, np.float32)
    for block in range(first_block, last_block):
        first = block * length
        count = min(length, size - first)
        if not uniform or block == first_block:
            _fill(amplitude, amplitudes, first, count, channels, inner)
        xs = x[first : first + count]
        added = codes[first : first + count]
        for i in range(count):
            xs[i] += np.float32(added[i]) * amplitude[i]


@_jit
def _accumulate(x, v, first, count):
    xs = x[first : first + count]
    for i in range(count):
        v[i] += _load(xs[i])


@_jit
def _fire_bit(out, v, theta, amplitude, decay, first, count):
    outs = out[first : first + count]
    zero = outs.dtype.type(0)
    for i in range(count):
        fired = v[i] >= theta[i]
        v[i] = v[i] - theta[i] if fired else v[i]
        emitted = amplitude[i] if fired else np.float32(0)
        outs[i] = _store(emitted, zero)
        theta[i] *= np.float32(0.5)
        amplitude[i] *= decay


@_jit
def max_pool_scan(
    x,
    out,
    steps,
    batch,
    height,
    width,
    channels,
    out_height,
    out_width,
    kernel_height,
    kernel_width,
    stride_height,
    stride_width,
    pad_height,
    pad_width,
    dilation_height,
    dilation_width,
    first_row,
    last_row,
):
    """Max-pool the sums so far of channels-last steps, as differences; a row is one of the output's, of one input.

    The sums of the input's rows that a row reads stay in cache over all steps.
    """
    line, out_line = width * channels, out_width * channels
    step, out_step = batch * height * line, batch * out_height * out_line
    sums = np.empty((kernel_height, line), np.float32)
    places = np.empty(kernel_height, np.int64)
    before = np.empty(out_line, np.float32)
    best = np.empty(channels, np.float32)
    for row in range(first_row, last_row):
        image, y = row // out_height, row % out_height
        count = 0
        for i in range(kernel_height):
            at = y * stride_height - pad_height + i * dilation_height
            if 0 <= at < height:
                places[count] = (image * height + at) * line
                count += 1
        sums[:count] = np.float32(0)
        before[:] = np.float32(0)
        for t in range(steps):
            for k in range(count):
                total = sums[k]
                start = t * step + places[k]
                xs = x[start : start + line]
                for i in range(line):
                    total[i] += xs[i]
            for x_out in range(out_width):
                seen = False
                for j in range(kernel_width):
                    at = x_out * stride_width - pad_width + j * dilation_width
                    if at < 0 or at >= width:
                        continue
                    for k in range(count):
                        part = sums[k, at * channels : (at + 1) * channels]
                        if seen:
                            for c in range(channels):
                                value = part[c]
                                larger = (value > best[c]) | (value != value)  # NaN stays, as in PyTorch
                                best[c] = value if larger else best[c]
                        else:
                            for c in range(channels):
                                best[c] = part[c]
                            seen = True
                old = before[x_out * channels : (x_out + 1) * channels]
                start = t * out_step + row * out_line + x_out * channels
                outs = out[start : start + channels]
                for c in range(channels):
                    outs[c] = best[c] - old[c]
                    old[c] = best[c]
