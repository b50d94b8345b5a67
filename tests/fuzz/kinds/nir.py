"""NIR graphs in HDF5."""

from __future__ import annotations

import functools
import io
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import snnconv
from snnconv import methods
from tests.fuzz.changes import Changed, changed_bytes
from tests.fuzz.kind import Kind, WrongError
from tests.fuzz.outcomes import not_finite

ODD: tuple[Any, ...] = (
    0, 1, -1, 3, 2**31, 2**62, 0.5, 1e300, float("nan"), float("inf"), "", "x", "a" * 5000, "IF", "Conv2d",
    "NIRGraph", "same",
    b"\xff", [0, 0], [[1.5]], np.zeros(0), np.zeros((2, 2, 2, 2)), np.ones(3, np.int8), np.array([1 + 2j]),
)  # fmt: skip


@functools.cache
def samples() -> dict[str, bytes]:
    """A convolutional network with pooling, and a perceptron with a shortcut."""
    found = {}
    for name, (model, x) in _networks().items():
        snn = snnconv.convert(model, methods.IF(4), x, progress=False)
        with tempfile.TemporaryDirectory() as folder:
            snnconv.to_nir(snn, Path(folder) / "net.nir")
            found[name] = (Path(folder) / "net.nir").read_bytes()
    return found


class Shortcut(nn.Module):
    """Adds what goes in to what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        out: torch.Tensor = self.last(x + torch.relu(self.second(x)))
        return out


def _networks() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        conv = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        )  # fmt: skip
        return {"conv.nir": (conv, torch.rand(8, 1, 6, 6)), "shortcut.nir": (Shortcut(), torch.rand(8, 5))}


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes of the file, or a value, a name or a shape in it."""
    import h5py

    if draw.random() < 0.4:
        return changed_bytes(content, draw)
    written = io.BytesIO(content)
    with h5py.File(written, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = draw.choice(sorted(names))
        what = draw.choice(("value", "value", "element", "element", "gone", "name", "copy"))
        item = file[name]
        if what == "gone" or (what in ("value", "element") and isinstance(item, h5py.Group)):
            del file[name]
        elif what == "value":
            del file[name]
            odd = draw.choice(ODD)
            file[name] = np.bytes_(odd) if isinstance(odd, bytes) else odd
        elif what == "element" and item.size and item.dtype.kind in "fiu":
            values = np.array(item[()])
            values.flat[draw.randrange(values.size)] = draw.choice((0, -1, 1, 100, 2, 7))
            item[...] = values
        elif what == "name":
            file.move(name, f"{name}x")
        else:
            file.copy(name, f"{name}_")
    return Changed(written.getvalue(), what, True)


def read(path: Path) -> Any:
    """What the graph answers to noise of the shape that it takes, and how many steps it runs."""
    network = snnconv.from_nir(path)
    x = torch.rand(2, *network.shape, generator=torch.Generator().manual_seed(1))
    try:
        return network(x), network.timesteps
    except snnconv.ConversionError as error:
        raise WrongError("refused late", error) from error


KIND = Kind(samples, change, read, (snnconv.ConversionError,), odd=not_finite, needs=("nir", "h5py"))
