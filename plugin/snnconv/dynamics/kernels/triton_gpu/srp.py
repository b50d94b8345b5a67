"""SRP-IF as a Triton kernel: both phases, or one of them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..job import Job
from .launch import by_channel, dead_zones, launch, step_of

__all__ = ["phase", "scan"]


def scan(job: Job) -> None:
    """Both phases in one sequence."""
    before, after = (job.x_seq, dead_zones(job)), (job.options["pre_timesteps"], len(job.x_seq))
    launch(job, two_phases, before, after, PHASE=0)


def phase(job: Job) -> None:
    """One phase; the first writes the job's mask, the second reads it."""
    assert job.mask is not None
    before = (step_of(job.mask).view(torch.uint8), dead_zones(job))
    launch(job, two_phases, before, (0, len(job.x_seq)), PHASE=1 if job.is_first else 2)


@triton.jit(do_not_specialize=["pre", "steps"])  # one compilation for every T
def two_phases(
    x_p,
    out_p,
    mask_p,
    dead_p,
    theta_p,
    worth_p,
    size,
    x_stride,
    channels,
    inner,
    pre,
    steps,
    PHASE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``PHASE``: 0 both phases in one sequence, 1 writes the mask, 2 reads it."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta = by_channel(theta_p, at, inside, channels, inner)
    worth = by_channel(worth_p, at, inside, channels, inner)
    dead = by_channel(dead_p, at, inside, channels, inner)
    v = theta * 0.5
    if PHASE == 2:
        allowed = tl.load(mask_p + at, mask=inside, other=0)
        worth = tl.where(allowed != 0, worth, tl.zeros_like(worth))
    for t in range(steps):
        if PHASE == 0:
            begins = t == pre
            silenced = begins & (v <= dead) & (pre > 0)
            worth = tl.where(silenced, tl.zeros_like(worth), worth)
            v = tl.where(begins, theta * 0.5, v)
        v += tl.load(x_p + tl.cast(t, tl.int64) * x_stride + at, mask=inside, other=0.0).to(tl.float32)
        fired = v >= theta
        v = tl.where(fired, v - theta, v)
        emitted = tl.where(fired, worth, tl.zeros_like(worth))
        tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
    if PHASE == 1:
        tl.store(mask_p + at, (v > dead).to(tl.uint8), mask=inside)
