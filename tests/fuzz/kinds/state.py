"""The state of a half-done test pass, as a resumed run reads it."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnbench.testing.resume import PartialState
from tests.fuzz.changes import Changed, changed_bytes, changed_member
from tests.fuzz.kind import Kind


class Unused(Exception):
    """The state says why it is not used."""


def samples() -> dict[str, bytes]:
    """After two batches, stored twice."""
    with tempfile.TemporaryDirectory() as folder:
        state = PartialState(Path(folder) / "state.pt", "a")
        first = [{"scores": torch.tensor([0.5, 0.25]), "name": "x", "box": np.array([1.0, 2.0])}]
        state.save(1, {("ANN", (0, 0)): [first]}, {"ANN": 0.5})
        state.save(2, {("ANN", (0, 0)): [first * 2]}, {"ANN": 1.5})
        return {"state.pt": state.path.read_bytes()}


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes of the file or of a member."""
    return changed_bytes(content, draw) if draw.random() < 0.4 else changed_member(content, draw)


def read(path: Path) -> Any:
    """What the pass goes on from."""
    state = PartialState(path, "a")
    done = state.done()
    if state.problem:
        raise Unused(state.problem)
    results, seconds = state.load(done)
    plain = {str(key): [[{n: _plain(v) for n, v in item.items()} for item in found] for found in lists]
             for key, lists in results.items()}  # fmt: skip
    return done, plain, seconds


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


KIND = Kind(samples, change, read, (Unused,), checksums=frozenset({"state.pt"}))
