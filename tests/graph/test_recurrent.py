"""Recurrent layers convert position by position: their gates are activations, their weights layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.capture.recurrent import unrolled_forward
from snnconv.runtime.program import GraphProgram

TOKENS = torch.randn(16, 4, 6, generator=torch.Generator().manual_seed(5))

LAYERS: dict[str, Any] = {
    "RNN": lambda: nn.RNN(6, 5, batch_first=True),
    "RNN with ReLUs": lambda: nn.RNN(6, 5, 2, nonlinearity="relu", batch_first=True),
    "LSTM": lambda: nn.LSTM(6, 5, batch_first=True),
    "LSTM, two layers both ways": lambda: nn.LSTM(6, 5, 2, bidirectional=True),
    "LSTM without biases": lambda: nn.LSTM(6, 5, bias=False),
    "LSTM with a projection": lambda: nn.LSTM(6, 5, 2, proj_size=3, batch_first=True),
    "GRU": lambda: nn.GRU(6, 5, batch_first=True),
    "GRU, two layers both ways, no biases": lambda: nn.GRU(6, 5, 2, bias=False, bidirectional=True),
}


class Recurrent(nn.Module):
    """A recurrent layer between two layers."""

    def __init__(self, layer: nn.Module, width: int = 5) -> None:
        super().__init__()
        self.first, self.rnn, self.head = nn.Linear(6, 6), layer, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(torch.relu(self.first(x)))[0][:, -1])


class Cells(nn.Module):
    """A loop over positions with cells."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.RNNCell(6, 5, nonlinearity="relu"), nn.LSTMCell(5, 5), nn.GRUCell(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = s = g = None
        for place in range(3):
            h = self.one(x[:, place], h)
            s = self.two(h, s)
            g = self.three(s[0], g)
        return g


@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@torch.no_grad()
def test_position_by_position_it_is_the_layer(make: Any, given: bool) -> None:
    torch.manual_seed(0)
    layer = make()
    state = None
    if given:
        _, state = layer(TOKENS)
        state = tuple(torch.randn_like(s) for s in state) if isinstance(state, tuple) else torch.randn_like(state)
    forward = unrolled_forward(layer)
    assert forward is not None
    torch.testing.assert_close(forward(TOKENS, state), layer(TOKENS, state), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_cells_are_traced_as_the_steps_that_they_are() -> None:
    torch.manual_seed(0)
    model = Cells()
    source = source_graph(model)
    assert list(source.sites) == ["one.relu", "one.relu:2", "one.relu:3"]
    got = GraphProgram(source).static(TOKENS, lambda site, z: source.sites[site].activation(z))
    torch.testing.assert_close(got, model(TOKENS), rtol=1e-4, atol=1e-5)


def test_the_relus_of_a_recurrent_layer_are_sites() -> None:
    torch.manual_seed(0)
    model = Recurrent(nn.RNN(6, 5, nonlinearity="relu", batch_first=True)).eval()
    snn = snnconv.convert(model, methods.ShiftedThreshold(12, thresholds="max"), TOKENS, strict=True, progress=False)
    assert snn.report is not None
    assert [site.name for site in snn.report.spiking if site.name.startswith("rnn")][:2] == ["rnn.relu", "rnn.relu:2"]
    assert not snn.report.analog
    torch.testing.assert_close(snn(TOKENS), model(TOKENS).detach(), rtol=0.05, atol=0.01)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_are_neurons_and_products_read_spikes(kind: Any) -> None:
    torch.manual_seed(0)
    model = Recurrent(kind(6, 5, batch_first=True)).eval()
    method = methods.ShiftedThreshold(12, thresholds="max", correction="none")
    snn = snnconv.convert(model, method, TOKENS, cover="synapses", strict=True, progress=False)
    assert snn.report is not None
    assert snn.report.capture == "torch.export"
    assert {"sigmoid", "tanh"} <= {site.kind for site in snn.program.sites.values()}
    assert not any(one.name.startswith("rnn") for one in snn.report.analog)
    torch.testing.assert_close(snn(TOKENS), model(TOKENS).detach(), rtol=0.05, atol=0.01)


def test_another_length_is_refused() -> None:
    snn = snnconv.convert(Recurrent(nn.GRU(6, 5, batch_first=True)).eval(), methods.SignedIF(4), TOKENS, progress=False)
    with pytest.raises(ConversionError, match="dimension 1 of x is 3, and was captured for 4"):
        snn(TOKENS[:, :3])
