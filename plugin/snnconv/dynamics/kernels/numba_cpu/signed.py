"""Signed integrate-and-fire, compiled."""

from __future__ import annotations

import numpy as np

from ..job import Job
from ..layout import flat
from .compiled import block_at, fill, input_step, jit, load, negate, output_step, remember
from .launch import array, dead_zones, launch

__all__ = ["resume", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    states = [array(flat(s.unsqueeze(0))) for s in job.state] or [np.empty(0, np.float32)] * 2
    how = (*states, job.resumed, bool(job.state), job.options["signed"], len(job.x_seq))
    launch(job, signed_if_scan, how, (dead_zones(job),))


resume = scan


@jit
def signed_if_scan(
    x, out, v_state, n_state, resume, keep, signed, steps, layout, thetas, amplitudes, dead_zones, share
):
    """Run signed integrate-and-fire; states as in `integrate_fire.if_scan`."""
    _, _, _, _, length, _ = layout
    v = np.empty(length, np.float32)
    n = np.empty(length, np.int32)
    theta = np.empty(length, np.float32)
    dead_zone = np.empty(length, np.float32)
    amplitude = np.empty(length, out.dtype)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(theta, thetas, first, count, layout)
            fill(dead_zone, dead_zones, first, count, layout)
            fill(amplitude, amplitudes, first, count, layout)
        for i in range(count):
            v[i] = v_state[first + i] if resume else theta[i] * np.float32(0.5)
            n[i] = np.int32(n_state[first + i]) if resume else np.int32(0)
        _signed_steps(x, out, v, n, theta, dead_zone, amplitude, signed, steps, first, count, layout)
        if keep:
            remember(v, v_state, first, count)
            remember(n, n_state, first, count)


@jit
def _signed_steps(x, out, v, n, theta, dead_zone, amplitude, signed, steps, first, count, layout):
    zero = amplitude.dtype.type(0)
    for t in range(steps):
        xs = input_step(x, t, first, count, layout)
        outs = output_step(out, t, first, count, layout)
        for i in range(count):
            u = v[i] + load(xs[i])
            fired = u >= theta[i]
            # A positive spike leaves u >= 0, so at most one of the two fires.
            taken_back = (u + dead_zone[i] < np.float32(0)) & (signed | (n[i] > 0))
            down = u - theta[i] if fired else u
            v[i] = u + theta[i] if taken_back else down
            n[i] += np.int32(fired) - np.int32(taken_back)
            emitted = amplitude[i] if fired else zero
            outs[i] = negate(amplitude[i]) if taken_back else emitted
