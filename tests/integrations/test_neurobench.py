"""NeuroBench's harness and ``snnconv.profile`` count the same; without NeuroBench, what its layers are called with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnbench.networks.models import DigitsCNN
from snnconv import methods
from snnconv.integrations.neurobench import SpikeCalls, neurobench_model

METHODS = [methods.IF(6), methods.SignedIF(6), methods.SRP(4, 2), methods.ShiftedThreshold(3)]


class Residual(nn.Module):
    """Spikes of two populations meet in one cell, and average and max pooling spread or choose them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 3)
        self.act1, self.act2, self.act3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.first(x))
        x = x + self.act2(self.second(x))
        x = torch.max_pool2d(self.act3(self.third(x)), 2)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def residual() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    return Residual().eval(), torch.rand(8, 2, 12, 12)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_layers_are_called_with_unit_spikes_as_often_as_spikes_reach_them(residual, method) -> None:
    model, x = residual
    snn = snnconv.convert(model, method, x, progress=False)
    network = SpikeCalls(snn)
    reached = 0.0
    sparse: list[float] = [0, 0]

    def count(layer: nn.Module, given: tuple[Tensor]) -> None:
        nonlocal reached
        (spikes,) = given
        if set(spikes.unique().tolist()) <= {0.0, 1.0}:
            ones = torch.ones_like(layer.weight)
            function = torch.nn.functional.conv2d if spikes.dim() == 4 else torch.nn.functional.linear
            options = {} if spikes.dim() == 2 else {"stride": layer.stride, "padding": layer.padding}
            reached += float(function(spikes, ones, None, **options).sum())

    def count_spikes(module: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        sparse[0] += int((out != 0).sum())
        sparse[1] += out.numel()

    for layer in network.connections.values():
        layer.register_forward_pre_hook(count)
    for population in network.populations.values():
        population.register_forward_hook(count_spikes)
    with torch.no_grad():
        answer = network(x)
    found = snnconv.profile(model, snn, x)
    assert torch.allclose(answer, snn(x), atol=1e-6)
    assert reached == pytest.approx(found.sops * len(x))
    assert sparse[0] == pytest.approx(found.spikes * len(x))
    assert sparse[1] == len(x) * sum(site.neurons * site.steps for site in found.sites)
    sizes = [layer.size for layer in found.layers]
    assert sum(p.numel() for p in network.parameters()) == sum(size.weights + size.biases for size in sizes)


def test_what_neurobench_has_no_counter_for_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ConvTranspose2d(2, 1, 3))
    snn = snnconv.convert(model, methods.IF(2), torch.rand(8, 1, 6, 6), progress=False)
    with pytest.raises(snnconv.ConversionError, match="2: NeuroBench has no transposed convolutions"):
        SpikeCalls(snn)


def test_without_neurobench_it_says_what_to_install(residual, monkeypatch) -> None:
    import sys

    model, x = residual
    snn = snnconv.convert(model, methods.IF(2), x, progress=False)
    monkeypatch.setitem(sys.modules, "neurobench.models", None)
    monkeypatch.setitem(sys.modules, "neurobench", None)
    with pytest.raises(ImportError, match="pip install neurobench"):
        neurobench_model(snn)


def harness(snn: snnconv.SpikingNetwork, x: Tensor, y: Tensor) -> dict[str, object]:
    """What NeuroBench's own benchmark says."""
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ParameterCount
    from neurobench.metrics.workload import ActivationSparsity, ClassificationAccuracy, SynapticOperations
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    metrics = [[ParameterCount], [ActivationSparsity, SynapticOperations, ClassificationAccuracy]]
    benchmark = Benchmark(neurobench_model(snn), loader, [], [lambda out: out.argmax(1)], metrics)
    found: dict[str, object] = benchmark.run(quiet=True)
    return found


def agree(model: nn.Module, snn: snnconv.SpikingNetwork, x: Tensor) -> None:
    theirs = harness(snn, x, snn(x).argmax(1))
    ours = snnconv.profile(model, snn, x)
    parameters = sum(layer.size.weights + layer.size.biases for layer in ours.layers if layer.size is not None)
    updates = sum(site.neurons * site.steps for site in ours.sites)
    assert theirs["ParameterCount"] == parameters
    assert theirs["SynapticOperations"]["Effective_ACs"] == pytest.approx(ours.sops, rel=1e-6)  # type: ignore[index]
    assert theirs["ActivationSparsity"] == pytest.approx(1 - ours.spikes / updates, abs=1e-9)
    assert theirs["ClassificationAccuracy"] == 1.0


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_the_harness_agrees_on_the_digits_network(method) -> None:
    pytest.importorskip("neurobench", reason="pip install neurobench")
    torch.manual_seed(0)
    model, x = DigitsCNN().eval(), torch.rand(16, 1, 8, 8)
    agree(model, snnconv.convert(model, method, x, progress=False), x)


@pytest.mark.parametrize("method", [methods.SignedIF(2), methods.ShiftedThreshold(2)], ids=lambda m: m.name)
def test_the_harness_agrees_on_the_resnet20(method) -> None:
    pytest.importorskip("neurobench", reason="pip install neurobench")
    from snnbench.networks.models import ResNet20

    torch.manual_seed(0)
    model, x = ResNet20().eval().double(), torch.rand(8, 3, 32, 32).double()  # no spike is a matter of rounding
    with torch.no_grad():
        for parameter in model.parameters():  # so that its layers do not fade out
            parameter.mul_(1.5)
    agree(model, snnconv.convert(model, method, x, progress=False), x)
