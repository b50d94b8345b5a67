"""From a job to a Triton kernel: one program per block of positions, steps inside, states in registers.

Potentials are float32. Products that could be contracted into a fused multiply-add are with powers of two, which is
exact, so that the spikes are the equation's bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..job import Flat, Job, flatten, tables
from ..layout import flat

__all__ = ["BLOCK", "by_channel", "dead_zones", "launch", "step_of"]

BLOCK = 1024


@triton.jit
def by_channel(table_p, at, inside, channels, inner):
    """The values of a table at positions ``at``."""
    return tl.load(table_p + (at // inner) % channels, mask=inside, other=0.0)


def launch(job: Job, kernel: Any, before: tuple[Any, ...], after: tuple[Any, ...], **constants: Any) -> None:
    """Call ``kernel(x, out, *before, thetas, worths, size, x_stride, channels, inner, *after, **constants, BLOCK)``.

    The tables are float32, which holds exactly what has been rounded to the output's dtype.
    """
    f: Flat = flatten(job)
    by_channels = (table.float().to(f.x.device) for table in tables(job))
    shape = (f.size, f.x_stride, f.channels, f.inner)
    grid = (triton.cdiv(f.size, BLOCK),)
    with torch.cuda.device_of(f.x):  # Triton launches on the current device, whatever its arguments are on
        kernel[grid](flat(f.x), flat(f.out), *before, *by_channels, *shape, *after, **constants, BLOCK=BLOCK)
    if f.out is not job.out:
        job.out.copy_(f.out)


def dead_zones(job: Job) -> Tensor:
    """`Job.dead_zone` by channel."""
    channels = job.dead_zone().channels
    assert channels is not None
    return channels.float().to(job.x_seq.device)


def step_of(tensor: Tensor) -> Tensor:
    """The memory of one step."""
    return flat(tensor.unsqueeze(0))
