"""A graph is taken where it gives what its network gives: to rounding, which a network may make large itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.source import SourceGraph
from snnconv.runtime.capture import agree, differs_from, distance
from snnconv.runtime.program import GraphProgram


class Sensitive(nn.Module):
    """A linear layer, BatchNorm and ReLU, whose values the last line multiplies: so it does the rounding of folding."""

    def __init__(self, times: float) -> None:
        super().__init__()
        self.fc, self.norm, self.relu, self.times = nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), times
        with torch.no_grad():
            self.norm.running_var.uniform_(0.1, 3.0)
            self.norm.running_mean.normal_()
            self.norm.weight.uniform_(0.1, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        return (self.times * self.relu(self.norm(self.fc(x)))).sin()


def rounding(model: nn.Module, x: Tensor) -> float:
    """How far single precision is from double in the network itself."""
    own = model(x)
    truth = model.double()(x.double())
    model.float()
    return distance(truth, own)


def test_a_network_that_makes_its_own_rounding_large_is_captured() -> None:
    torch.manual_seed(0)
    model, x = Sensitive(1e5).eval(), torch.randn(64, 32)
    with torch.no_grad():
        assert rounding(model, x[:2]) > 1e-3
        assert not agree(model(x[:2]), GraphProgram(source_graph(model)).static(x[:2], lambda site, z: z.relu()))
    snn = snnconv.convert(model, methods.ShiftedThreshold(8), x, progress=False)
    assert snn.report.path == "graph"


@pytest.mark.parametrize("also_in_double", [True, False], ids=["another function", "fewer digits"])
def test_a_graph_that_is_further_off_than_the_networks_own_rounding_is_not_taken(also_in_double: bool) -> None:
    torch.manual_seed(0)
    # what is another function is seen beside any rounding, fewer digits beside little of it
    model, x = Sensitive(1e8 if also_in_double else 1e5).eval(), torch.randn(64, 32)

    def of(given: nn.Module) -> SourceGraph:
        changed = copy.deepcopy(given)
        if also_in_double or x.dtype == next(given.parameters()).dtype:
            for weight in changed.parameters():
                weight.data.mul_(1.001)
        return source_graph(changed)

    with torch.no_grad():
        assert differs_from(model, of(model), [x], of)
        assert not differs_from(model, source_graph(model), [x], source_graph)


def test_a_value_that_is_no_number_is_infinitely_far() -> None:
    assert distance(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0])) == 0.25
    assert distance(torch.tensor([1.0, 4.0]), torch.tensor([torch.nan, 4.0])) == float("inf")
    assert distance(torch.tensor([4.0, torch.inf]), torch.tensor([4.0, 0.0])) == 0.0
    assert distance(torch.zeros(3), torch.zeros(3, 1)) == float("inf")


class OnePrecision(Sensitive):
    """Its matrix is no parameter, and stays in single precision."""

    matrix = torch.eye(32)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x @ self.matrix)


def test_a_graph_that_differs_from_a_network_of_one_precision_alone_is_not_taken() -> None:
    torch.manual_seed(0)
    model, other, x = OnePrecision(1.0).eval(), OnePrecision(1.0).eval(), torch.randn(64, 32)
    with pytest.raises(RuntimeError, match="dtype"):
        copy.deepcopy(model).double()(x.double())
    assert differs_from(model, source_graph(other), [x], source_graph)
    assert not differs_from(model, source_graph(model), [x], source_graph)
