"""Layers with 8-bit weights: the network of the rounded weights, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import dynamics, methods
from snnconv.dynamics.kernels import processor
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.source import ConversionError
from snnconv.runtime import int8

runs = pytest.mark.skipif(bool(int8.supported()), reason=f"8-bit layers: {int8.supported()}")


class Net(nn.Module):
    """Strides, groups, dilation, a shortcut with a convolution and one without, a cut one, a linear layer on spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        self.one = nn.Conv2d(16, 16, 3, 1, 2, dilation=2, groups=4)
        self.two = nn.Conv2d(16, 16, 3, 1, 1, bias=False)
        self.down, self.skip = nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(16, 32, 1, 2)
        self.cut = nn.Conv2d(32, 64, 3, 2, 1)
        self.hidden, self.out = nn.Linear(64 * 16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.two(self.one(x).relu()) + x).relu()
        x = (self.skip(x) + self.down(x)).relu()
        x = (self.cut(x) + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 16, 16))).relu()
        return self.out(self.hidden(x.flatten(1)).relu())


METHODS = [
    methods.IF(6),
    methods.SignedIF(6, per_channel=False),
    methods.SignedIF(5),
    methods.SRP(5, pre_timesteps=3),
    methods.ShiftedThreshold(4),
    methods.ShiftedThreshold(8),
    methods.LocalThresholdBalancing(6),
]


def networks(method: methods.Method, images: int = 12) -> tuple[snnconv.SpikingNetwork, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(images, 3, 16, 16)
    return snnconv.convert(Net().eval(), method, calibration=x), x


def of_rounded_weights(snn: snnconv.SpikingNetwork) -> snnconv.SpikingNetwork:
    """The same network in float32 with the weights that the 8-bit ones stand for."""
    reference = copy.deepcopy(snn)
    reference.precision = "float32"
    nodes = {node.name: node for node in reference.program.source.graph.nodes}
    for node, layer in snn.program.executor.int8.layers.items():
        reference.program.source.tensors[str(nodes[node.name].args[1].target)] = layer.weight
    return reference


@runs
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_it_is_the_network_of_the_rounded_weights(method: methods.Method, threads: int) -> None:
    snn, x = networks(method)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plain = snn(x)
        snn.precision = "int8"
        reference = of_rounded_weights(snn)
        seen: dict[str, dict[str, Tensor]] = {"int8": {}, "float32": {}}
        for network in (snn, reference):
            network.run(x, observe=lambda site, out, found=seen[network.precision]: found.__setitem__(site, out))
        for site, out in seen["int8"].items():
            same = torch.isclose(out, seen["float32"][site], rtol=1e-5, atol=1e-6)
            assert same.float().mean() >= 0.999, site
        y = snn(x)
        assert (y - reference(x)).abs().max() <= 0.05 * plain.std()
        assert not torch.equal(y, plain)  # rounded they are
        assert (y - plain).abs().mean() < 0.5 * plain.std()
    finally:
        torch.set_num_threads(before)


def test_a_processor_without_vnni_says_so_and_runs_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    snn, x = networks(methods.IF(4))
    monkeypatch.setattr(processor, "has_vnni", lambda: False)
    assert "no VNNI instructions" in int8.supported()
    with pytest.raises(RuntimeError, match="precision 'int8' does not run here: this processor has no VNNI"):
        snn.precision = "int8"
    assert snn.precision == "float32"
    assert snn(x).isfinite().all()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_a_processor_with_vnni_runs_8_bit_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_vnni", lambda: True)
    assert int8.supported() == ""
    snn, _ = networks(methods.IF(4))
    snn.precision = "int8"
    assert snn.precision == "int8"


@runs
def test_what_stays_float_is_named() -> None:
    snn, _ = networks(methods.IF(4))
    assert snn.float_layers == {}
    snn.precision = "int8"
    assert snn.float_layers == {"stem": "it does not read spikes", "hidden": "it does not read spikes"}
    assert snn.program.executor.int8.names == ["one", "two", "skip", "down", "cut", "out"]


@runs
def test_sums_with_spikes_are_made_from_whole_numbers(monkeypatch) -> None:
    snn, x = networks(methods.IF(4))
    calls = []
    monkeypatch.setattr(int8, "add_spikes_", lambda *a, **k: calls.append(1) or dynamics.add_spikes_(*a, **k))
    snn.precision = "int8"
    snn.run(x)
    assert len(calls) == 1  # two's; the others add currents


@runs
@pytest.mark.parametrize("method", [m for m in METHODS if m.coding == "rate"], ids=str)
def test_streams_and_early_exit_run_in_8_bits_too(method: methods.Method) -> None:
    snn, x = networks(method)
    snn.precision = "int8"
    last = [y for _, y in snn.stream(x)][-1]
    close = torch.isclose(last, snn(x), atol=0.05 * float(last.std()))
    assert close.float().mean() > 0.95
    if not snn.delay:
        assert snn.early_exit(x, confidence=1.0).average_steps == method.latency


@runs
def test_saved_and_copied(tmp_path, monkeypatch) -> None:
    snn, x = networks(methods.SignedIF(4))
    snn.precision = "int8"
    y = snn(x)
    assert torch.equal(copy.deepcopy(snn)(x), y)
    snnconv.save(snn, tmp_path / "net.safetensors")
    loaded = snnconv.load(tmp_path / "net.safetensors")
    assert loaded.precision == "int8"
    assert torch.equal(loaded(x), y)
    monkeypatch.setattr("snnconv.runtime.precision.supported", lambda: "this processor is old")
    with pytest.warns(UserWarning, match="run in float32.*this processor is old"):
        old = snnconv.load(tmp_path / "net.safetensors")
    assert old.precision == "float32"
    with pytest.raises(RuntimeError, match="this processor is old"):
        old.precision = "int8"


@runs
def test_set_again_it_sees_new_weights_and_back_it_is_as_before() -> None:
    snn, x = networks(methods.IF(4))
    plain = snn(x)
    snn.precision = "int8"
    first = snn(x)
    snn.program.source.tensors["two.weight"].mul_(0.5)
    snn.precision = "int8"
    assert not torch.equal(snn(x), first)
    snn.program.source.tensors["two.weight"].mul_(2.0)
    snn.precision = "float32"
    assert torch.equal(snn(x), plain)


@runs
def test_profiles_and_rates_are_numbers() -> None:
    snn, x = networks(methods.SignedIF(8))
    rates = snn.rates(x)
    snn.precision = "int8"
    for site, rate in snn.rates(x).items():
        assert (rate - rates[site]).abs().mean() < 0.2 * rates[site].abs().mean() + 1e-3, site
    assert snnconv.profile(Net().eval(), snn, [x]).sops > 0


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnconv.runtime.precision.supported", lambda: "")
    snn, _ = networks(methods.ShiftedThreshold(9))
    with pytest.raises(ConversionError, match="T of 8 or less"):
        snn.precision = "int8"
    with pytest.raises(ValueError, match="unknown precision 'int4'"):
        snn.precision = "int4"
    assert snn.precision == "float32"
    elsewhere = networks(methods.IF(4))[0].to("meta")
    with pytest.raises(ConversionError, match="runs on the CPU"):
        elsewhere.precision = "int8"
    assert elsewhere.precision == "float32"


@runs
def test_a_network_that_has_moved_says_where_it_runs() -> None:
    snn, x = networks(methods.IF(4))
    snn.precision = "int8"
    with pytest.raises(ConversionError, match="runs on the CPU"):
        snn.to("meta").run(x.to("meta"))


@runs
def test_what_an_observer_keeps_is_not_written_over() -> None:
    snn, x = networks(methods.IF(4))
    snn.precision = "int8"
    kept: list[tuple[Tensor, Tensor]] = []
    executor = snn.program.executor

    def keep(node, value) -> None:
        if node.name.startswith("conv2d"):
            kept.append((value.data, value.data.clone()))

    executor.observers.append(keep)
    snn.run(x)
    assert len(kept) >= 6
    assert all(torch.equal(now, then) for now, then in kept)


@pytest.mark.parametrize("shape", [(7, 12), (5, 3, 4, 4)])
def test_rounding_has_the_least_error_of_its_scales(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape) ** 3
    codes, scale = int8.quantised(weight)
    assert codes.abs().max() <= 127
    assert torch.equal(codes, codes.round())
    worth = scale.reshape(-1, *[1] * (len(shape) - 1))
    largest = weight.flatten(1).abs().amax(1).reshape(worth.shape) / 127
    plain = (weight / largest).round() * largest
    error, before = ((w - weight).square().flatten(1).sum(1) for w in (codes * worth, plain))
    assert (error <= before * (1 + 1e-5)).all()
    assert torch.equal(int8.quantised(torch.zeros(2, 3))[0], torch.zeros(2, 3))


@pytest.mark.parametrize("backend", ["eager", "auto"])
@pytest.mark.parametrize("channels", [1, 16])
def test_kernels_write_whole_numbers(backend: str, channels: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(6 * 3, 16, 17, 9).contiguous(memory_format=torch.channels_last).unflatten(0, (6, 3))
    theta = torch.rand(channels) + 0.2 if channels > 1 else torch.tensor(0.7)
    for neuron in ("if", "signed_if"):
        spikes = dynamics.scan(neuron, x, theta, scaled=False, dtype=torch.int8, backend=backend)
        assert spikes.dtype == torch.int8
        assert torch.equal(spikes.float(), dynamics.scan(neuron, x, theta, scaled=False, backend="eager"))
        assert (spikes < 0).any() == (neuron == "signed_if")
    for bits in (1, 3, 4, 8):
        total = dynamics.shifted_threshold_total(x, theta, bits, scaled=False, dtype=torch.uint8, backend=backend)
        expected = dynamics.shifted_threshold_total(x, theta, bits, scaled=False, backend="eager")
        assert torch.equal(total.float(), expected)
        worth = theta if channels == 1 else theta.reshape(-1, 1, 1)
        assert torch.allclose(expected * worth, dynamics.shifted_threshold_total(x, theta, bits))
    spikes = dynamics.scan("signed_if", x, theta, scaled=False, dtype=torch.int8)[0]
    worth = theta if channels == 1 else theta.reshape(-1, 1, 1)
    expected = x[1] + spikes * worth
    assert torch.equal(dynamics.add_spikes_(x[1].clone(), spikes, theta.reshape(-1)), expected)
    assert torch.equal(dynamics.add_spikes_(x[1].contiguous(), spikes, theta.reshape(-1)), expected)
    with pytest.raises(ValueError, match="spikes have shape"):
        dynamics.add_spikes_(x[1], spikes[:1], theta)


class Odd(nn.Module):
    """Layers that 8 bits have no form for."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.same = nn.Conv1d(4, 4, 3, padding=1), nn.Conv2d(1, 2, 3, padding="same")
        self.weight = nn.Parameter(torch.randn(8, 4))
        self.plain = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.line(torch.relu(x)))
        z = torch.relu(F.linear(y.mean(2), weight=self.weight))
        return self.plain(z.sigmoid()).sum() + self.same(torch.relu(x[:, None])).mean()


def test_layers_that_stay_float_say_why() -> None:
    source = source_graph(Odd())
    layers = int8.Int8(source, dict.fromkeys(source.sites, torch.tensor(1.0)), dict.fromkeys(source.sites, 0))
    assert not layers.layers
    reasons = set(layers.left.values())
    assert "conv1d has no 8-bit form here" in reasons
    assert "padding='same'" in reasons
    assert "its weight is a named argument" in reasons
    wide = source_graph(nn.Sequential(nn.ReLU(), nn.Linear(4, 2)).double())
    assert int8.Int8(wide, {"0": torch.tensor(1.0)}, {"0": 0}).left == {"1": "its weight is not a float32 tensor"}
