"""Parts of a batch side by side: each thread runs its own layers, none waits for another between them."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

__all__ = ["Turns", "run_slices"]


class Turns:
    """A lock for runs whose neurons remember by themselves; what holds it is copied and sent with a new one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()


def run_slices(run: Callable[[Any], Any], slices: Sequence[Any], threads: int) -> list[Any]:
    """``[run(x) for x in slices]`` on ``threads`` threads, each of which computes alone.

    >>> run_slices(lambda x: x + 1, [1, 2, 3], threads=2)
    [2, 3, 4]
    """
    before = torch.get_num_threads()
    try:
        return list(_pool(threads).map(run, slices))
    finally:
        torch.set_num_threads(before)  # a thread that began has set the number for threads made from then on


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="snnconv-slice", initializer=_alone)


def _alone() -> None:
    """The operators of this thread start no threads of their own."""
    torch.get_num_threads()  # a thread's first look takes over the number of all; what is set after it stays
    torch.set_num_threads(1)


# Threads do not survive a fork: a child process starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
