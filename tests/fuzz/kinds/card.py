"""Weights with a model card in their header."""

from __future__ import annotations

import json
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnbench.weights.card import ModelCard, load_weights, save_weights
from snnconv.files.untrusted import CheckpointError
from tests.fuzz.changes import ODD, Changed, changed_bytes, changed_values
from tests.fuzz.kind import Kind


def network() -> nn.Module:
    """The network that the weights belong to."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def samples() -> dict[str, bytes]:
    """One with every field."""
    card = ModelCard(
        "two layers", "noise", 3, {"top1": 91.5}, {"iterations": 10, "epochs": 2, "seconds": "1.5"}, {"lr": [0.1, 3]}
    )
    with tempfile.TemporaryDirectory() as folder:
        save_weights(network(), Path(folder) / "net.safetensors", card)
        return {"net.safetensors": (Path(folder) / "net.safetensors").read_bytes()}


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes, or a field of the card, inside of its JSON or as a whole."""
    if draw.random() < 0.25:
        return changed_bytes(content, draw)
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    metadata = header["__metadata__"]
    if draw.random() < 0.7:
        name = draw.choice([key for key, text in metadata.items() if text[:1] in '{["'])
        root = {name: json.loads(metadata[name])}
        how = changed_values(root, draw)
        metadata |= {key: json.dumps(field) for key, field in root.items()}
        if name not in root:
            del metadata[name]
    else:
        how = changed_values(metadata, draw, [text for text in ODD if isinstance(text, str)])
    text = json.dumps(header).encode()
    return Changed(struct.pack("<Q", len(text)) + text + content[8 + size :], how, True)


def read(path: Path) -> Any:
    """The weights, the card, and the card as a text."""
    model = network()
    card = load_weights(model, path)
    return dict(model.state_dict()), None if card is None else card.markdown()


KIND = Kind(samples, change, read, (CheckpointError, ValueError))
