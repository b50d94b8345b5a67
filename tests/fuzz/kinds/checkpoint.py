"""Weights of a network: what ``torch.save`` wrote, now and before PyTorch 1.6, and safetensors."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from snnconv.files.untrusted import CheckpointError, load_weights
from tests.fuzz.changes import Changed, changed_bytes, changed_member
from tests.fuzz.kind import Kind
from tests.fuzz.kinds.card import network


def samples() -> dict[str, bytes]:
    """One of each."""
    weights = network().state_dict()
    new, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": weights, "meta": {"epoch": 3, "seed": None}}, new)
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    return {"new.pth": new.getvalue(), "old.pth": old.getvalue(), "net.safetensors": save(dict(weights))}


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes of the file or, in a zip, of a member."""
    zipped = content.startswith(b"PK")
    return changed_member(content, draw) if zipped and draw.random() < 0.5 else changed_bytes(content, draw)


def read(path: Path) -> Any:
    """The network's weights."""
    model = network()
    load_weights(model, path)
    return dict(model.state_dict())


KIND = Kind(samples, change, read, (CheckpointError,), checksums=frozenset({"new.pth"}))
