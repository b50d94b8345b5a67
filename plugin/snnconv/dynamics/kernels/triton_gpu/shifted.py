"""Shifted-threshold integrate-and-fire as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl

from ..job import Job
from .launch import by_channel, launch

__all__ = ["scan", "total"]


def scan(job: Job) -> None:
    """Sum the whole input, then fire one bit a step."""
    job, bits = job.evaluated(), len(job.out)
    after = (len(job.x_seq), bits, 2.0 ** (bits - 1), 0.5 if job.scaled else 1.0)
    launch(job, shifted_threshold, (), after, SIGNED=job.negative, TOTAL=False)


def total(job: Job) -> None:
    """Sum the whole input, then write the sum of the weighted spikes."""
    job, bits = job.evaluated(), job.options["timesteps"]
    after = (len(job.x_seq), bits, 2.0 ** (bits - 1), 0.5)
    launch(job, shifted_threshold, (), after, SIGNED=job.negative, TOTAL=True)


@triton.jit(do_not_specialize=["in_steps", "out_steps"])  # one compilation for every T
def shifted_threshold(
    x_p,
    out_p,
    theta_p,
    worth_p,
    size,
    x_stride,
    channels,
    inner,
    in_steps,
    out_steps,
    top,
    decay,
    SIGNED: tl.constexpr,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``worth`` is the first bit's; ``decay`` takes it from bit to bit."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta = by_channel(theta_p, at, inside, channels, inner)
    worth = by_channel(worth_p, at, inside, channels, inner)
    v = tl.zeros_like(theta)
    for t in range(in_steps):
        v += tl.load(x_p + tl.cast(t, tl.int64) * x_stride + at, mask=inside, other=0.0).to(tl.float32)
    lsb = theta
    v += theta * 0.5
    theta *= top
    total = tl.zeros_like(theta)
    for t in range(out_steps):
        fired = v >= theta
        emitted = tl.where(fired, worth, tl.zeros_like(worth))
        if SIGNED:
            below = v < lsb - theta
            emitted = tl.where(below, -worth, emitted)
            v = tl.where(below, v + theta, v)
        v = tl.where(fired, v - theta, v)
        if TOTAL:
            total += emitted
        else:
            tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
        theta *= 0.5
        worth *= decay
    if TOTAL:
        tl.store(out_p + at, total.to(out_p.dtype.element_ty), mask=inside)
