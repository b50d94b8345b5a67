"""Zip files from strangers: whole ones alone, and none that grows without end."""

from __future__ import annotations

import errno
import lzma
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from snnconv import limits
from snnconv.files.refusal import UntrustedFileError, brief, first_line, regular

__all__ = ["checked", "fingerprint", "is_zip", "opened", "read_arrays", "verified"]

_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, UnicodeDecodeError)
"""What zipfile raises for what is damaged; while it reads the directory also ``_MORE``."""
_ODD = (None, errno.EINVAL)
"""Numbers of system errors that a damaged file leads to: bz2's has none, and a place before the file's start EINVAL."""
_MORE = (OverflowError, LookupError, ValueError)
_BEGIN = b"PK\x03\x04"
_IS_FOLDER = 0x10
"""Of MS-DOS's file attributes."""
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_LONGEST_END = 22 + 2**16 + 20 + 56


@contextmanager
def opened(source: str | os.PathLike[str] | IO[bytes], name: str | None = None) -> Iterator[zipfile.ZipFile]:
    """A zip for reading, after its directory was checked.

    Args:
        source: the file.
        name: what to call it in messages, where ``source`` is an open one.

    Raises:
        FileNotFoundError: there is no such file.
        UntrustedFileError: it is no zip, is damaged or truncated, names a file twice, or would grow beyond
            :data:`snnconv.limits.UNPACKED`; also where what is read in the block turns out damaged.
    """
    path = name or str(source)
    if isinstance(source, str | os.PathLike):
        regular(source)
    try:
        archive = zipfile.ZipFile(source)
    except (*_DAMAGE, *_MORE, NotImplementedError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno in _ODD:
            raise _damaged(path, error) from error
        raise
    with archive:
        checked(archive, path)
        try:
            yield archive
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        except (RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _ODD:
                raise _damaged(path, error) from error
            if type(error) in (RuntimeError, NotImplementedError):  # encrypted, or packed in an unknown way
                raise UntrustedFileError(f"{path} cannot be unpacked here ({brief(error)}); pack it anew") from error
            raise


def is_zip(source: str | os.PathLike[str] | IO[bytes]) -> bool:
    """Whether a file begins as a zip does; an open one stays where it is.

    >>> import io
    >>> is_zip(io.BytesIO(b"PK")), is_zip(io.BytesIO(b"PK\\x03\\x04..."))
    (False, True)
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return file.read(4) == _BEGIN
    place = source.tell()
    found = source.read(4) == _BEGIN
    source.seek(place)
    return found


def verified(archive: zipfile.ZipFile) -> None:
    """Read every file of a zip, whose checksum then has to fit.

    ``torch.save`` can be told to write none, which leaves all of them zero.

    Raises:
        zipfile.BadZipFile: it does not; in the block of :func:`opened` another one.
    """
    if any(entry.CRC for entry in archive.infolist()) and (name := archive.testzip()) is not None:
        raise zipfile.BadZipFile(f"{name!r:.200} is not what its checksum says")


def _damaged(path: str | os.PathLike[str], error: Exception) -> UntrustedFileError:
    why = str(error) or type(error).__name__
    why = why if len(why) <= 100 else f"{why[:100]} ..."  # zipfile's words hold what it read as a name
    return UntrustedFileError(f"{path} is damaged or truncated ({why}); get the file again")


def checked(archive: zipfile.ZipFile, path: str | os.PathLike[str]) -> None:
    """Refuse a zip that lacks files its end counts, names one twice, or grows too much.

    Raises:
        UntrustedFileError: the reason.
    """
    entries = archive.infolist()
    counted = _counted(archive, path)
    if counted != len(entries):
        raise UntrustedFileError(
            f"{path} is damaged: its directory lists {len(entries):,} of {counted:,} files; get the file again"
        )
    if not all(entry.filename for entry in entries):
        raise UntrustedFileError(f"{path} is refused: it holds a file without a name")
    folders = [entry.filename for entry in entries if entry.external_attr & _IS_FOLDER and entry.file_size]
    if folders:  # zipfile reads it all the same, where torch finds nothing and takes zeros
        raise UntrustedFileError(
            f"{path} is damaged: its directory calls {folders[0]!r:.200}, a file with content, a folder; get the file "
            "again"
        )
    twice = [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]
    if twice:
        raise UntrustedFileError(f"{path} is refused: it holds {twice[0]!r:.200} twice")
    size, packed = sum(entry.file_size for entry in entries), max(1, _length(archive))
    if size > max(limits.UNPACKED, limits.EXPANSION * packed):
        raise UntrustedFileError(
            f"{path} is refused: its {packed:,} bytes would grow to {size:,}, more than {limits.EXPANSION} times and "
            f"more than snnconv.limits.UNPACKED = {limits.UNPACKED:,}; raise that limit if it is right"
        )


def fingerprint(path: str | os.PathLike[str]) -> str:
    """A text that changes with any file in a zip: of its directory's names, sizes and CRC-32s.

    Raises:
        FileNotFoundError, UntrustedFileError: as for :func:`opened`.
    """
    with opened(path) as archive:
        entries = sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist())
    return f"{Path(path).name} {len(entries)} {zlib.crc32(repr(entries).encode()):08x}"


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Arrays of a ``.npz`` file as tensors; arrays of objects are refused.

    Raises:
        OSError: it cannot be opened.
        UntrustedFileError: it is damaged or something else, or an array is of no type that a tensor has.
    """
    import numpy as np

    regular(path)
    with open(path, "rb") as raw:
        if raw.read(2) != b"PK":  # numpy would take it for an array, or a pickle
            raise UntrustedFileError(
                f"{path}: not a readable .npz file: it is truncated, damaged or something else; numpy.savez writes them"
            )
    found, name = {}, ""
    try:
        with np.load(path, allow_pickle=False) as file:
            checked(file.zip, path)
            verified(file.zip)
            for name in file.files:
                found[name] = torch.from_numpy(np.ascontiguousarray(file[name]))
    except (FileNotFoundError, UntrustedFileError):
        raise
    except Exception as error:  # numpy and zipfile raise a dozen types for a damaged file
        what = f"its array {name!r:.200}" if name else "it"
        raise UntrustedFileError(
            f"{path}: not a readable .npz file: {what} is refused ({first_line(error)})"
        ) from error
    return found


def _length(archive: zipfile.ZipFile) -> int:
    """Bytes of a zip."""
    file = archive.fp
    assert file is not None
    return file.seek(0, os.SEEK_END)


def _counted(archive: zipfile.ZipFile, path: str | os.PathLike[str]) -> int:
    """Files that the zip's end counts; zipfile itself goes by the directory's length alone."""
    file = archive.fp
    assert file is not None
    file.seek(max(0, _length(archive) - _LONGEST_END))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 12:
        raise UntrustedFileError(f"{path} is damaged or truncated (it has no end); get the file again")
    count = int(struct.unpack_from("<H", tail, at + 10)[0])
    large = tail.rfind(_END_64, 0, at)
    if count == 0xFFFF and large >= 0:  # more than 65,534 files
        count = int(struct.unpack_from("<Q", tail, large + 32)[0])
    return count
