"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "writable", "write_whole"]

STALE = 24 * 3600.0
"""Seconds after which a temporary of a process that cannot be asked, on another machine, counts as left behind."""
_LIVE: set[Path] = set()
"""Temporaries that this process is writing."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside ``path``, which takes its place when the block ends well and is gone when it does not.

    A reader sees the old content or the new one, whatever happens in between. The file has the permissions of the one
    that it replaces, a new one those that the process gives its files (umask). Temporaries that killed processes left
    for the same ``path`` are removed.

    Raises:
        OSError: as the operating system says, or ``path`` is a folder, a pipe or a device; the message names it, and
            it is as it was.
    """
    target = Path(os.path.realpath(path))
    with _named(path):
        mode = _mode(target)
        _remove_stale(target)
        temporary = _temporary(target)
        _LIVE.add(temporary)
    try:
        with _named(path):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666))
        try:
            yield temporary
        except OSError as error:  # of the file that is being written; its name is nobody's business
            if error.filename is None or os.fspath(temporary) == os.fsdecode(error.filename):
                said = os.strerror(error.errno) if error.errno else str(error)
                raise type(error)(error.errno or errno.EIO, said, os.fspath(path)) from error
            raise
        with _named(path):
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        _LIVE.discard(temporary)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    Raises:
        OSError: as for `replacing`.
    """
    with replacing(path) as temporary, _named(path):
        temporary.write_bytes(content)


def writable(path: str | os.PathLike[str], make_folder: bool = False) -> None:
    """Refuse a path that `replacing` could not write, before the work whose result is to go there.

    Args:
        path: the file.
        make_folder: make the folder where there is none.

    Raises:
        OSError: its folder does not exist or takes no new files, or it is a folder, a pipe or a device itself.

    >>> writable("nowhere/net.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] there is no folder nowhere: 'nowhere/net.safetensors'
    """
    target = Path(os.path.realpath(path))
    with _named(path):
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {Path(path).parent}")
        _mode(target)
        probe = _temporary(target)
        try:
            os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        finally:
            probe.unlink(missing_ok=True)


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the operating system say which file was to be written, not which temporary."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _mode(target: Path) -> int | None:
    """Permissions of the file that will be replaced; ``None`` where there is none."""
    try:
        found = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, "it is a folder; give the name of a file in it")
    if not stat.S_ISREG(found):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, which a file would replace; give another path")
    return stat.S_IMODE(found)


def _temporary(target: Path) -> Path:
    """A name beside ``target`` that says which process of which machine is writing."""
    return target.with_name(f".{target.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _host() -> str:
    return "".join(c for c in socket.gethostname() if c.isascii() and c.isalnum()) or "host"


def _remove_stale(target: Path) -> None:
    """Remove what processes that are gone were writing in place of ``target``."""
    named = re.compile(re.escape(f".{target.name}.") + r"([0-9A-Za-z]+)-(\d+)-[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            match = named.fullmatch(entry.name)
            if match is None or target.with_name(entry.name) in _LIVE:
                continue
            host, process = match[1], int(match[2])
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE
            if old if host != _host() else not _runs(process):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _runs(process: int) -> bool:
    """Whether there is another process of this number; what this one is writing, it knows."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
