"""HDF5 files from strangers: what lies in the file itself, and does not grow without measure."""

from __future__ import annotations

import os
from typing import Any

from snnconv import limits
from snnconv.files.refusal import UntrustedFileError, brief, regular

__all__ = ["check_hdf5"]

DEEPEST = 30
"""Groups that a field may lie in; a link to a group that it lies in has no end."""
MOST = 100_000
"""Groups and fields of a file, each counted once for every way that leads there."""


def check_hdf5(path: str | os.PathLike[str]) -> None:
    """Refuse a file that has others read in its place, or whose arrays are larger than it can hold.

    An array in HDF5 may lie in any other file, a link may lead to one; an array of which nothing is stored is as large
    as its shape says, filled with one value.

    Raises:
        OSError: it cannot be opened, or is no HDF5.
        UntrustedFileError: the field and the reason.
    """
    import h5py

    regular(path)
    most = max(limits.UNPACKED, limits.EXPANSION * os.path.getsize(path))
    with h5py.File(path, "r") as file:
        waiting: list[tuple[str, Any, int]] = [("", file, 0)]
        total = count = 0
        while waiting:
            place, group, depth = waiting.pop()
            for name in group:
                field = brief(f"{place}/{name}")
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise UntrustedFileError(f"{path}: {field} is a link to another file, {brief(link.filename)!r}")
                found, count = group[name], count + 1
                if count > MOST or depth > DEEPEST:
                    raise UntrustedFileError(f"{path}: {field}: groups lie in groups without end")
                if isinstance(found, h5py.Group):
                    waiting.append((f"{place}/{name}", found, depth + 1))
                elif isinstance(found, h5py.Dataset):
                    if found.external or found.is_virtual:
                        raise UntrustedFileError(f"{path}: {field} is stored in another file")
                    total += found.size * found.dtype.itemsize if found.size else 0
                    if total > most:
                        raise UntrustedFileError(
                            f"{path}: {field}, an array of shape {list(found.shape)}, makes {total:,} bytes of a file "
                            f"of {os.path.getsize(path):,}, more than snnconv.limits.UNPACKED = {limits.UNPACKED:,}; "
                            "raise that limit if it is right"
                        )
