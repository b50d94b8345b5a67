"""Integrate-and-fire on the sum, compiled: the targets are there, the spikes follow them."""

from __future__ import annotations

import numpy as np

from ...integrate_fire import STARTS
from ..eager_functions import targeted
from ..job import Job
from ..layout import flat
from .compiled import block_at, fill, input_step, jit, negate, output_step, recall, remember
from .launch import array, dead_zones, launch

__all__ = ["resume", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    job = targeted(job)
    kept = array(flat(job.state[0].unsqueeze(0))) if job.state else np.empty(0, np.float32)
    part = np.float32(STARTS[job.options["start"]])
    how = (kept, job.resumed, bool(job.state), job.options["signed"], job.options["takes_back"], part)
    launch(job, function_if_scan, (*how, len(job.x_seq)), (dead_zones(job),))


resume = scan


@jit
def function_if_scan(
    y, out, n_state, resume, keep, signed, takes_back, part, steps, layout, thetas, amplitudes, dead_zones, share
):
    """Fire towards the targets ``y``, from ``part`` of a threshold; ``n_state`` holds the spikes before and after."""
    _, _, _, _, length, _ = layout
    n = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    dead_zone = np.empty(length, np.float32)
    amplitude = np.empty(length, out.dtype)
    zero, one, none = amplitude.dtype.type(0), np.float32(1), np.float32(0)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(theta, thetas, first, count, layout)
            fill(dead_zone, dead_zones, first, count, layout)
            fill(amplitude, amplitudes, first, count, layout)
        recall(n, n_state, resume, first, count)
        for t in range(steps):
            ys = input_step(y, t, first, count, layout)
            outs = output_step(out, t, first, count, layout)
            for i in range(count):
                fired = ys[i] >= (n[i] + (one - part)) * theta[i]
                below = ys[i] + dead_zone[i] < (n[i] - part) * theta[i]
                back = takes_back & below & (signed | (n[i] > none))
                emitted = amplitude[i] if fired else zero
                outs[i] = negate(amplitude[i]) if back else emitted
                n[i] += (one if fired else none) - (one if back else none)
        if keep:
            remember(n, n_state, first, count)
