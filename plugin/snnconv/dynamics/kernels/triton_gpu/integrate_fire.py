"""Integrate-and-fire as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl

from ...integrate_fire import STARTS
from ..job import Job
from .launch import by_channel, launch, step_of

__all__ = ["resume", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    v = step_of(job.state[0]) if job.state else job.x_seq
    constants = {"RESUMED": job.resumed, "KEEP": bool(job.state), "START": STARTS[job.options["start"]]}
    launch(job, integrate_fire, (v,), (len(job.x_seq),), **constants)


resume = scan


@triton.jit(do_not_specialize=["steps"])  # one compilation for every T
def integrate_fire(
    x_p,
    out_p,
    v_p,
    theta_p,
    worth_p,
    size,
    x_stride,
    channels,
    inner,
    steps,
    RESUMED: tl.constexpr,
    KEEP: tl.constexpr,
    START: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``RESUMED`` starts from the state, else from ``START`` thresholds; ``KEEP`` leaves the last potential there."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta = by_channel(theta_p, at, inside, channels, inner)
    worth = by_channel(worth_p, at, inside, channels, inner)
    v = theta * START
    if RESUMED:
        v = tl.load(v_p + at, mask=inside, other=0.0)
    for t in range(steps):
        v += tl.load(x_p + tl.cast(t, tl.int64) * x_stride + at, mask=inside, other=0.0).to(tl.float32)
        fired = v >= theta
        v = tl.where(fired, v - theta, v)
        emitted = tl.where(fired, worth, tl.zeros_like(worth))
        tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
    if KEEP:
        tl.store(v_p + at, v, mask=inside)
