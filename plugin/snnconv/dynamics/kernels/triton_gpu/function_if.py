"""Integrate-and-fire on the sum as a Triton kernel: the targets are there, the spikes follow them."""

from __future__ import annotations

import triton
import triton.language as tl

from ...integrate_fire import STARTS
from ..eager_functions import targeted
from ..job import Job
from .launch import by_channel, dead_zones, launch, step_of

__all__ = ["resume", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    job = targeted(job)
    kept = step_of(job.state[0]) if job.state else job.x_seq
    constants = {
        "RESUMED": job.resumed,
        "KEEP": bool(job.state),
        "SIGNED": job.options["signed"],
        "TAKES_BACK": job.options["takes_back"],
        "PART": STARTS[job.options["start"]],
    }
    launch(job, function_if, (kept, dead_zones(job)), (len(job.x_seq),), **constants)


resume = scan


@triton.jit(do_not_specialize=["steps"])  # one compilation for every T
def function_if(
    y_p,
    out_p,
    n_p,
    dead_p,
    theta_p,
    worth_p,
    size,
    y_stride,
    channels,
    inner,
    steps,
    RESUMED: tl.constexpr,
    KEEP: tl.constexpr,
    SIGNED: tl.constexpr,
    TAKES_BACK: tl.constexpr,
    PART: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``PART`` of a threshold is where it starts; products are compared, never added to, so that none is contracted."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta = by_channel(theta_p, at, inside, channels, inner)
    worth = by_channel(worth_p, at, inside, channels, inner)
    dead = by_channel(dead_p, at, inside, channels, inner)
    n = tl.zeros_like(theta)
    if RESUMED:
        n = tl.load(n_p + at, mask=inside, other=0.0)
    for t in range(steps):
        y = tl.load(y_p + tl.cast(t, tl.int64) * y_stride + at, mask=inside, other=0.0).to(tl.float32)
        fired = y >= (n + (1.0 - PART)) * theta
        emitted = tl.where(fired, worth, tl.zeros_like(worth))
        change = fired.to(tl.float32)
        if TAKES_BACK:
            back = y + dead < (n - PART) * theta
            if not SIGNED:
                back = back & (n > 0)
            emitted = tl.where(back, -worth, emitted)
            change -= back.to(tl.float32)
        n += change
        tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
    if KEEP:
        tl.store(n_p + at, n, mask=inside)
