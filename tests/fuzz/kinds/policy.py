"""Policies of continuous control: stable-baselines3's zips and statistics, and safetensors."""

from __future__ import annotations

import io
import json
import pickle
import random
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from snnconv.control.policy_file import PolicyFileError, read_policy
from snnconv.control.statistics import StatisticsError, read_statistics
from tests.fuzz.changes import Changed, changed_bytes, changed_member
from tests.fuzz.kind import Kind
from tests.fuzz.outcomes import not_finite

STATE = {
    "actor.mu.0.weight": torch.linspace(-1, 1, 12).view(4, 3), "actor.mu.0.bias": torch.zeros(4),
    "actor.mu.2.weight": torch.linspace(-1, 1, 8).view(2, 4), "actor.mu.2.bias": torch.ones(2),
}  # fmt: skip


def samples() -> dict[str, bytes]:
    """A TD3 policy in a zip, an actor with its statistics in safetensors, and what VecNormalize saves."""
    weights, zipped = io.BytesIO(), io.BytesIO()
    torch.save(STATE, weights)
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        settings = {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.ReLU'>"}, "gamma": 0.99}
        archive.writestr("data", json.dumps(settings))
        archive.writestr("policy.pth", weights.getvalue())
        archive.writestr("_stable_baselines3_version", "2.9.0")
    layers = {name.replace("actor.mu", "layers"): value for name, value in STATE.items()}
    actor = {**layers, "normalise.mean": torch.zeros(3), "normalise.scale": torch.ones(3)}
    return {"td3.zip": zipped.getvalue(), "actor.safetensors": save(actor), "statistics.pkl": _statistics()}


def _statistics() -> bytes:
    """What ``VecNormalize.save`` writes, by classes of the names that it has."""
    module = types.ModuleType("stable_baselines3_stand_in")
    for name in ("VecNormalize", "RunningMeanStd"):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
    sys.modules[module.__name__] = module
    try:
        running, whole = vars(module)["RunningMeanStd"](), vars(module)["VecNormalize"]()
        vars(running).update(mean=np.arange(3.0), var=np.ones(3), count=10.0, epsilon=1e-4)
        vars(whole).update(obs_rms=running, clip_obs=10.0, epsilon=1e-8, gamma=0.99)
        return pickle.dumps(whole)
    finally:
        del sys.modules[module.__name__]


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes of the file or, in a zip, of a member."""
    zipped = content.startswith(b"PK")
    return changed_member(content, draw) if zipped and draw.random() < 0.5 else changed_bytes(content, draw)


def read(path: Path) -> Any:
    """What the actor does, or the statistics."""
    if path.name == "statistics.pkl":
        found = read_statistics(path)
        return found.mean, found.variance, found.clip, found.epsilon
    actor = read_policy(path)
    with torch.no_grad():
        return actor.sizes, actor(torch.zeros(1, actor.sizes[0]))


KIND = Kind(samples, change, read, (PolicyFileError, StatisticsError), odd=not_finite, checksums=frozenset({"td3.zip"}))
