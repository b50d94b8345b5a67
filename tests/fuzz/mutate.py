"""Saved networks taken apart, changed and put together again."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from snnconv.storage.header import UNSEALED, sealed

__all__ = ["MUTATIONS", "Parts", "mutated"]

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 64, 2**31, 2**64, -(2**70), 0.5, 1e300, {"float": "nan"}, {"float": "inf"}, "", "x",
    "graph", "float32", [], [1], [[]], {}, {"dict": []}, {"tuple": []}, {"tuple": [1, 2]}, {"node": "x"}, {"node": 3},
    {"slice": [None, 0, 0]}, {"dtype": "int8"}, {"device": "cuda:7"}, {"size": [2]}, {"ellipsis": True},
    {"pickle": "x"},
)  # fmt: skip
"""Values that do not belong where they are put, or do."""
NAMES = ("operator.pow", "operator.mul", "torch.zeros", "torch.arange", "torch.cat", "torch.load", "F.relu",
         "os.system", "builtins.getattr", "torch.flatten", "torch.conv2d", "site", "F.max_pool2d")  # fmt: skip


@dataclass
class Parts:
    """A safetensors file: its header without the metadata, the metadata, the network's own header, the tensors' bytes.

    >>> content = Parts({}, {"format": "snnconv"}, {"delay": 0}, b"").joined(seal=False)
    >>> Parts.of(content).network
    {'delay': 0}
    """

    layout: dict[str, Any]
    metadata: dict[str, str]
    network: Any
    body: bytes

    @classmethod
    def of(cls, content: bytes) -> Parts:
        """Take a file apart."""
        (size,) = struct.unpack("<Q", content[:8])
        layout = json.loads(content[8 : 8 + size])
        metadata = layout.pop("__metadata__")
        return cls(layout, metadata, json.loads(metadata.pop("network")), content[8 + size :])

    def joined(self, seal: bool = True, text: str | None = None) -> bytes:
        """Put it together; ``seal`` computes the digest anew, as who means the change would.

        Args:
            text: instead of the network's header.
        """
        metadata = {**self.metadata, "network": json.dumps(self.network) if text is None else text}
        if seal and "digest" in metadata:
            return sealed(self._with({**metadata, "digest": UNSEALED.decode()}))
        return self._with(metadata)

    def _with(self, metadata: dict[str, str]) -> bytes:
        text = json.dumps({**self.layout, "__metadata__": metadata}).encode()
        return struct.pack("<Q", len(text)) + text + self.body


# --- mutations of the bytes --------------------------------------------------------------------------------


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


# --- mutations of the header -------------------------------------------------------------------------------


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def value(parts: Parts, draw: random.Random) -> None:
    """Another value somewhere in the header."""
    *path, key = draw.choice(_places(parts.network))
    owner = _at(parts.network, tuple(path))
    owner[key] = draw.choice(NAMES if isinstance(owner[key], str) and draw.random() < 0.3 else ODD)


def number(parts: Parts, draw: random.Random) -> None:
    """Another number where there is one."""
    places = [p for p in _places(parts.network) if type(_at(parts.network, p)) in (int, float)]
    *path, key = draw.choice(places)
    owner = _at(parts.network, tuple(path))
    owner[key] = draw.choice((owner[key] + 1, owner[key] - 1, -owner[key], 0, 2**40, 0.5, 10**400))


def drop(parts: Parts, draw: random.Random) -> None:
    """A field or a member is gone."""
    *path, key = draw.choice(_places(parts.network))
    del _at(parts.network, tuple(path))[key]


def move(parts: Parts, draw: random.Random) -> None:
    """A value of one place in another."""
    source, (*path, key) = draw.choice(_places(parts.network)), draw.choice(_places(parts.network))
    copied = json.loads(json.dumps(_at(parts.network, source)))
    _at(parts.network, tuple(path))[key] = copied


def twice(parts: Parts, draw: random.Random) -> None:
    """A member of a list stands in it twice, or two change places."""
    lists = [p for p in _places(parts.network) if isinstance(_at(parts.network, p), list) and _at(parts.network, p)]
    members = _at(parts.network, draw.choice(lists))
    a, b = draw.randrange(len(members)), draw.randrange(len(members))
    if draw.random() < 0.5:
        members[a], members[b] = members[b], members[a]
    else:
        members.insert(a, json.loads(json.dumps(members[b])))


def tensors(parts: Parts, draw: random.Random) -> None:
    """A tensor has another name, shape or dtype, or other bytes."""
    name = draw.choice(sorted(parts.layout))
    entry = parts.layout[name]
    what = draw.choice(("name", "shape", "dtype", "bytes", "gone", "zero", "nan"))
    start, end = entry["data_offsets"]
    if what == "name":
        parts.layout[draw.choice((name + "x", "weights/x", "neurons/x", "x"))] = parts.layout.pop(name)
    elif what == "shape":
        entry["shape"] = draw.choice(([*entry["shape"], 1], entry["shape"][::-1], [1, *entry["shape"]]))
    elif what == "dtype":
        entry["dtype"] = draw.choice(("I32", "U32"))
    elif what == "gone":
        parts.network["tensors"] = [n for n in parts.network["tensors"] if n != name]
    elif end > start:
        fill = {"bytes": draw.randbytes(4), "zero": bytes(4), "nan": struct.pack("<f", float("nan"))}[what]
        at = start + 4 * draw.randrange((end - start) // 4)
        parts.body = parts.body[:at] + fill + parts.body[at + 4 :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, insert, swap)
HEADER: tuple[Callable[[Parts, random.Random], None], ...] = (value, number, drop, move, twice, tensors)
MUTATIONS = (*(f.__name__ for f in BYTES), *(f.__name__ for f in HEADER))
"""Kinds of change."""


def mutated(content: bytes, seed: int) -> tuple[bytes, str, bool]:
    """A changed file, what was changed, and whether its digest was computed anew.

    >>> content = Parts({}, {"format": "snnconv"}, {"delay": 0}, b"").joined(seal=False)
    >>> mutated(content, 1) == mutated(content, 1)
    True
    """
    draw = random.Random(seed)
    if draw.random() < 0.25:
        change = draw.choice(BYTES)
        return change(content, draw), change.__name__, False
    parts, changes, seal = Parts.of(content), [], draw.random() < 0.8
    for _ in range(draw.choice((1, 1, 1, 2))):
        edit = draw.choice(HEADER)
        try:
            edit(parts, draw)
        except (IndexError, KeyError, TypeError, OverflowError):  # an edit before it left no place for this one
            continue
        changes.append(edit.__name__)
    return parts.joined(seal), "+".join(changes), seal
