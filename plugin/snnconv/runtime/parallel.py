"""Parts of a batch side by side: each thread runs its own layers, none waits for another between them."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

__all__ = ["run_parts"]


def run_parts(run: Callable[[Any], Any], parts: Sequence[Any], threads: int) -> list[Any]:
    """``[run(part) for part in parts]`` on ``threads`` threads, each of which computes alone.

    >>> run_parts(lambda x: x + 1, [1, 2, 3], threads=2)
    [2, 3, 4]
    """
    pool = _pool(threads)
    if torch.get_num_threads() != threads:  # a pool that was just made has set its own number for all
        torch.set_num_threads(threads)
    return list(pool.map(run, parts))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads whose operators do not start threads of their own."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="snnconv-part")
    started = [pool.submit(_alone, threads) for _ in range(threads)]
    for future in started:
        future.result()
    torch.set_num_threads(threads)  # what the others have set holds for threads made from now on, not for this one
    return pool


_MEET: dict[int, threading.Barrier] = {}


def _alone(threads: int) -> None:
    # every thread of the pool takes one of these: nobody leaves before the last has come
    barrier = _MEET.setdefault(threads, threading.Barrier(threads))
    torch.get_num_threads()  # a thread's first look takes over the number of all, and later ones keep it
    torch.set_num_threads(1)
    barrier.wait()


def _forget() -> None:
    _pool.cache_clear()
    _MEET.clear()


# Threads do not survive a fork: a child process starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
