"""Ladder neurons as a Triton kernel: one comparison a bit, with a threshold that the prefix of bits chooses."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from ...ladder_thresholds import Ladder
from ..eager_functions import laddered
from ..job import Job
from .launch import by_channel, launch

__all__ = ["scan", "total"]


def scan(job: Job) -> None:
    """Sum the whole input, then send a bit a step."""
    job, found = laddered(job)
    after = (len(job.x_seq), len(job.out), 0.5 if job.scaled else 1.0)
    launch(job, ladder, _tables(found), after, **_constants(found), TOTAL=False)


def total(job: Job) -> None:
    """Sum the whole input, then write the sum of the weighted bits."""
    job, found = laddered(job)
    after = (len(job.x_seq), job.options["timesteps"], 0.5)
    launch(job, ladder, _tables(found), after, **_constants(found), TOTAL=True)


def _tables(found: Ladder) -> tuple[Any, ...]:
    borders = found.borders if found.borders.numel() else found.direction  # a pointer to something
    return found.values, found.direction, borders


def _constants(found: Ladder) -> dict[str, int]:
    pieces, codes = found.values.shape[-2:]
    return {"PIECES": pieces, "CODES": codes, "BELOW": -found.lowest}


@triton.jit(do_not_specialize=["in_steps", "out_steps"])  # one compilation for every T that has the same codes
def ladder(
    x_p,
    out_p,
    values_p,
    direction_p,
    border_p,
    theta_p,
    worth_p,
    size,
    x_stride,
    channels,
    inner,
    in_steps,
    out_steps,
    decay,
    PIECES: tl.constexpr,
    CODES: tl.constexpr,
    BELOW: tl.constexpr,
    TOTAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``worth`` is the first bit's; ``decay`` takes it from bit to bit. ``BELOW`` codes are below 0."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    worth = by_channel(worth_p, at, inside, channels, inner)
    z = tl.zeros_like(worth)
    for t in range(in_steps):
        z += tl.load(x_p + tl.cast(t, tl.int64) * x_stride + at, mask=inside, other=0.0).to(tl.float32)
    piece = ((at // inner) % channels) * PIECES
    for b in tl.static_range(PIECES - 1):
        piece += (z > tl.load(border_p + b)).to(tl.int64)
    z = tl.load(direction_p + piece, mask=inside, other=1.0) * z
    code = piece * CODES + BELOW
    negative = z < -float("inf")
    if BELOW > 0:
        negative = z < tl.load(values_p + code - 1, mask=inside, other=0.0)
    bit = tl.full([BLOCK], 1, tl.int64) << (out_steps - 1)
    total = tl.zeros_like(worth)
    for t in range(out_steps):
        threshold = tl.load(values_p + tl.where(negative, code - bit, code + bit - 1), mask=inside, other=0.0)
        fired = tl.where(negative, z < threshold, z >= threshold)
        signed = tl.where(negative, -worth, worth)
        emitted = tl.where(fired, signed, tl.zeros_like(worth))
        if TOTAL:
            total += emitted
        else:
            tl.store(out_p + tl.cast(t, tl.int64) * size + at, emitted.to(out_p.dtype.element_ty), mask=inside)
        code += tl.where(fired, tl.where(negative, -bit, bit), tl.zeros_like(bit))
        bit = bit >> 1
        worth *= decay
    if TOTAL:
        tl.store(out_p + at, total.to(out_p.dtype.element_ty), mask=inside)
