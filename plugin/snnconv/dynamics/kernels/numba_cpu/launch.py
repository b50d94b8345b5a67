"""From a job to a compiled scan: arrays without a copy, and blocks of positions shared among threads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ..job import Flat, Job, flatten, tables
from ..layout import flat
from .compiled import BLOCK

__all__ = ["MIN_NUMEL_PER_THREAD", "array", "dead_zones", "launch", "run_blocks", "shares"]

MIN_NUMEL_PER_THREAD = 1 << 17
"""Waking another thread takes about as long as this many elements."""

Layout = tuple[int, int, int, int, int, bool]
"""Size, x_stride, channels and inner of `Flat`; positions of a block; whether every block has the same tables."""


def launch(job: Job, kernel: Callable[..., None], before: tuple[Any, ...], after: tuple[Any, ...] = ()) -> None:
    """Call ``kernel(x, out, *before, layout, thetas, worths, *after, share)``, with layout and share as of `block_at`.

    ``worths`` are what a spike of the first step is worth by channel, in the output's dtype, for weighted spikes in
    float32.
    """
    f = flatten(job)
    theta, worth = _tables(job)
    layout, blocks, threads = shares(f, job.x_seq.numel())
    run_blocks(kernel, (array(flat(f.x)), array(flat(f.out)), *before, layout, theta, worth, *after), blocks, threads)
    if f.out is not job.out:
        job.out.copy_(f.out)


def _tables(job: Job) -> tuple[Any, Any]:
    weight = job.neuron.weight
    first = None if weight is None else weight(0, **job.options)
    kept, key = job.thresholds.kept, ("numba", job.scaled, job.out.dtype, job.kind == "total", first)
    if key not in kept:
        theta, worth = tables(job)
        kept[key] = array(theta), array(worth if weight is None else worth.float())
    found: tuple[Any, Any] = kept[key]
    return found


def dead_zones(job: Job) -> Any:
    """`Job.dead_zone` by channel."""
    kept, key = job.thresholds.kept, ("numba", "dead zone", job.options["eps"], job.options.get("eps_absolute"))
    if key not in kept:
        channels = job.dead_zone().channels
        assert channels is not None
        kept[key] = array(channels)
    return kept[key]


def array(values: Tensor) -> Any:
    """Share memory with numpy; bfloat16 as its 16 bits."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.uint16).numpy()
    return values.numpy()


def shares(f: Flat, numel: int) -> tuple[Layout, int, int]:
    """How a kernel sees memory and its blocks, how many there are, and how many threads share them."""
    # thresholds repeat from block to block where all channels fit into one: their tables are filled once
    period = 1 if f.channels == 1 else f.channels * f.inner
    uniform = period <= BLOCK
    length = BLOCK // period * period if uniform else BLOCK
    blocks = -(-f.size // length)
    layout = (f.size, f.x_stride, f.channels, f.inner, length, uniform)
    return layout, blocks, max(1, min(torch.get_num_threads(), blocks, numel // MIN_NUMEL_PER_THREAD))


def run_blocks(kernel: Callable[..., None], args: tuple[Any, ...], blocks: int, threads: int) -> None:
    """Share the blocks among threads, this one included.

    Plain threads, since the kernels release the GIL: a second OpenMP runtime beside PyTorch's busy-waits for
    the cores that PyTorch's own busy-waits for.
    """
    if threads == 1:
        kernel(*args, (0, blocks))
        return
    bounds = [blocks * i // threads for i in range(threads + 1)]
    pending = [_pool(threads - 1).submit(kernel, *args, tuple(bounds[i : i + 2])) for i in range(1, threads)]
    try:
        kernel(*args, tuple(bounds[:2]))
    finally:
        for future in pending:
            future.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="snnconv-scan")


# Threads do not survive a fork: a child process starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
