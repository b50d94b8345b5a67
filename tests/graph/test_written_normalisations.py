"""Normalisations that a network writes out are functions, where neurons stand in front of products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.graph.capture.exported import exported_graph
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.cover import Cover
from snnconv.graph.ops import operator_of
from snnconv.graph.source import SourceGraph
from snnconv.runtime.executor import Executor

SYNAPSES = Cover("synapses", wanted=lambda kind: kind.extrema is not None)
Norm = Callable[[nn.Module, Tensor], Tensor]


def mean_square(x: Tensor) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True)


def llama(m: nn.Module, x: Tensor) -> Tensor:
    dtype = x.dtype
    x = x.to(torch.float64)
    x = x * torch.rsqrt(mean_square(x) + 1e-6)
    return m.weight * x.to(dtype)


RMS: dict[str, Norm] = {
    "rsqrt, between casts": llama,
    "a cast for the mean square alone": lambda m, x: (
        m.weight * (x * torch.rsqrt(x.to(torch.float64).pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x)
    ),
    "rsqrt in front": lambda m, x: torch.rsqrt(1e-6 + (x * x).mean((-1,), keepdim=True)) * x * m.weight,
    "divided by a root": lambda m, x: x / torch.sqrt(mean_square(x) + 1e-6) * m.weight,
    "one over a root": lambda m, x: x * (1 / (mean_square(x) + 1e-6).sqrt()) * m.weight,
    "reciprocal": lambda m, x: x * (torch.square(x).mean(-1, True) + 1e-6).sqrt().reciprocal() * m.weight,
    "a power": lambda m, x: x * (mean_square(x) + 1e-6) ** -0.5 * m.weight,
    "a power below": lambda m, x: x / (mean_square(x) + 1e-6).pow(0.5) * m.weight,
}


def layer(m: nn.Module, x: Tensor) -> Tensor:
    c = x - x.mean(-1, keepdim=True)
    return c / torch.sqrt(mean_square(c) + 1e-6) * m.weight + m.bias


LAYER: dict[str, Norm] = {
    "mean square of what is centred": layer,
    "centred twice": lambda m, x: m.weight
    * ((x - x.mean(-1, keepdim=True)) / (mean_square(x - x.mean(-1, keepdim=True)) + 1e-6).sqrt()),
    "variance": lambda m, x: m.weight
    * ((x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-6)) + m.bias,
    "variance, correction": lambda m, x: m.weight
    * ((x - x.mean(-1, keepdim=True)) / torch.sqrt(torch.var(x, dim=-1, correction=0, keepdim=True) + 1e-6)),
}  # fmt: skip


class Net(nn.Module):
    """A norm on tokens between two layers."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(6, 8), nn.Linear(8, 3), norm
        self.weight, self.bias = nn.Parameter(0.5 + torch.rand(8)), nn.Parameter(torch.randn(8))
        self.scale = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self, self.a(x)))


class Channels(nn.Module):
    """LayerNorm along the channels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.weight, self.bias = nn.Parameter(0.5 + torch.rand(8)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-6)
        return self.b(self.weight[:, None, None] * x + self.bias[:, None, None])


def graphs(model: nn.Module, x: Tensor, name: str = "x") -> list[SourceGraph]:
    return [source_graph(model, cover=SYNAPSES), exported_graph(model, {name: x}, cover=SYNAPSES)]


def run(source: SourceGraph, x: Tensor) -> Tensor:
    return Executor(source, lambda site, z: source.sites[site].activation(z))(x)


def calls(source: SourceGraph, function: Callable[..., Tensor]) -> int:
    return sum(operator_of(node.target) is operator_of(function) for node in source.graph.nodes)


@pytest.mark.parametrize(
    ("function", "norm"),
    [pytest.param(F.rms_norm, f, id=name) for name, f in RMS.items()]
    + [pytest.param(F.layer_norm, f, id=name) for name, f in LAYER.items()],
)
def test_a_normalisation_is_seen_however_it_is_written(function: Callable[..., Tensor], norm: Norm) -> None:
    torch.manual_seed(0)
    model, x = Net(norm).double().eval(), torch.randn(5, 4, 6).double()
    for source in graphs(model, x):
        assert calls(source, function) == 1
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-9, atol=1e-9)


def test_that_of_an_images_channels_is_seen() -> None:
    model, x = Channels().double().eval(), torch.randn(2, 3, 6, 6).double()
    for source in graphs(model, x):
        assert calls(source, F.layer_norm) == 1
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "norm",
    [
        pytest.param(lambda m, x: x * torch.rsqrt(mean_square(x) + 1e-6), id="no weight says how long a row is"),
        pytest.param(
            lambda m, x: x * torch.rsqrt(mean_square(x) + 1e-6) * m.scale, id="one number for rows of any length"
        ),
        pytest.param(lambda m, x: x * torch.rsqrt(mean_square(x)) * m.weight, id="nothing is added"),
        pytest.param(
            lambda m, x: (x - x.mean(-1, keepdim=True)) * torch.rsqrt(mean_square(x) + 1e-6) * m.weight,
            id="centred, by the mean square of what is not",
        ),
        pytest.param(
            lambda m, x: x * torch.rsqrt((x.to(torch.int64).float() ** 2).mean(-1, keepdim=True) + 1) * m.weight,
            id="rounded",
        ),
        pytest.param(lambda m, x: x * torch.rsqrt(mean_square(2 * x) + 1e-6) * m.weight, id="of another value"),
        pytest.param(lambda m, x: x * torch.rsqrt(x.pow(2).mean(-2, keepdim=True) + 1e-6) * m.weight, id="other axis"),
        pytest.param(lambda m, x: x * torch.rsqrt(x.pow(4).mean(-1, keepdim=True) + 1e-6) * m.weight, id="other power"),
        pytest.param(lambda m, x: x * torch.rsqrt(x.var(-1, keepdim=True) + 1e-6) * m.weight, id="not centred"),
        pytest.param(
            lambda m, x: (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + 1e-6) * m.weight,
            id="unbiased variance",
        ),
    ],
)
def test_what_is_another_function_stays(norm: Norm) -> None:
    model, x = Net(norm).double().eval(), torch.randn(5, 4, 6).double()
    for source in graphs(model, x):
        assert calls(source, F.layer_norm) == calls(source, F.rms_norm) == 0
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-9, atol=1e-9)


def test_a_mean_square_of_each_row_that_multiplies_columns_stays() -> None:
    model = Net(lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1) + 1e-6) * m.weight).double().eval()
    x = torch.randn(8, 6).double()  # as many rows as columns behind the first layer
    source = source_graph(model, cover=SYNAPSES)
    assert calls(source, F.rms_norm) == 0
    torch.testing.assert_close(run(source, x), model(x))


@pytest.mark.parametrize("norm", [RMS["divided by a root"], LAYER["variance"]])
def test_it_can_be_had_by_ladders(norm: Norm) -> None:
    torch.manual_seed(0)
    model, x = Net(norm).double().eval(), torch.randn(16, 4, 6).double()
    options = {"cover": "synapses", "normalisation": "ladder", "progress": False}
    snn = snnconv.convert(model, methods.ShiftedThreshold(8), x, **options)
    assert len(snn.report.normalisations) == 1
    assert (snn(x) - model(x)).norm() < 0.03 * model(x).norm()
    assert snnconv.audit(snn, x)


def test_where_neurons_stand_at_activations_alone_nothing_changes() -> None:
    source = source_graph(Net(llama))
    assert calls(source, F.rms_norm) == 0
