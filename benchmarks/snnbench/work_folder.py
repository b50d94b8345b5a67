"""Errors of the disk that mmengine lets through: they say which folder they are of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from snnbench.config import BenchError

__all__ = ["naming"]


@contextmanager
def naming(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Name ``folder`` in what the operating system says of a file that it does not name itself.

    Raises:
        BenchError: a full disk, for instance, while a log or a checkpoint is written.

    >>> with naming("work_dirs/net"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    snnbench.config.BenchError: work_dirs/net: No space left on device; mend that, and the same command goes on from ...
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise BenchError(
            f"{folder}: {error.strerror}; mend that, and the same command goes on from the last whole file there"
        ) from error
