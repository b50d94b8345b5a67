"""The share of a layer's values beyond what its neurons can say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods

X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU6(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("method", [methods.ShiftedThreshold(4), methods.SignedIF(8), methods.SRP(8, 4)])
def test_it_counts_what_lies_beyond_the_thresholds(method: methods.Method) -> None:
    network = model()
    snn = snnconv.convert(network, method, X, progress=False)
    first = network[0](X)
    theta = torch.full((16,), 0.5)
    snn.thresholds["1"] = theta
    snn.program.source.tensors["0.bias"].copy_(network[0].bias)  # without what bias correction added
    found = snnconv.saturation(snn, X)
    assert found["1"] == pytest.approx(float((first > theta).float().mean()), abs=1e-3)
    assert found.samples == 200


def test_other_data_show_first_of_all() -> None:
    snn = snnconv.convert(model(), methods.SignedIF(16), X, progress=False)
    own, other = snnconv.saturation(snn, X), snnconv.saturation(snn, [3 * X[:50], 3 * X[50:]])
    assert list(own) == ["1", "3"]
    assert other["1"] > 3 * own["1"]
    assert str(other).splitlines()[-1] == "200 inputs"


def test_a_maximum_is_not_exceeded_by_its_own_data() -> None:
    method = methods.ShiftedThreshold(8, thresholds="max", correction="none")
    assert snnconv.saturation(snnconv.convert(model(), method, X, progress=False), X)["1"] == 0


def test_the_limit_counts_inputs() -> None:
    snn = snnconv.convert(model(), methods.IF(4), X, progress=False)
    assert snnconv.saturation(snn, X, limit=7).samples == 7
