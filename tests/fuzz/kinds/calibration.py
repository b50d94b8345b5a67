"""What a calibration saw, from which networks are converted."""

from __future__ import annotations

import functools
import json
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.files.seal import UNSEALED, sealed
from tests.fuzz.changes import Changed, changed_bytes, changed_values
from tests.fuzz.kind import Kind
from tests.fuzz.outcomes import not_finite


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).eval()


def _inputs() -> torch.Tensor:
    return torch.rand(32, 4, generator=torch.Generator().manual_seed(1))


@functools.cache
def samples() -> dict[str, bytes]:
    """One with kept inputs, and one without."""
    found = {}
    for name, kept in (("inputs.safetensors", 8), ("none.safetensors", 0)):
        with tempfile.TemporaryDirectory() as folder:
            snnconv.calibrate(_network(), _inputs(), samples=kept, progress=False).save(Path(folder) / name)
            found[name] = (Path(folder) / name).read_bytes()
    return found


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes, or a value of the header."""
    if draw.random() < 0.4:
        return changed_bytes(content, draw)
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    root = {"calibration": json.loads(header["__metadata__"]["calibration"])}
    how = changed_values(root, draw)
    header["__metadata__"] |= {key: json.dumps(value) for key, value in root.items()}
    header["__metadata__"]["digest"] = UNSEALED.decode()
    text = json.dumps(header).encode()
    changed = struct.pack("<Q", len(text)) + text + content[8 + size :]
    seal = draw.random() < 0.8
    return Changed(sealed(changed) if seal else changed, how, seal)


def read(path: Path) -> Any:
    """What a network that is converted from it answers."""
    seen = snnconv.Calibration.load(path)
    try:
        snn = snnconv.convert(_network(), methods.IF(4, correction="none"), seen, progress=False)
    except snnconv.ConversionError as error:  # of another network, which is no fault of the file
        raise snnconv.ConversionError(f"{path}: {error}") from error
    return snn(_inputs())


KIND = Kind(
    samples,
    change,
    read,
    (snnconv.ConversionError,),
    odd=not_finite,
    checksums=frozenset({"inputs.safetensors", "none.safetensors"}),
)
