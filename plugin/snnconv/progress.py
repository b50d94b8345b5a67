"""Progress bars on anything that takes longer than two seconds, on terminals and in notebooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ProgressFn", "bars"]

ProgressFn = Callable[[str, int, int], None]
"""``progress(what, done, total)``."""


@contextmanager
def bars(progress: bool | ProgressFn | None) -> Iterator[ProgressFn]:
    """A progress function: the caller's own, none (``False``), or a bar a task on the terminal (``None``, ``True``).

    >>> with bars(False) as report:
    ...     report("thresholds", 1, 2)
    """
    if callable(progress):
        yield progress
        return
    if progress is False:
        yield lambda what, done, total: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:  # tqdm is SpikingJelly's; without it the work goes on silently
        yield lambda what, done, total: None
        return
    # a bar in a log or a pipe is noise; a notebook's is a widget
    shown = sys.stderr.isatty() or any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
    open_bars: dict[str, tqdm] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in open_bars:
            open_bars[what] = tqdm(total=total, desc=what, delay=2, leave=False, disable=not shown)
        bar = open_bars[what]
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            del open_bars[what]

    try:
        yield report
    finally:
        for bar in open_bars.values():
            bar.close()
