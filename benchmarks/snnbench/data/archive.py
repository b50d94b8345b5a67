"""Unpack a zip into a folder: once, whole or not at all, with several processes asking at the same time."""

from __future__ import annotations

import errno
import functools
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from snnconv.files.lock import LockTimeout, locked
from snnconv.files.refusal import brief
from snnconv.files.untrusted import refused_as
from snnconv.files.zips import fingerprint, opened

__all__ = ["ArchiveError", "unpack"]

MARKER = ".unpacked-from"  # a file in the folder, naming the zip; a folder without it was put there by a person


class ArchiveError(RuntimeError):
    """A zip that cannot be unpacked; the message names it and says what to do."""


def unpack(archive: Path, target: Path) -> Path:
    """The folder ``target`` with the content of ``archive``; unpacked only if it is not there yet.

    A top folder that holds everything is left out if it is named like ``target``. The files are written to a
    temporary folder beside ``target`` that is renamed when complete, so that a killed process leaves no half of a
    data set. A zip of which any file has changed since is unpacked again; a folder that a person put there is left
    alone.

    Raises:
        ArchiveError: the zip is damaged, lacks files, is encrypted, grows too much, or names paths outside of its
            folder; or ``target`` cannot be written.
    """
    if target.is_dir() and not (target / MARKER).exists():
        return target
    found = archive.stat()
    origin = _origin(archive, found.st_size, (found.st_mtime_ns, found.st_ctime_ns))
    if _current(target, origin):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target):
            if not _current(target, origin):  # another process may have done it while this one waited
                _unpack(archive, target, origin)
    except LockTimeout as error:
        raise ArchiveError(str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArchiveError(_no_space(archive, target)) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise ArchiveError(
                f"{archive} cannot be unpacked: {target.parent} is a file; name a folder with SNNCONV_CACHE"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise ArchiveError(
                f"{archive} cannot be unpacked: {target.parent} is not writable; name a writable folder with "
                "SNNCONV_CACHE"
            ) from error
        raise ArchiveError(f"{archive} cannot be unpacked to {target} ({error.strerror or error})") from error
    return target


@functools.lru_cache(maxsize=64)
def _origin(archive: Path, size: int, changed: tuple[int, int]) -> str:
    """What a folder unpacked from this zip says of it; read anew where the file's size or times are others."""
    with refused_as(ArchiveError):
        return fingerprint(archive)


def _current(target: Path, origin: str) -> bool:
    if not target.is_dir():
        return False
    marker = target / MARKER
    return not marker.exists() or marker.read_text(encoding="utf-8") == origin


def _unpack(archive: Path, target: Path, origin: str) -> None:
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    try:
        content = temporary / "content"
        content.mkdir()
        _extract(archive, content, target)
        (content / MARKER).write_text(origin, encoding="utf-8")
        if target.exists():  # from another zip of that name
            target.rename(temporary / "old")
        try:
            content.rename(target)
        except OSError:
            if not _current(target, origin):  # where files cannot be locked, another process may have been faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, content: Path, target: Path) -> None:
    try:
        with refused_as(ArchiveError), opened(archive) as source:
            members = [m for m in source.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
            if not members:
                raise ArchiveError(f"{archive} holds no files")
            paths = [_safe_path(archive, member) for member in members]
            if sum(member.file_size for member in members) > shutil.disk_usage(content).free:
                raise ArchiveError(_no_space(archive, target))
            if {path.parts[0] for path in paths} == {target.name} and all(len(path.parts) > 1 for path in paths):
                paths = [path.relative_to(target.name) for path in paths]
            for member, path in zip(members, paths, strict=True):
                destination = content.joinpath(*path.parts)
                destination.parent.mkdir(parents=True, exist_ok=True)
                with source.open(member) as read, destination.open("wb") as write:
                    shutil.copyfileobj(read, write)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"{archive} names a file and a folder alike ({brief(error)}); get the file again") from error


def _safe_path(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    """The path of ``member``, refused where it would lie outside of the folder or is a link."""
    name = member.filename
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or drive or not path.parts:
        raise ArchiveError(f"{archive} is refused: its entry {name!r:.200} points outside of the folder it belongs to")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ArchiveError(f"{archive} is refused: its entry {name!r:.200} is a symbolic link; pack the file itself")
    return path


def _no_space(archive: Path, target: Path) -> str:
    return f"no space to unpack {archive} into {target.parent}: free some, or name a roomier folder with SNNCONV_CACHE"
