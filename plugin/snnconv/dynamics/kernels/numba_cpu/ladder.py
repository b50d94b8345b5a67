"""Ladder neurons, compiled: one comparison a bit."""

from __future__ import annotations

import numpy as np
import torch

from ...ladder_thresholds import Ladder
from ..eager_functions import laddered
from ..job import Job
from .compiled import block_at, fill, jit, output_step, store
from .launch import array, launch
from .shifted import add_up

__all__ = ["scan", "total"]


def scan(job: Job) -> None:
    """Sum the whole input, then send a bit a step."""
    job, ladder = laddered(job)
    decay = np.float32(0.5 if job.scaled else 1.0)
    launch(job, ladder_scan, (len(job.x_seq), len(job.out)), (decay, *_tables(ladder)))


def total(job: Job) -> None:
    """Sum the whole input, then write the sum of the weighted bits."""
    job, ladder = laddered(job)
    launch(job, ladder_total, (len(job.x_seq), job.options["timesteps"]), _tables(ladder))


def _tables(ladder: Ladder) -> tuple[object, ...]:
    """Thresholds, directions, borders between pieces, where each channel's thresholds begin, codes below 0."""
    pieces, codes = ladder.values.shape[-2:]
    rows = torch.arange(ladder.values[..., 0, 0].numel()) * pieces
    tables = (ladder.values.reshape(-1), ladder.direction.reshape(-1), ladder.borders, rows)
    return *(array(table) for table in tables), codes, -ladder.lowest


@jit
def place(z, at, row, negative, values, directions, borders, codes, below, count):
    """Of summed inputs ``z`` the side and the sign: ``at`` in the direction in which f rises, ``row`` of thresholds."""
    for i in range(count):
        piece = row[i]
        for b in range(len(borders)):
            piece += z[i] > borders[b]
        at[i] = directions[piece] * z[i]
        row[i] = piece * codes
        negative[i] = below > 0 and at[i] < values[piece * codes + below - 1]


@jit
def ladder_scan(
    x, out, in_steps, out_steps, layout, lsbs, amplitudes, decay, values, directions, borders, rows, codes, below, share
):
    """Sum ``in_steps`` of input, then send ``out_steps`` bits; amplitudes as in `shifted.shifted_threshold_scan`."""
    _, _, _, _, length, _ = layout
    z = np.empty(length, np.float32)
    at = np.empty(length, np.float32)
    row = np.empty(length, np.int64)
    code = np.empty(length, np.int64)
    negative = np.empty(length, np.bool_)
    amplitude = np.empty(length, np.float32)
    for block in range(share[0], share[1]):
        first, count, _ = block_at(block, layout, share)
        fill(row, rows, first, count, layout)
        fill(amplitude, amplitudes, first, count, layout)
        add_up(x, z, in_steps, first, count, layout)
        place(z, at, row, negative, values, directions, borders, codes, below, count)
        for i in range(count):
            code[i] = 0
        worth = np.int64(1) << (out_steps - 1)
        for t in range(out_steps):
            outs = output_step(out, t, first, count, layout)
            zero = outs.dtype.type(0)
            for i in range(count):
                if negative[i]:
                    fired = at[i] < values[row[i] + code[i] - worth + below]
                    emitted = -amplitude[i] if fired else np.float32(0)
                    code[i] -= worth if fired else 0
                else:
                    fired = at[i] >= values[row[i] + code[i] + worth + below - 1]
                    emitted = amplitude[i] if fired else np.float32(0)
                    code[i] += worth if fired else 0
                outs[i] = store(emitted, zero)
                amplitude[i] *= decay
            worth >>= 1


@jit
def ladder_total(
    x, out, in_steps, bits, layout, lsbs, amplitudes, values, directions, borders, rows, codes, below, share
):
    """Sum ``in_steps`` of input, then write the sum of the weighted bits, added in their order."""
    _, _, _, _, length, _ = layout
    z = np.empty(length, np.float32)
    at = np.empty(length, np.float32)
    row = np.empty(length, np.int64)
    negative = np.empty(length, np.bool_)
    amplitude = np.empty(length, np.float32)
    none = out.dtype.type(0)
    for block in range(share[0], share[1]):
        first, count, _ = block_at(block, layout, share)
        fill(row, rows, first, count, layout)
        fill(amplitude, amplitudes, first, count, layout)
        add_up(x, z, in_steps, first, count, layout)
        place(z, at, row, negative, values, directions, borders, codes, below, count)
        outs = output_step(out, 0, first, count, layout)
        for i in range(count):
            total, weight = np.float32(0), amplitude[i]
            worth, code = np.int64(1) << (bits - 1), row[i] + below
            for _ in range(bits):
                if negative[i]:
                    fired = at[i] < values[code - worth]
                    total -= weight if fired else np.float32(0)
                    code -= worth if fired else 0
                else:
                    fired = at[i] >= values[code + worth - 1]
                    total += weight if fired else np.float32(0)
                    code += worth if fired else 0
                weight *= np.float32(0.5)
                worth >>= 1
            outs[i] = store(total, none)
