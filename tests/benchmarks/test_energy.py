"""benchmarks.zoo energy: what covered networks cost, and what their layers read."""

from __future__ import annotations

import pytest
import torch

from benchmarks.zoo import energy
from benchmarks.zoo.networks import NETWORKS, Network
from tests import networks as nets


def test_classes_are_shares_of_the_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        NETWORKS, "small", Network("small", "tests", lambda: (nets.TinyViT(), torch.randn(4, 3, 12, 12)))
    )
    line = energy.measured("small", 4)
    assert sum(line["classes"].values()) == pytest.approx(1)
    assert line["ratio"] == pytest.approx(line["snn"] / line["ann"])
    assert set(line["reads"]) <= {"input", "spikes", "sum of spikes"}
    head, _, row = energy.table_of([line]).splitlines()
    assert head.count("|") == row.count("|")
    assert f"| small | 4 | {line['ratio']:.2f} |" in row


@pytest.mark.slow
def test_a_linear_bottleneck_reads_spikes_everywhere_and_costs_less_than_its_source() -> None:
    line = energy.measured("torchvision/mobilenet_v2", 5)
    assert line["reads"]["input"] == 1
    assert set(line["reads"]) == {"input", "spikes", "sum of spikes"}
    assert line["ratio"] < 1
