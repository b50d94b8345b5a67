"""Result files of a benchmark, as a resumed run reads them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from snnbench import results
from snnconv.files.fingerprint import config_hash
from tests.fuzz.changes import Changed, changed_json
from tests.fuzz.kind import Kind

COMMITTED = Path(__file__).parents[3] / "benchmarks" / "results"
NAMES = ("digits/if.json", "digits/srp-t-2.json", "cifar10/resnet-20-3-bit-activations-7-levels/signed-if.json")


def samples() -> dict[str, bytes]:
    """A plain one, one of two phases, and one with readout windows."""
    return {name.replace("/", "-"): (COMMITTED / name).read_bytes() for name in NAMES}


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes or values; the hash of the settings is made to fit in half of them."""
    changed = changed_json(content, draw)
    if not changed.meant or draw.random() < 0.5:
        return changed
    root = json.loads(changed.content)
    if isinstance(root, dict) and isinstance(root.get("config"), dict):
        root["config_hash"] = config_hash(root["config"])
    return Changed(json.dumps(root).encode(), changed.how, True)


def read(path: Path) -> Any:
    """The row that a run goes on from."""
    header = {key: value for key, value in results.read(path).items() if key not in ("points", "notes")}
    return results.begin(path, header)


KIND = Kind(samples, change, read, (results.ResultError,), needs=("jsonschema",))
