"""Result files on the disk: read and checked, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snnbench.results.json_lines import as_text, line_of
from snnbench.results.validation import Record, ResultError, schema, wrong
from snnconv.files import atomic
from snnconv.files.refusal import brief, regular
from snnconv.files.untrusted import read_json as parse_json
from snnconv.files.untrusted import refused_as

__all__ = [
    "as_bytes", "check_out", "located", "read", "read_all", "read_json", "stored", "unwritten", "write_text",
    "write_together", "write_whole",
]  # fmt: skip


def read(path: str | os.PathLike[str]) -> Record:
    """The result in ``path``, checked.

    Raises:
        ResultError: there is no such file, it is not JSON, or not a result; the message names the line and the field.
    """
    record, text = read_json(path)
    for sentence in wrong(record):
        raise ResultError(located(path, text, sentence))
    result: Record = record
    return result


def read_json(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """What a JSON file holds, and its text.

    Raises:
        ResultError: there is no such file, or it is not JSON; the message names the line.
    """
    try:
        with refused_as(ResultError):
            regular(path)
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ResultError(f"{path}: there is no such file") from error
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror})") from error
    with refused_as(ResultError):
        return parse_json(content, str(path)), content.decode("utf-8")


def located(path: str | os.PathLike[str], text: str, sentence: str) -> str:
    """``sentence`` about a field of the JSON file ``path``, with the file and the field's line before it."""
    line = line_of(text, sentence)
    said = brief(sentence)
    return f"{path}: {said}" if line is None else f"{path}: line {line}: {said}"


def read_all(folder: str | os.PathLike[str]) -> dict[Path, Record]:
    """Every result under ``folder``, by file, sorted; files of any other name than ``*.json`` are passed over.

    Raises:
        ResultError: there is no such folder, or files in it are bad: one sentence each, a line each.
    """
    if not Path(folder).is_dir():
        raise ResultError(f"{folder}: there is no such folder")
    found: dict[Path, Record] = {}
    bad: list[str] = []
    for path in sorted(Path(folder).rglob("*.json")):
        try:
            found[path] = read(path)
        except ResultError as error:
            bad.append(str(error))
    if bad:
        raise ResultError("\n".join(bad))
    return found


def check_out(path: str | os.PathLike[str]) -> None:
    """Refuse a file that :func:`write_whole` could not write, before the work whose result is to go there.

    Raises:
        ResultError: the folder cannot be made or takes no new files.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.writable(path)
    except OSError as error:
        raise unwritten(path, error) from error


def write_text(path: str | os.PathLike[str], record: Record) -> None:
    """Write a checked record, whole or not at all.

    Raises:
        ResultError: the file cannot be written.
    """
    write_whole(path, as_bytes(record))


def as_bytes(record: Record) -> bytes:
    """A record as its file holds it, in the order of the layout's fields."""
    order = list(schema()["properties"])
    return (as_text({key: record[key] for key in sorted(record, key=order.index)}) + "\n").encode()


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` through a temporary file beside ``path``, which then takes its place.

    Raises:
        ResultError: the file cannot be written, for instance because the disk is full.
    """
    write_together({Path(path): content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all of them are on the disk before the first takes its place.

    Raises:
        ResultError: one cannot be written, for instance because the disk is full; all are as they were.
    """
    first = place = next(iter(contents))
    try:
        with contextlib.ExitStack() as stack:
            for place, content in contents.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(atomic.replacing(place)).write_bytes(content)
    except OSError as error:
        named = Path(os.fsdecode(error.filename)) if error.filename else place
        failed = named if named in contents else place
        raise unwritten(str(first) if failed == first else f"{first}, with {failed}", error) from error


def unwritten(path: str | Path, error: OSError) -> ResultError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResultError(f"{path}: no space left to write it; free some and run again")
    return ResultError(f"{path}: cannot be written ({error.strerror or error})")


def stored(path: Path) -> Record | None:
    """The result that is at ``path`` already; ``None`` where there is nothing."""
    if not path.exists():
        return None
    try:
        return read(path)
    except ResultError as error:
        raise ResultError(f"{error}; it is not written over: mend it, or move it away") from error
