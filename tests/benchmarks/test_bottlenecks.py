"""benchmarks.zoo lite0: a network with linear bottlenecks beside itself, with spikes at activations and everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.zoo import __main__ as zoo
from benchmarks.zoo import bottlenecks


def _network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def test_only_with_spikes_everywhere_no_layer_behind_the_first_reads_a_current() -> None:
    images, model = torch.rand(60, 3, 8, 8), _network()
    labels = model(images).argmax(1)
    told: list[tuple[str, int, int]] = []
    lines = bottlenecks.compared(model, images[:10], images, labels, 8, lambda *now: told.append(now))
    source, activations, synapses = lines
    assert source == {"cover": "source", "accuracy": 100.0, "pictures": 60}
    assert told[-1] == ("synapses", 60, 60)
    assert activations["reads"]["currents"] == 1
    assert set(synapses["reads"]) == {"input", "spikes", "sum of spikes"}
    assert synapses["reads"]["input"] == 1
    for line in (activations, synapses):
        assert line["accuracy"] > 80
        assert line["energy"] > 0


def test_the_command_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bottlenecks, "lite0", lambda count, steps, progress: [{"pictures": count, "T": steps}])
    assert zoo.main(["lite0", "--pictures", "3", "--timesteps", "6", "--out", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8")) == [{"pictures": 3, "T": 6}]
