"""Signed integrate-and-fire as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl

from ..job import Job
from .launch import by_channel, dead_zones, launch, step_of

__all__ = ["resume", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    v, n = (step_of(s) for s in job.state) if job.state else (job.x_seq, job.x_seq)
    constants = {"RESUMED": job.resumed, "KEEP": bool(job.state), "SIGNED": job.options["signed"]}
    launch(job, signed_integrate_fire, (v, n, dead_zones(job)), (len(job.x_seq),), **constants)


resume = scan


@triton.jit(do_not_specialize=["steps"])  # one compilation for every T
def signed_integrate_fire(
    x_p,
    out_p,
    v_p,
    n_p,
    dead_p,
    theta_p,
    worth_p,
    size,
    x_stride,
    channels,
    inner,
    steps,
    RESUMED: tl.constexpr,
    KEEP: tl.constexpr,
    SIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``RESUMED`` starts from the states, ``KEEP`` leaves the last ones there."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta = by_channel(theta_p, at, inside, channels, inner)
    worth = by_channel(worth_p, at, inside, channels, inner)
    dead = by_channel(dead_p, at, inside, channels, inner)
    v = theta * 0.5
    n = tl.zeros_like(theta)
    if RESUMED:
        v = tl.load(v_p + at, mask=inside, other=0.0)
        n = tl.load(n_p + at, mask=inside, other=0.0)
    for t in range(steps):
        v += tl.load(x_p + tl.cast(t, tl.int64) * x_stride + at, mask=inside, other=0.0).to(tl.float32)
        fired = v >= theta
        v = tl.where(fired, v - theta, v)
        emitted = tl.where(fired, worth, tl.zeros_like(worth))
        back = v + dead < 0
        if not SIGNED:
            back = back & (n > 0)
        v = tl.where(back, v + theta, v)
        n += fired.to(tl.float32) - back.to(tl.float32)
        emitted = tl.where(back, -worth, emitted)
        tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
    if KEEP:
        tl.store(v_p + at, v, mask=inside)
        tl.store(n_p + at, n, mask=inside)
