"""Benchmark configs in YAML and JSON."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from snnbench.config import BenchError, load_config
from snnbench.data.roots import DataError
from tests.fuzz.changes import Changed, changed_bytes, changed_values
from tests.fuzz.kind import Kind

CONFIG = {
    "default_scope": "snnbench",
    "model": {"type": "ImageClassifier", "network": {"type": "CifarResNet", "depth": 20}},
    "train_cfg": {"by_epoch": True, "max_epochs": 4},
    "param_scheduler": [{"type": "CosineAnnealingLR", "T_max": 4, "begin": 0, "end": 4}],
    "test_dataloader": {"batch_size": 4, "dataset": {"type": "RandomImages", "shape": [3, 8, 8]}},
    "bench": {
        "task": "classification", "dataset": "noise", "architecture": "ResNet-20", "metric": "top1", "weights": None,
        "calibration": {"images": 8},
        "methods": [
            {"label": "signed IF", "type": "SignedIF", "timesteps": [4, 8]},
            {"label": "SRP", "type": "SRP", "timesteps": [1], "pre_timesteps": 4},
        ],
    },
}  # fmt: skip
CONFIG["test_dataloader"]["dataset"]["type"] = "RepeatDataset"  # type: ignore[index]
RUN = "!!python/object/apply:os.system ['true']"


def samples() -> dict[str, bytes]:
    """The same in both languages."""
    return {"net.json": json.dumps(CONFIG, indent=1).encode(), "net.yaml": yaml.safe_dump(CONFIG).encode()}


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes, values, or a tag that asks for code."""
    what = draw.random()
    if what < 0.3:
        return changed_bytes(content, draw)
    root = json.loads(json.dumps(CONFIG))
    if what < 0.35:
        root["bench"]["metric"] = RUN
        return Changed(yaml.safe_dump(root).replace(repr(RUN).replace("\\'", "''"), RUN).encode(), "tag", True)
    how = changed_values(root, draw)
    written = json.dumps(root) if content.startswith(b"{") else yaml.safe_dump(root, allow_unicode=draw.random() < 0.5)
    return Changed(written.encode("utf-8", "surrogatepass"), how, True)


def read(path: Path) -> Any:
    """The config, with an option as the command line sets it."""
    return load_config(path, {"epochs": 2}).to_dict()


KIND = Kind(samples, change, read, (BenchError, DataError), needs=("mmengine", "yaml"))
