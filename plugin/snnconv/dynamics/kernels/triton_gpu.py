"""Scans as Triton kernels: one program per block of positions, steps inside, states in registers.

Potentials are float32. Products that could be contracted into a fused multiply-add are with powers of two, which is
exact, so that the spikes are the reference's bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .backends import Flat, Job, tables
from .layout import flat

BLOCK = 1024


@triton.jit
def _tables(theta_p, amplitude_p, dead_p, at, inside, channels, inner):
    channel = (at // inner) % channels
    return (
        tl.load(theta_p + channel, mask=inside, other=1.0),
        tl.load(amplitude_p + channel, mask=inside, other=0.0),
        tl.load(dead_p + channel, mask=inside, other=0.0),
    )


@triton.jit
def _integrate_fire(
    x_p,
    out_p,
    mask_p,
    v_p,
    n_p,
    theta_p,
    amplitude_p,
    dead_p,
    size,
    x_stride,
    channels,
    inner,
    pre,
    steps,
    SIGNED: tl.constexpr,
    PHASE: tl.constexpr,
    RESUMED: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """IF, signed IF and SRP. ``PHASE``: 0 none, 1 writes the mask, 2 reads it, 3 both phases in one sequence."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta, amplitude, dead = _tables(theta_p, amplitude_p, dead_p, at, inside, channels, inner)
    v = theta * 0.5
    n = tl.zeros_like(theta)
    if RESUMED:
        v = tl.load(v_p + at, mask=inside, other=0.0)
        if SIGNED:
            n = tl.load(n_p + at, mask=inside, other=0.0)
    if PHASE == 2:
        allowed = tl.load(mask_p + at, mask=inside, other=0)
        amplitude = tl.where(allowed != 0, amplitude, tl.zeros_like(amplitude))
    for t in range(steps):
        if PHASE == 3:
            begins = t == pre
            silenced = begins & (v <= dead) & (pre > 0)
            amplitude = tl.where(silenced, tl.zeros_like(amplitude), amplitude)
            v = tl.where(begins, theta * 0.5, v)
        v += tl.load(x_p + t * x_stride + at, mask=inside, other=0.0).to(tl.float32)
        fired = v >= theta
        v = tl.where(fired, v - theta, v)
        emitted = tl.where(fired, amplitude, tl.zeros_like(amplitude))
        if SIGNED:
            back = (v + dead < 0) & (n > 0)
            v = tl.where(back, v + theta, v)
            n += fired.to(tl.float32) - back.to(tl.float32)
            emitted = tl.where(back, -amplitude, emitted)
        tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
    if PHASE == 1:
        tl.store(mask_p + at, (v > dead).to(tl.uint8), mask=inside)
    if KEEP:
        tl.store(v_p + at, v, mask=inside)
        if SIGNED:
            tl.store(n_p + at, n, mask=inside)


@triton.jit
def _shifted_threshold(
    x_p,
    out_p,
    theta_p,
    amplitude_p,
    size,
    x_stride,
    channels,
    inner,
    in_steps,
    out_steps,
    top,
    decay,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta, amplitude, _ = _tables(theta_p, amplitude_p, theta_p, at, inside, channels, inner)
    v = tl.zeros_like(theta)
    for t in range(in_steps):
        v += tl.load(x_p + t * x_stride + at, mask=inside, other=0.0).to(tl.float32)
    v += theta * 0.5
    theta *= top
    total = tl.zeros_like(theta)
    for t in range(out_steps):
        fired = v >= theta
        v = tl.where(fired, v - theta, v)
        emitted = tl.where(fired, amplitude, tl.zeros_like(amplitude))
        if TOTAL:
            total += emitted
        else:
            tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
        theta *= 0.5
        amplitude *= decay
    if TOTAL:
        tl.store(out_p + at, total.to(out_p.dtype.element_ty), mask=inside)


def run(job: Job, f: Flat) -> None:
    """Run a job that `backends.flatten` has laid out."""
    grid = (triton.cdiv(f.size, BLOCK),)
    steps = len(job.x_seq)
    # the amplitudes have been rounded to the output's dtype already, so that float32 holds them exactly
    theta, amplitude, dead = (table.float().to(f.x.device) for table in tables(job))
    shape = (f.size, f.x_stride, f.channels, f.inner)
    x, out = flat(f.x), flat(f.out)
    if job.neuron == "shifted_threshold":
        bits = job.bits or len(job.out)
        top, decay = 2.0 ** (bits - 1), 0.5 if job.scaled else 1.0
        _shifted_threshold[grid](
            x, out, theta, amplitude, *shape, steps, bits, top, decay, TOTAL=bool(job.bits), BLOCK=BLOCK
        )
        return
    phase = 0
    if job.neuron == "srp":
        phase = 3 if job.mask is None else 1 if job.is_first else 2
    mask: Any = flat(job.mask.unsqueeze(0)).view(torch.uint8) if job.mask is not None else theta
    states = [flat(s.unsqueeze(0)) for s in job.state]
    v = states[0] if states else theta
    n = states[1] if len(states) > 1 else theta
    _integrate_fire[grid](
        x,
        out,
        mask,
        v,
        n,
        theta,
        amplitude,
        dead,
        *shape,
        job.pre,
        steps,
        SIGNED=job.neuron == "signed_if",
        PHASE=phase,
        RESUMED=job.resumed,
        KEEP=bool(states),
        BLOCK=BLOCK,
    )
