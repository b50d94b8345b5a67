"""Multi-threshold neurons, one power of two a step or all of them, compiled."""

from __future__ import annotations

import numpy as np

from ...multi_threshold import BORDER, SLACK
from ..job import Job
from ..layout import flat
from .compiled import block_at, fill, input_step, jit, load, output_step, recall, remember, times
from .launch import array, launch

__all__ = ["resume", "run", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    run(job, hierarchical=False)


resume = scan


def run(job: Job, *, hierarchical: bool) -> None:
    """A sequence of neurons that send every power of two at once, or one a step."""
    *tensors, done = job.state or (0,)
    states = [array(flat(s.unsqueeze(0))) for s in tensors] or [np.empty(0, np.float32)] * 3
    how = (*states, job.resumed, bool(tensors), int(done), len(job.x_seq))
    rule = (hierarchical, job.options["thresholds"], not job.options["signed"])
    borders, ceilings = job.thresholds.fraction(BORDER).channels, job.ceiling().channels
    assert borders is not None
    assert ceilings is not None
    launch(job, multi_threshold_scan, how, (array(borders), array(ceilings), *rule))


@jit
def multi_threshold_scan(
    x, out, v_state, m_state, r_state, resume, keep, done, steps, layout, thetas, amplitudes, borders, ceilings,
    hierarchical, thresholds, nonnegative, share
):  # fmt: skip
    """Run multi-threshold neurons; states as in `integrate_fire.if_scan`, ``done`` steps before these."""
    _, _, _, _, length, _ = layout
    v = np.empty(length, np.float32)
    m = np.empty(length, np.float32)
    r = np.empty(length, np.float32)
    spike = np.empty(length, np.float32)
    q = np.empty(length, np.float32)
    border = np.empty(length, np.float32)
    ceiling = np.empty(length, np.float32)
    amplitude = np.empty(length, out.dtype)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(q, thetas, first, count, layout)
            fill(border, borders, first, count, layout)
            fill(ceiling, ceilings, first, count, layout)
            fill(amplitude, amplitudes, first, count, layout)
        recall(v, v_state, resume, first, count)
        recall(m, m_state, resume, first, count)
        recall(r, r_state, resume, first, count)
        tables = (q, border, ceiling, amplitude)
        rule = (hierarchical, thresholds, nonnegative)
        _steps(x, out, v, m, r, spike, tables, rule, done, steps, first, count, layout)
        if keep:
            remember(v, v_state, first, count)
            remember(m, m_state, first, count)
            remember(r, r_state, first, count)


@jit
def _steps(x, out, v, m, r, spike, tables, rule, done, steps, first, count, layout):
    q, border, ceiling, amplitude = tables
    hierarchical, thresholds, nonnegative = rule
    most, zero, slack = np.float32(2**thresholds - 1), np.float32(0), np.float32(SLACK)
    for step in range(steps):
        t = np.float32(done + step + 1)
        xs = input_step(x, step, first, count, layout)
        outs = output_step(out, step, first, count, layout)
        for i in range(count):
            current = load(xs[i])
            v[i] += m[i] + current
            m[i] += current / t
            u = min(v[i] - r[i], (ceiling[i] - r[i]) * t)
            if hierarchical:
                code = min(max(np.floor(u / q[i] + np.float32(0.5)), -most), most)
                if nonnegative:
                    code = max(code, -max(np.floor(r[i] * t / q[i] + slack), zero))
                spike[i] = code
            else:
                spike[i] = _power(u, border[i], thresholds)
                if nonnegative and r[i] + spike[i] * q[i] / t < zero:
                    spike[i] = zero
            value = spike[i] * q[i]
            v[i] -= r[i] + value
            r[i] += value / t
            outs[i] = times(spike[i], amplitude[i])


@jit
def _power(u, border, thresholds):
    """The largest power of two that fires, with the sign of ``u``; 0 where none does."""
    size, power = np.float32(0), np.float32(1)
    far = abs(u)
    for _ in range(thresholds):
        size = power if far >= border * power else size
        power *= np.float32(2)
    return size if u >= 0 else -size
