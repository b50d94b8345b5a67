"""Inputs and labels of the command line: ``.npz``, ``.pt``, ``.safetensors``."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from snnconv.cli.data import load_data
from snnconv.cli.inputs import InputError
from snnconv.cli.preprocessing import Preprocessing
from tests.fuzz.changes import Changed, changed_bytes, changed_member
from tests.fuzz.kind import Kind
from tests.fuzz.outcomes import not_finite


def samples() -> dict[str, bytes]:
    """One of each."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(6, 4, generator=draw), torch.arange(6) % 3
    arrays, tensors = io.BytesIO(), io.BytesIO()
    np.savez(arrays, x=x.numpy(), y=y.numpy())
    torch.save({"x": x, "y": y}, tensors)
    return {"set.npz": arrays.getvalue(), "set.pt": tensors.getvalue(), "set.safetensors": save({"x": x, "y": y})}


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes of the file or, in a zip, of a member."""
    zipped = content.startswith(b"PK")
    return changed_member(content, draw) if zipped and draw.random() < 0.5 else changed_bytes(content, draw)


def read(path: Path) -> Any:
    """All inputs and labels, batch by batch."""
    return [list(batch) for batch in load_data(path, PREPROCESSING).batches()]


PREPROCESSING = Preprocessing(torch.as_tensor, (0.5,), (0.25,), "none")
KIND = Kind(samples, change, read, (InputError,), odd=not_finite, checksums=frozenset({"set.npz", "set.pt"}))
