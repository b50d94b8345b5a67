"""Ladder neurons, compiled: the code is looked up where the function points, and the thresholds around it decide."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ...ladder_thresholds import Ladder
from ..eager_functions import laddered
from ..job import Job
from ..layout import dense_steps, empty_steps, flat, same_layout
from .compiled import block_at, fill, input_step, jit, output_step, store
from .launch import array, launch

__all__ = ["scan", "total"]


def scan(job: Job) -> None:
    """Sum the whole input, then send a bit a step."""
    decay = np.float32(0.5 if job.scaled else 1.0)
    job, y, ladder = _pointed(job)
    launch(job, ladder_scan, (y, len(job.out)), (decay, *_tables(ladder)))


def total(job: Job) -> None:
    """Sum the whole input, then write the sum of the weighted bits."""
    job, y, ladder = _pointed(job)
    launch(job, ladder_total(job.options["timesteps"]), (y,), _tables(ladder))


def _pointed(job: Job) -> tuple[Job, object, Ladder]:
    """The job whose input is the sum already, the function's values there, and the ladder.

    A search through a whole table of thresholds misses the cache once a bit. The function, in the precision of the
    membrane, says where to look; its last digits do not matter, since the thresholds found there are compared.
    """
    job, ladder = laddered(job)
    summed_already = len(job.x_seq) == 1 and job.x_seq.dtype == job.thresholds.dtype
    z = dense_steps(job.x_seq if summed_already else job.summed().unsqueeze(0))
    y = job.options["function"](z[0], job.axis).unsqueeze(0)
    if y.dtype != z.dtype or not same_layout(y, z):
        y = empty_steps(z, 1, z.dtype).copy_(y)
    return replace(job, x_seq=z), array(flat(y)), ladder


def _tables(ladder: Ladder) -> tuple[object, ...]:
    """Thresholds, directions, borders between pieces, where each channel's thresholds begin, codes below 0.

    Before the thresholds of a piece stands -inf and behind them inf, so that each code has one on either side.
    """
    if "numba" not in ladder.kept:
        pieces, codes = ladder.values.shape[-2:]
        rows = torch.arange(ladder.values[..., 0, 0].numel(), dtype=torch.int32) * pieces
        values = ladder.values.new_full((*ladder.values.shape[:-1], codes + 2), float("inf"))
        values[..., 0], values[..., 1:-1] = -float("inf"), ladder.values
        tables = (values.reshape(-1), ladder.direction.reshape(-1), ladder.borders, rows)
        ladder.kept["numba"] = *(array(table) for table in tables), codes, -ladder.lowest
    found: tuple[object, ...] = ladder.kept["numba"]
    return found


@jit
def fill_inverse(buffer, table, first, count, layout):
    """One over the channel values, as of `fill`."""
    fill(buffer, table, first, count, layout)
    for i in range(count):
        buffer[i] = np.float32(1) / buffer[i]


@jit
def place(z, y, inverse, row, code, piece, values, directions, borders, codes, below, count):
    """The codes of summed inputs ``z``: from the one that ``y`` is nearest to, over all thresholds that z is beyond.

    Nearly always ``y`` says which: all codes of a block are compared with both thresholds beside them, and only a block
    in which one does not lie between them is gone through value by value.
    """
    lowest, highest = np.float32(-below), np.float32(codes - below)
    for i in range(count):
        level = np.floor(y[i] * inverse[i] + np.float32(0.5))
        level = level if level > lowest else lowest
        level = level if level < highest else highest
        code[i] = np.int32(level if y[i] == y[i] else np.float32(0))
        piece[i] = row[i]
    for b in range(len(borders)):
        border = borders[b]
        for i in range(count):
            piece[i] += np.int32(z[i] > border)
    length, elsewhere = np.uint32(codes + 2), np.int32(0)
    for i in range(count):  # unsigned: no place is counted from the end
        at = directions[np.uint32(piece[i])] * z[i]
        here = np.uint32(piece[i]) * length + np.uint32(code[i] + below)
        elsewhere += np.int32(not ((at >= values[here]) & (at < values[here + np.uint32(1)])))
    if elsewhere == 0:
        return
    for i in range(count):
        at, origin = directions[piece[i]] * z[i], np.int64(piece[i]) * (codes + 2) + below
        m = np.int64(code[i])
        while m < codes - below and at >= values[origin + m + 1]:
            m += 1
        while m > -below and at < values[origin + m]:
            m -= 1
        code[i] = m


@jit
def ladder_scan(
    x, out, y, out_steps, layout, lsbs, amplitudes, decay, values, directions, borders, rows, codes, below, share
):
    """Send ``out_steps`` bits of the codes; amplitudes as in `shifted.shifted_threshold_scan`."""
    _, _, _, _, length, _ = layout
    inverse = np.empty(length, np.float32)
    row = np.empty(length, np.int32)
    code = np.empty(length, np.int32)
    piece = np.empty(length, np.int32)
    amplitude = np.empty(length, np.float32)
    none = np.float32(0)
    for block in range(share[0], share[1]):
        first, count, fresh = block_at(block, layout, share)
        if fresh:
            fill(row, rows, first, count, layout)
            fill_inverse(inverse, lsbs, first, count, layout)
        fill(amplitude, amplitudes, first, count, layout)  # which decay
        z, pointed = input_step(x, 0, first, count, layout), input_step(y, 0, first, count, layout)
        place(z, pointed, inverse, row, code, piece, values, directions, borders, codes, below, count)
        worth = np.int32(1 << (out_steps - 1))
        for t in range(out_steps):
            outs = output_step(out, t, first, count, layout)
            zero = outs.dtype.type(0)
            for i in range(count):
                emitted = -amplitude[i] if code[i] < 0 else amplitude[i]
                outs[i] = store(emitted if abs(code[i]) & worth else none, zero)
                amplitude[i] *= decay
            worth >>= 1


@functools.cache
def ladder_total(bits: int) -> Callable[..., None]:
    """Kernel that writes the sum of the codes' weighted bits, added in their order: straight code for so many bits."""
    top = np.int32(1 << (bits - 1))

    @jit
    def kernel(x, out, y, layout, lsbs, amplitudes, values, directions, borders, rows, codes, below, share):
        # one function that closes over numbers alone: numba finds no other one again on disk
        _, _, _, _, length, _ = layout
        inverse = np.empty(length, np.float32)
        row = np.empty(length, np.int32)
        code = np.empty(length, np.int32)
        piece = np.empty(length, np.int32)
        amplitude = np.empty(length, np.float32)
        half, none = np.float32(0.5), np.float32(0)
        zero = out.dtype.type(0)
        for block in range(share[0], share[1]):
            first, count, fresh = block_at(block, layout, share)
            if fresh:
                fill(row, rows, first, count, layout)
                fill_inverse(inverse, lsbs, first, count, layout)
                fill(amplitude, amplitudes, first, count, layout)
            z, pointed = input_step(x, 0, first, count, layout), input_step(y, 0, first, count, layout)
            place(z, pointed, inverse, row, code, piece, values, directions, borders, codes, below, count)
            outs = output_step(out, 0, first, count, layout)
            for i in range(count):
                weight = -amplitude[i] if code[i] < 0 else amplitude[i]
                size, worth, total = abs(code[i]), top, none
                for _ in range(bits):
                    total += weight if size & worth else none
                    weight *= half
                    worth >>= 1
                outs[i] = store(total, zero)

    made: Callable[..., None] = kernel
    return made
