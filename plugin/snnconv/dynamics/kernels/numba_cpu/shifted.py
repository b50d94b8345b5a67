"""Shifted-threshold integrate-and-fire, compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..job import Job
from .compiled import block_at, fill, input_step, jit, load, output_step, store
from .launch import launch

__all__ = ["scan", "total"]


def scan(job: Job) -> None:
    """Sum the whole input, then fire one bit a step."""
    decay = np.float32(0.5 if job.scaled else 1.0)
    job = job.evaluated()
    launch(job, shifted_threshold_scan, (len(job.x_seq), len(job.out)), (decay, job.negative))


def total(job: Job) -> None:
    """Sum the whole input, then write the sum of the weighted spikes."""
    job = job.evaluated()
    launch(job, shifted_threshold_total(job.options["timesteps"], job.negative), (len(job.x_seq),))


@jit
def shifted_threshold_scan(x, out, in_steps, out_steps, layout, lsbs, amplitudes, decay, signed, share):
    """Sum ``in_steps`` of input, then fire ``out_steps`` bits.

    ``amplitudes`` are those of the first bit, as float32; ``decay`` takes them from bit to bit, 0.5 or 1.
    """
    _, _, _, _, length, _ = layout
    v = np.empty(length, np.float32)
    lsb = np.empty(length, np.float32)
    amplitudes_ = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    amplitude = np.empty(length, np.float32)
    top = np.float32(2.0 ** (out_steps - 1))
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(lsb, lsbs, first, count, layout)
            fill(amplitudes_, amplitudes, first, count, layout)
        add_up(x, v, in_steps, first, count, layout)
        for i in range(count):
            v[i] += lsb[i] * np.float32(0.5)
            theta[i] = lsb[i] * top
            amplitude[i] = amplitudes_[i]
        for t in range(out_steps):
            outs = output_step(out, t, first, count, layout)
            if signed:
                fire_signed_bit(outs, v, lsb, theta, amplitude, decay, count)
            else:
                fire_bit(outs, v, theta, amplitude, decay, count)


@functools.cache
def shifted_threshold_total(bits: int, signed: bool) -> Callable[..., None]:
    """Kernel that sums ``in_steps`` of input, then writes the sum of the weighted spikes of ``bits`` bits.

    The spikes are never written. It is compiled once for every number of bits, with signs or without, so that a
    neuron's bits are straight code on registers.
    """
    top = np.float32(2.0 ** (bits - 1))

    @jit
    def kernel(x, out, in_steps, layout, lsbs, amplitudes, share):
        # one function that closes over numbers alone: numba finds no other one again on disk
        _, _, _, _, length, _ = layout
        v = np.empty(length, np.float32)
        lsb = np.empty(length, np.float32)
        amplitude = np.empty(length, np.float32)
        half, zero = np.float32(0.5), np.float32(0)
        none = out.dtype.type(0)
        for block in range(share[0], share[1]):
            first, count, fresh = block_at(block, layout, share)
            if fresh:
                fill(lsb, lsbs, first, count, layout)
                fill(amplitude, amplitudes, first, count, layout)
            add_up(x, v, in_steps, first, count, layout)
            outs = output_step(out, 0, first, count, layout)
            for i in range(count):
                u = v[i] + lsb[i] * half
                theta = lsb[i] * top
                weight = amplitude[i]
                total = zero
                for _ in range(bits):
                    fired = u >= theta
                    if signed:
                        below = u < lsb[i] - theta
                        u = u + theta if below else u
                        total -= weight if below else zero
                    u = u - theta if fired else u
                    total += weight if fired else zero
                    theta *= half
                    weight *= half
                outs[i] = store(total, none)

    made: Callable[..., None] = kernel
    return made


@jit
def add_up(x, v, steps, first, count, layout):
    """The sum ``v`` of all steps of the input, at the positions from ``first``."""
    for i in range(count):
        v[i] = 0
    for t in range(steps):
        xs = input_step(x, t, first, count, layout)
        for i in range(count):
            v[i] += load(xs[i])


@jit
def fire_bit(outs, v, theta, amplitude, decay, count):
    zero = outs.dtype.type(0)
    for i in range(count):
        fired = v[i] >= theta[i]
        v[i] = v[i] - theta[i] if fired else v[i]
        emitted = amplitude[i] if fired else np.float32(0)
        outs[i] = store(emitted, zero)
        theta[i] *= np.float32(0.5)
        amplitude[i] *= decay


@jit
def fire_signed_bit(outs, v, lsb, theta, amplitude, decay, count):
    zero = outs.dtype.type(0)
    for i in range(count):
        fired = v[i] >= theta[i]
        below = v[i] < lsb[i] - theta[i]
        down = v[i] - theta[i] if fired else v[i]
        emitted = amplitude[i] if fired else np.float32(0)
        emitted = -amplitude[i] if below else emitted
        v[i] = v[i] + theta[i] if below else down
        outs[i] = store(emitted, zero)
        theta[i] *= np.float32(0.5)
        amplitude[i] *= decay
