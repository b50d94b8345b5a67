"""SRP-IF, compiled: both phases, or one of them."""

from __future__ import annotations

import numpy as np

from ..job import Job
from ..layout import flat
from .compiled import block_at, fill, jit
from .integrate_fire import if_steps
from .launch import array, dead_zones, launch

__all__ = ["phase", "scan"]


def scan(job: Job) -> None:
    """Both phases in one sequence."""
    launch(job, srp_scan, (len(job.x_seq),), (dead_zones(job), job.options["pre_timesteps"]))


def phase(job: Job) -> None:
    """One phase; the first writes the job's mask, the second reads it."""
    assert job.mask is not None
    mask = array(flat(job.mask.unsqueeze(0)))
    launch(job, srp_phase, (mask, job.is_first, len(job.x_seq)), (dead_zones(job),))


@jit
def srp_scan(x, out, steps, layout, thetas, amplitudes, dead_zones, pre, share):
    """Run SRP-IF: ``pre`` steps of phase 1, then phase 2 with the silenced neurons' amplitude at zero."""
    _, _, _, _, length, _ = layout
    v = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    dead_zone = np.empty(length, np.float32)
    amplitudes_ = np.empty(length, out.dtype)
    amplitude = np.empty(length, out.dtype)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(theta, thetas, first, count, layout)
            fill(dead_zone, dead_zones, first, count, layout)
            fill(amplitudes_, amplitudes, first, count, layout)
        for i in range(count):
            v[i] = theta[i] * np.float32(0.5)
            amplitude[i] = amplitudes_[i]
        if pre > 0:
            if_steps(x, out, v, theta, amplitude, 0, pre, first, count, layout)
            for i in range(count):
                if not v[i] > dead_zone[i]:
                    amplitude[i] = 0
                v[i] = theta[i] * np.float32(0.5)
        if_steps(x, out, v, theta, amplitude, pre, steps, first, count, layout)


@jit
def srp_phase(x, out, mask, is_first, steps, layout, thetas, amplitudes, dead_zones, share):
    """Run one phase of SRP-IF: the first writes ``mask``, in the second it sets amplitudes to zero."""
    _, _, _, _, length, _ = layout
    v = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    dead_zone = np.empty(length, np.float32)
    amplitudes_ = np.empty(length, out.dtype)
    amplitude = np.empty(length, out.dtype)
    zero = amplitude.dtype.type(0)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(theta, thetas, first, count, layout)
            fill(dead_zone, dead_zones, first, count, layout)
            fill(amplitudes_, amplitudes, first, count, layout)
        for i in range(count):
            v[i] = theta[i] * np.float32(0.5)
            amplitude[i] = amplitudes_[i] if is_first or mask[first + i] else zero
        if_steps(x, out, v, theta, amplitude, 0, steps, first, count, layout)
        if is_first:
            for i in range(count):
                mask[first + i] = v[i] > dead_zone[i]
