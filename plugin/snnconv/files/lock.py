"""One process at a time at a file that several may want to change."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LockTimeout", "locked"]

WAIT = 600.0
"""Seconds after which a lock that another process holds counts as stuck."""


class LockTimeout(RuntimeError):
    """Another process has held a lock for too long; the message names the file."""


@contextmanager
def locked(path: str | os.PathLike[str], wait: float = WAIT) -> Iterator[None]:
    """Hold the lock of ``path``, which need not exist: processes and threads that ask for it wait in turn.

    The lock is a hidden file beside ``path``, gone at the end. Where the file system has no locks, the file's being
    there is the lock.

    Args:
        path: what is going to change.
        wait: seconds to wait for another process.

    Raises:
        OSError: there is no folder for ``path``, or it takes no files.
        LockTimeout: another process did not let go of it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder / "a.json"):
    ...     [entry.name for entry in folder.iterdir()]
    ['.a.json.lock']
    >>> list(folder.iterdir())
    []
    """
    from filelock import FileLock, Timeout

    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(target.parent))
    file = target.with_name(f".{target.name}.lock")
    lock = FileLock(file, timeout=wait)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockTimeout(f"{path}: another process has held {file} for {wait:.0f} s: end it") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # whoever waits for it sees that it is gone, and makes a new one
            file.unlink()
        lock.release()
