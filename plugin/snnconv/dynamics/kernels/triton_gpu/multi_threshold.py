"""Multi-threshold neurons, one power of two a step or all of them, as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ...multi_threshold import BORDER, SLACK
from ..job import Job
from .launch import by_channel, launch, step_of

__all__ = ["resume", "run", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    run(job, hierarchical=False)


resume = scan


def run(job: Job, *, hierarchical: bool) -> None:
    """A sequence of neurons that send every power of two at once, or one a step."""
    *tensors, done = job.state or (0,)
    states = [step_of(s) for s in tensors] or [job.x_seq] * 3
    tables = [_on(job, part.channels) for part in (job.thresholds.fraction(BORDER), job.ceiling())]
    constants = {
        "RESUMED": job.resumed,
        "KEEP": bool(tensors),
        "THRESHOLDS": job.options["thresholds"],
        "RECTIFIED": not job.options["signed"],
        "SLACK": SLACK,
        "HIERARCHICAL": hierarchical,
        "enable_fp_fusion": False,  # a code times a threshold is not exact
    }
    launch(job, multi_threshold, (*states, *tables), (int(done), len(job.x_seq)), **constants)


def _on(job: Job, channels: Tensor | None) -> Tensor:
    assert channels is not None
    return channels.float().to(job.x_seq.device)


@triton.jit(do_not_specialize=["done", "steps"])  # one compilation for every T
def multi_threshold(
    x_p,
    out_p,
    v_p,
    m_p,
    r_p,
    border_p,
    ceiling_p,
    theta_p,
    worth_p,
    size,
    x_stride,
    channels,
    inner,
    done,
    steps,
    RESUMED: tl.constexpr,
    KEEP: tl.constexpr,
    THRESHOLDS: tl.constexpr,
    RECTIFIED: tl.constexpr,
    HIERARCHICAL: tl.constexpr,
    SLACK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``RESUMED`` starts from the states, ``KEEP`` leaves the last ones there; ``done`` steps were before these."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    q = tl.where(inside, by_channel(theta_p, at, inside, channels, inner), 1.0)
    border = by_channel(border_p, at, inside, channels, inner)
    ceiling = by_channel(ceiling_p, at, inside, channels, inner)
    worth = by_channel(worth_p, at, inside, channels, inner)
    v = tl.zeros_like(q)
    m = tl.zeros_like(q)
    r = tl.zeros_like(q)
    if RESUMED:
        v = tl.load(v_p + at, mask=inside, other=0.0)
        m = tl.load(m_p + at, mask=inside, other=0.0)
        r = tl.load(r_p + at, mask=inside, other=0.0)
    for i in range(steps):
        t = tl.zeros_like(q) + (done + i + 1).to(tl.float32)
        current = tl.load(x_p + tl.cast(i, tl.int64) * x_stride + at, mask=inside, other=0.0).to(tl.float32)
        v += m + current
        m += tl.div_rn(current, t)
        u = tl.minimum(v - r, (ceiling - r) * t)
        if HIERARCHICAL:
            most = 2.0**THRESHOLDS - 1
            spike = tl.minimum(tl.maximum(tl.floor(tl.div_rn(u, q) + 0.5), -most), most)
            if RECTIFIED:
                spike = tl.maximum(spike, -tl.maximum(tl.floor(tl.div_rn(r * t, q) + SLACK), 0.0))
        else:
            spike = tl.zeros_like(q)
            for k in tl.static_range(THRESHOLDS):
                spike = tl.where(tl.abs(u) >= border * 2.0**k, 2.0**k, spike)
            spike = tl.where(u < 0, -spike, spike)
            if RECTIFIED:
                spike = tl.where(r + tl.div_rn(spike * q, t) < 0, 0.0, spike)
        value = spike * q
        v -= r + value
        r += tl.div_rn(value, t)
        emitted = spike * worth
        tl.store(out_p + tl.cast(i, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
    if KEEP:
        tl.store(v_p + at, v, mask=inside)
        tl.store(m_p + at, m, mask=inside)
        tl.store(r_p + at, r, mask=inside)
