"""--calibration batch-norm: a conversion that looks at no input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import snnconv
from snnconv.cli.app import app
from tests.command_line import Runner

NETWORK = """
from torch import nn

def normed():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

def plain():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "network.py").write_text(NETWORK)
    np.savez(tmp_path / "data.npz", x=torch.randn(40, 6).numpy(), y=np.arange(40) % 3)
    return tmp_path


def convert(folder: Path, network: str, *more: str, status: int = 0) -> str:
    given = [f"{folder / 'network.py'}:{network}", "--data", str(folder / "data.npz"), "--timesteps", "4"]
    out = ["--out", str(folder / "a.snn.safetensors")]
    result = Runner().invoke(app, ["convert", *given, "--calibration", "batch-norm", *out, *more])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def test_batch_norms_stand_for_data(folder: Path) -> None:
    said = convert(folder, "normed", "--correction", "none")
    assert "calibrated on what its BatchNorms have learned" in said
    assert snnconv.load(folder / "a.snn.safetensors").report.calibration_samples == 0


def test_what_cannot_do_without_data_says_so(folder: Path) -> None:
    assert "take correction='none'" in convert(folder, "normed", status=2)
    assert "no BatchNorm says what comes to 1" in convert(folder, "plain", "--correction", "none", status=2)
