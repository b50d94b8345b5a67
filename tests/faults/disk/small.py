"""A file system of a few megabytes in memory, and how it is filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["can_mount", "filled", "free", "small"]

PAGE = 4096


def can_mount() -> bool:
    """Whether this process may mount one."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and Path("/proc/filesystems").is_file()


@contextmanager
def small(folder: Path, megabytes: int) -> Iterator[Path]:
    """A folder on a file system of so many megabytes.

    Raises:
        SystemExit: this process may not mount one.
    """
    place = folder / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "snnconv-small-disk", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def free(place: Path) -> int:
    """Bytes that files may still take."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


@contextmanager
def filled(place: Path, left: int) -> Iterator[None]:
    """In the block, only ``left`` bytes are free, to the page."""
    full = place / "filler"
    with open(full, "wb") as file:
        for _ in range(max(0, free(place) - left) // PAGE):
            file.write(bytes(PAGE))
    try:
        yield
    finally:
        full.unlink()
