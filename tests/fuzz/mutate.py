"""Saved networks taken apart, changed and put together again."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass
from typing import Any

from snnconv.files.seal import UNSEALED, sealed
from tests.fuzz.changes import UNFIT, VALUES, Changed, changed_bytes

__all__ = ["Parts", "mutated"]

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 64, 2**31, 2**64, -(2**70), 0.5, 1e300, {"float": "nan"}, {"float": "inf"}, "", "x",
    "a" * 5000,
    "graph", "float32", [], [1], [[]], {}, {"dict": []}, {"tuple": []}, {"tuple": [1, 2]}, {"node": "x"}, {"node": 3},
    {"slice": [None, 0, 0]}, {"dtype": "int8"}, {"device": "cuda:7"}, {"size": [2]}, {"ellipsis": True},
    {"pickle": "x"},
    "operator.pow", "operator.mul", "torch.zeros", "torch.arange", "torch.cat", "torch.load", "F.relu", "os.system",
    "builtins.getattr", "torch.flatten", "torch.conv2d", "site", "F.max_pool2d",
)  # fmt: skip
"""Values that do not belong where they are put, or do."""


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


def mutated(content: bytes, draw: random.Random) -> Changed:
    """A changed file of a network; its digest is computed anew in most.

    >>> content = Parts({}, {"format": "snnconv"}, {"delay": 0}, b"").joined(seal=False)
    >>> mutated(content, random.Random(1)) == mutated(content, random.Random(1))
    True
    """
    if draw.random() < 0.25:
        return changed_bytes(content, draw)
    parts, changes, seal = Parts.of(content), [], draw.random() < 0.8
    for _ in range(draw.choice((1, 1, 1, 2))):
        edit = draw.choice((*VALUES, tensors))
        try:
            tensors(parts, draw) if edit is tensors else edit(parts.network, draw, ODD)
        except UNFIT:
            continue
        changes.append(edit.__name__)
    return Changed(parts.joined(seal), "+".join(changes) or "none", seal)
