"""Integrate-and-fire, compiled."""

from __future__ import annotations

import numpy as np

from ...integrate_fire import STARTS
from ..job import Job
from ..layout import flat
from .compiled import block_at, fill, input_step, jit, load, output_step, remember
from .launch import array, launch

__all__ = ["if_steps", "resume", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    state = array(flat(job.state[0].unsqueeze(0))) if job.state else np.empty(0, np.float32)
    start = np.float32(STARTS[job.options["start"]])
    launch(job, if_scan, (state, job.resumed, bool(job.state), start, len(job.x_seq)))


resume = scan


@jit
def if_steps(x, out, v, theta, amplitude, start, stop, first, count, layout):
    """Steps ``start`` to ``stop`` of the neurons ``first`` to ``first + count``; ``v`` goes on."""
    zero = amplitude.dtype.type(0)
    for t in range(start, stop):
        xs = input_step(x, t, first, count, layout)
        outs = output_step(out, t, first, count, layout)
        for i in range(count):
            u = v[i] + load(xs[i])
            fired = u >= theta[i]
            v[i] = u - theta[i] if fired else u
            outs[i] = amplitude[i] if fired else zero


@jit
def if_scan(x, out, v_state, resume, keep, start, steps, layout, thetas, amplitudes, share):
    """Run integrate-and-fire; ``x`` and ``out`` are flat, step t at ``t * stride``.

    ``resume`` starts from ``v_state``, else it is ``start`` times the threshold; ``keep`` leaves the last one there.
    """
    _, _, _, _, length, _ = layout
    v = np.empty(length, np.float32)
    theta = np.empty(length, np.float32)
    amplitude = np.empty(length, out.dtype)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(theta, thetas, first, count, layout)
            fill(amplitude, amplitudes, first, count, layout)
        for i in range(count):
            v[i] = v_state[first + i] if resume else theta[i] * start
        if_steps(x, out, v, theta, amplitude, 0, steps, first, count, layout)
        if keep:
            remember(v, v_state, first, count)
