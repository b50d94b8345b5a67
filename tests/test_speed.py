"""The speed benchmark measures every engine beside the ANN, writes as it goes, and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.speed import __main__ as speed
from benchmarks.speed.engines import ENGINES, MOST_BITS, Unavailable
from benchmarks.speed.networks import NETWORKS, Network, folded


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network(small, (3, 8, 8))
    monkeypatch.setitem(NETWORKS, "small", made)
    return made


@pytest.mark.slow
def test_every_engine_is_measured_or_says_why_not(network: Network, tmp_path: Path, capsys) -> None:
    out = tmp_path / "speed.json"
    arguments = ["--networks", "small", "--batches", "2", "--timesteps", "2,16", "--repeats", "1", "--out", str(out)]
    arguments += ["--device", "cpu", "--threads", str(torch.get_num_threads())]
    assert speed.main(arguments) == 0
    record = json.loads(out.read_text())
    cells = {(c["timesteps"], c["engine"]): c for c in record["cells"]}
    assert {name for t, name in cells if t == 2} == set(ENGINES)
    assert not any(ENGINES[name].sums for t, name in cells if t > MOST_BITS)
    for (t, name), cell in cells.items():
        if "left_out" in cell:
            assert "bfloat16" in name
            continue
        steps = 1 if ENGINES[name].sums else ENGINES[name].steps(t)
        assert cell["ratio"] == pytest.approx(cell["seconds"] / cell["ann_seconds"] / steps)
        assert cell["seconds"] > 0
        assert cell["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    written = out.read_bytes()
    assert speed.main(arguments) == 0
    assert out.read_bytes() == written
    assert capsys.readouterr().out.count("| small | 2 | 2 | snnconv IF |") == 3  # once measured, twice in the table


def test_what_would_take_too_long_is_left_out(network: Network, tmp_path: Path, capsys) -> None:
    out = tmp_path / "speed.json"
    arguments = ["--networks", "small", "--batches", "1", "--timesteps", "4", "--engines", "snnconv IF", "--limit", "0"]
    speed.main([*arguments, "--device", "cpu", "--out", str(out), "--threads", str(torch.get_num_threads())])
    assert all("s a run" in cell["left_out"] for cell in json.loads(out.read_text())["cells"])


def test_engines_compute_what_they_say(network: Network) -> None:
    model, x = network.build()
    with torch.no_grad():
        y = model(x)
        assert torch.allclose(folded(model)(x), y, atol=1e-5)
    for name in ("snnconv signed IF", "snnconv SRP", "snnconv IF, eager"):
        snn = ENGINES[name].prepare(model, x, 64)
        assert torch.allclose(snn(x), y, atol=0.2)
    for multi in ("SpikingJelly, step by step", "SpikingJelly, multi-step"):
        assert torch.allclose(ENGINES[multi].prepare(model, x, 64)(x) / 64, y, atol=0.4)


def test_an_unknown_network_is_named(capsys) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--networks", "resnet19"])
    assert "unknown network 'resnet19'" in capsys.readouterr().err


def test_a_missing_package_is_a_reason(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    monkeypatch.setattr("benchmarks.speed.engines.importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="snntorch is not installed"):
        ENGINES["snnTorch Leaky, step by step"].prepare(*network.build(), 4)
