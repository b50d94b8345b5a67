"""--input sequence: recordings of a file, a frame a step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import snnconv
from snnconv.cli.app import app
from tests.command_line import Runner

runner = Runner()
NETWORK = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
"""


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """A network, and 40 recordings of 12 frames."""
    (tmp_path / "network.py").write_text(NETWORK)
    torch.manual_seed(0)
    x = (torch.rand(40, 12, 2, 6, 6) < torch.rand(40, 1, 2, 6, 6)).float()
    np.savez(tmp_path / "events.npz", x=x.numpy(), y=np.arange(40) % 3)
    return [f"{tmp_path / 'network.py'}:small", "--data", str(tmp_path / "events.npz"), "--input", "sequence"]


def run(*arguments: str, status: int = 0) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


def test_eval_reads_out_after_each_frame(given: list[str]) -> None:
    found = json.loads(run("eval", *given, "--json"))
    assert [row["T"] for row in found["networks"]] == [1, 2, 4, 8, 12], "T of the method is the recordings' frames"
    assert found["samples"] == 40
    assert 0 <= found["ann"] <= 100


def test_convert_saves_a_network_of_sequences(given: list[str], tmp_path: Path) -> None:
    run("convert", *given, "--timesteps", "12", "--out", str(tmp_path / "a.snn.safetensors"))
    snn = snnconv.load(tmp_path / "a.snn.safetensors")
    assert snn.input == "sequence"
    assert snn(torch.zeros(5, 2, 2, 6, 6)).shape == (2, 3)
    found = json.loads(run("eval", *given, "--snn", str(tmp_path / "a.snn.safetensors"), "--json"))
    assert [row["T"] for row in found["networks"]] == [1, 2, 4, 8, 12]


def test_mistakes_are_a_sentence(given: list[str]) -> None:
    assert "leave out --at" in run("eval", *given, "--at", "2,4", status=2)
    assert "cannot follow a sequence" in run("eval", *given, "--method", "srp", "--pre-timesteps", "4", status=2)
    assert "input must be one of" in run("eval", *given[:-1], "events", "--timesteps", "4", status=2)
