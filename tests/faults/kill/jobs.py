"""Small jobs of every kind that writes: conversion, fine-tuning, training, a benchmark, the leaderboard."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import snnconv
from snnbench import leaderboard, results
from snnbench.config import load_config
from snnbench.registry import MODELS
from snnbench.run import run_config
from snnbench.train import train
from snnconv import methods
from snnconv.activations import QuantReLU
from snnconv.files.untrusted import read_safetensors

__all__ = ["CONVERT", "JOBS", "Job"]

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Job:
    """What is run, killed and run again in one folder.

    Attributes:
        prepare: lays out a folder.
        run: in that folder; what is there already is gone on from.
        found: what the job has made, in plain values; ``None`` where there is nothing yet. Reading it fails where a
            file is half.
    """

    prepare: Callable[[Path], None]
    run: Callable[[], None]
    found: Callable[[], Any]


@MODELS.register_module(force=True)
class KilledNet(nn.Sequential):
    """Learns to tell dark pictures from bright ones."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes)
        )


def _hashed(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    return {
        name: hashlib.sha256(value.flatten().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, value in sorted(tensors.items())
    }


# --- conversion --------------------------------------------------------------------------------------------

NETWORK = """\
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
"""


CONVERT = [
    "convert", "net.py:net", "--data", "set.safetensors", "--method", "if", "--timesteps", "8", "--out", "net.snn",
]  # fmt: skip


def _lay_network(folder: Path) -> None:
    (folder / "net.py").write_text(NETWORK)
    save_file({"x": torch.rand(64, 4, generator=torch.Generator().manual_seed(0))}, folder / "set.safetensors")


def _convert() -> None:
    from snnconv.cli.app import app

    app(CONVERT, standalone_mode=False)


def _converted() -> Any:
    if not Path("net.snn").exists():
        return None
    x = read_safetensors("set.safetensors")[0]["x"]
    return snnconv.load("net.snn")(x).tolist()


# --- fine-tuning -------------------------------------------------------------------------------------------


def _finetune() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(48, 6), torch.arange(48) % 3
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)]
    model = snnconv.prepare(nn.Sequential(*layers), QuantReLU(3), x, progress=False).eval()
    snn = snnconv.convert(model, methods.IF(3, thresholds="trained", correction="none"), progress=False)
    tuned, _ = snnconv.finetune_layerwise(
        model, snn, [(x, y)], epochs=2, batch_size=16, progress=False, checkpoint=Path("tuning")
    )
    snnconv.save(tuned, "tuned.snn")


def _finetuned() -> Any:
    return _hashed(snnconv.load("tuned.snn").state_dict()) if Path("tuned.snn").exists() else None


# --- training and benchmark --------------------------------------------------------------------------------


def _lay_pictures(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 9)):
        for name, low in (("bright", 110), ("dark", 0)):
            (folder / "light" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(low, low + 145, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "light" / split / name / f"{number}.png")

    def loader(split: str, shuffle: bool) -> dict[str, Any]:
        data = {"type": "InMemoryImages", "root": f"light/{split}", "split": split, "pipeline": []}
        sampler = {"type": "DefaultSampler", "shuffle": shuffle}
        return {"batch_size": 4, "num_workers": 0, "sampler": sampler, "dataset": data}

    row = {"label": "signed IF", "type": "SignedIF", "timesteps": [2, 4]}
    config = {
        "default_scope": "snnbench",
        "model": {"type": "ImageClassifier", "network": {"type": "KilledNet"}},
        "train_dataloader": loader("train", True),
        "val_dataloader": loader("test", False),
        "test_dataloader": loader("test", False),
        "val_evaluator": {"type": "TopK"},
        "test_evaluator": {"type": "TopK"},
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 1}},
        "optim_wrapper": {"type": "AutocastOptimWrapper", "dtype": "float32", "optimizer": {"type": "SGD", "lr": 0.02}},
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 3, "val_interval": 3},
        "custom_hooks": [{"type": "EMAHook", "momentum": 0.2, "update_buffers": True}],
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "randomness": {"seed": 0},
        "log_level": "ERROR",
        "bench": {
            "task": "classification", "dataset": "light", "architecture": "killed net", "metric": "top1",
            "weights": "trained.safetensors", "calibration": {"images": 8}, "methods": [row],
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    save_file({f"network.{k}": v for k, v in KilledNet().state_dict().items()}, folder / "trained.safetensors")


def _train() -> None:
    os.environ["SNNCONV_CACHE"] = "cache"
    config = load_config("config.json")
    config.work_dir = "work"
    train(config)


def _trained() -> Any:
    path = Path("work/weights.safetensors")
    return _hashed(read_safetensors(path)[0]) if path.exists() else None


def _bench() -> None:
    os.environ["SNNCONV_CACHE"] = "cache"
    run_config("config.json", out="out", work_dir="work", resume=True)


def _measured() -> Any:
    path = Path("out/light/killed-net/signed-if.json")
    if not path.exists():
        return None
    record = results.read(path)
    points = [[p["timesteps"], p["metrics"], p["sops"]] for p in record["points"]]
    return [record["ann"]["metrics"], points]


# --- leaderboard -------------------------------------------------------------------------------------------


def _lay_results(folder: Path) -> None:
    shutil.copytree(ROOT / "benchmarks" / "results" / "digits", folder / "results" / "digits")


def _render() -> None:
    leaderboard.write(".")


def _pages() -> Any:
    pages = [Path("LEADERBOARD.md"), Path("leaderboard.html")]
    if not all(page.exists() for page in pages):
        return None
    return [hashlib.sha256(page.read_bytes()).hexdigest() for page in pages]


JOBS = {
    "convert": Job(_lay_network, _convert, _converted),
    "finetune": Job(lambda folder: None, _finetune, _finetuned),
    "train": Job(_lay_pictures, _train, _trained),
    "bench": Job(_lay_pictures, _bench, _measured),
    "leaderboard": Job(_lay_results, _render, _pages),
}
"""By name."""
