"""Changes of bytes, of nested values and of the members of archives, each decided by a random generator."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = [
    "BYTES", "ODD", "VALUES", "Changed", "changed_bytes", "changed_json", "changed_member", "changed_values",
]  # fmt: skip

PAYLOAD = "<script>x9</script>"
"""What must not become markup anywhere."""
LINE = "a | b\n# x9\n"
"""What must not become a heading or a row of a table."""
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 64, 2**31, 2**64, -(2**70), 0.5, 1e300, 1e-300, float("nan"), float("inf"), "", "x",
    PAYLOAD, LINE, "../../x", "\ud800", "{{x}}", "%s%n", "os.system", "a" * 5000, [], [1], [[]], [None], {}, {"x": 1},
    {"type": "os.system"},
)  # fmt: skip
"""Values that do not belong where they are put, or do."""


class Changed(NamedTuple):
    """A changed file.

    Attributes:
        content: its bytes.
        how: the names of the changes, with ``+`` between them.
        meant: whoever made it computed checksums anew, so that another value may be read.
    """

    content: bytes
    how: str
    meant: bool


# --- bytes -------------------------------------------------------------------------------------------------


def flip(content: bytes, draw: random.Random) -> bytes:
    """One to four bits."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    """The end is gone, or a piece of the middle."""
    at = draw.randrange(len(content))
    return content[:at] if draw.random() < 0.5 else content[:at] + content[at + draw.randint(1, 64) :]


def insert(content: bytes, draw: random.Random) -> bytes:
    """Bytes of its own, or of another kind, in the middle."""
    at, start = draw.randrange(len(content)), draw.randrange(len(content))
    piece = content[start : start + draw.randint(1, 64)] if draw.random() < 0.5 else draw.randbytes(draw.randint(1, 16))
    return content[:at] + piece + content[at:]


def swap(content: bytes, draw: random.Random) -> bytes:
    """A piece stands twice, over what stood there."""
    size = draw.randint(1, 64)
    start, at = (draw.randrange(max(1, len(content) - size)) for _ in range(2))
    return content[:at] + content[start : start + size] + content[at + size :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, insert, swap)


def changed_bytes(content: bytes, draw: random.Random) -> Changed:
    """A file with other bytes.

    >>> changed_bytes(b"abc", random.Random(1)) == changed_bytes(b"abc", random.Random(1))
    True
    """
    change = draw.choice(BYTES)
    return Changed(change(content, draw), change.__name__, False)


# --- nested values -----------------------------------------------------------------------------------------


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def value(root: Any, draw: random.Random, odd: Sequence[Any] = ODD) -> None:
    """Another value somewhere."""
    *path, key = draw.choice(_places(root))
    _at(root, path)[key] = _copied(draw.choice(odd))


def number(root: Any, draw: random.Random, odd: Sequence[Any] = ODD) -> None:
    """Another number where there is one."""
    *path, key = draw.choice([p for p in _places(root) if type(_at(root, p)) in (int, float)])
    owner = _at(root, path)
    owner[key] = draw.choice((owner[key] + 1, owner[key] - 1, -owner[key], 0, 2**40, 0.5, 10**400))


def drop(root: Any, draw: random.Random, odd: Sequence[Any] = ODD) -> None:
    """A field or a member is gone."""
    *path, key = draw.choice(_places(root))
    del _at(root, path)[key]


def move(root: Any, draw: random.Random, odd: Sequence[Any] = ODD) -> None:
    """A value of one place in another."""
    source, (*path, key) = draw.choice(_places(root)), draw.choice(_places(root))
    _at(root, path)[key] = _copied(_at(root, source))


def rename(root: Any, draw: random.Random, odd: Sequence[Any] = ODD) -> None:
    """A field has another name."""
    *path, key = draw.choice([p for p in _places(root) if isinstance(p[-1], str)])
    owner = _at(root, path)
    owner[draw.choice((f"{key}x", "", "x", PAYLOAD, LINE, key + "a" * 5000))] = owner.pop(key)


def twice(root: Any, draw: random.Random, odd: Sequence[Any] = ODD) -> None:
    """A member of a list stands in it twice, or two change places."""
    members = _at(root, draw.choice([p for p in _places(root) if isinstance(_at(root, p), list) and _at(root, p)]))
    a, b = draw.randrange(len(members)), draw.randrange(len(members))
    if draw.random() < 0.5:
        members[a], members[b] = members[b], members[a]
    else:
        members.insert(a, _copied(members[b]))


VALUES = (value, number, drop, move, rename, twice)
UNFIT = (IndexError, KeyError, TypeError, OverflowError)
"""What a change raises where one before it, or the file, left no place for it."""


def changed_values(root: Any, draw: random.Random, odd: Sequence[Any] = ODD) -> str:
    """Change a nested value in one or two places; returns the names of the changes."""
    names = []
    for _ in range(draw.choice((1, 1, 1, 2))):
        edit = draw.choice(VALUES)
        try:
            edit(root, draw, odd)
        except UNFIT:
            continue
        names.append(edit.__name__)
    return "+".join(names) or "none"


def changed_json(content: bytes, draw: random.Random) -> Changed:
    """A JSON file with other bytes or values.

    >>> changed_json(b'{"a": [1, 2]}', random.Random(3)).content != b'{"a": [1, 2]}'
    True
    """
    if draw.random() < 0.25:
        return changed_bytes(content, draw)
    root = json.loads(content)
    how = changed_values(root, draw)
    return Changed(json.dumps(root, indent=draw.choice((None, 1))).encode(), how, True)


# --- archives ----------------------------------------------------------------------------------------------


def changed_member(content: bytes, draw: random.Random) -> Changed:
    """A zip with a member that is changed, gone, there under another name, or twice; its checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry), entry.compress_type) for entry in archive.infolist()]
    what = draw.choice(("bytes", "bytes", "bytes", "gone", "name", "more"))
    at = draw.randrange(len(members))
    name, data, packing = members[at]
    if what == "bytes" and data:
        data = draw.choice(BYTES)(data, draw)
        members[at] = name, data, packing
    elif what == "gone":
        members.pop(at)
    elif what == "name":
        members[at] = draw.choice((f"{name}x", "x", "../x", "/x", "a/../../x", name.upper(), "\x00")), data, packing
    else:
        members.append((draw.choice(("x", "a/b/c.png", f"{name}.old")), data, packing))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data, packing in members:
            archive.writestr(zipfile.ZipInfo(name), data, packing)
    return Changed(written.getvalue(), f"member {what}", True)
