"""Networks without ReLU: what becomes neurons, and that the result is the quantised network, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.graph.source import broadcast
from snnconv.metrics.comparing import cover_of
from snnconv.runtime.program import GraphProgram
from tests import networks as nets


def quantised_network(snn: snnconv.SpikingNetwork, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output and sites of the network whose activations and encoded tensors are rounded to a whole number of steps."""
    assert isinstance(snn.program, GraphProgram)
    said: dict[str, Tensor] = {}

    def rounded(name: str, z: Tensor) -> Tensor:
        site = snn.program.sites[name]
        y = site.activation(z.double())
        q = broadcast(snn.thresholds[name].double(), y.dim(), site.axis) / snn.method.levels
        low = -snn.method.levels if site.function.signed else 0
        said[name] = (torch.floor(y / q + 0.5).clamp(low, snn.method.levels) * q).to(z)
        return said[name]

    with torch.no_grad():
        return snn.program.static(x, rounded), said


def exact(model: nn.Module, x: Tensor, timesteps: int, dtype: torch.dtype = torch.float64) -> snnconv.SpikingNetwork:
    """Convert with everything covered; every site and the output are those of the quantised network."""
    model, x = model.eval().to(dtype), x.to(dtype)
    method = methods.ShiftedThreshold(timesteps, correction="none")
    snn = snnconv.convert(model, method, x, cover="synapses", strict=True, progress=False)
    wanted, sites = quantised_network(snn, x)
    got = snn.rates(x)
    assert list(got) == list(sites)
    if dtype == torch.float64:
        for name, value in sites.items():
            torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
        torch.testing.assert_close(snn(x), wanted, rtol=1e-9, atol=1e-9)
    else:  # rounding decides at the border of two levels, and what is behind follows
        off = (snn(x) - wanted).norm() / wanted.norm()
        assert float(off) < 0.02
    return snn


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "vision transformer": lambda: (nets.TinyViT(), torch.randn(8, 3, 12, 12)),
    "convolutional transformer": lambda: (nets.TinyCCT(), torch.randn(8, 3, 12, 12)),
    "squeeze and excitation": lambda: (nets.SqueezeExcite(), torch.randn(8, 3, 12, 12)),
    "gated unit": lambda: (nets.GatedUnit(), torch.randn(8, 6)),
    "linear bottleneck": lambda: (nets.LinearBottleneck(), torch.randn(8, 3, 12, 12)),
}


@pytest.mark.parametrize("timesteps", [4, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_covered_network_is_the_quantised_network_at_every_layer(name: str, timesteps: int) -> None:
    torch.manual_seed(0)
    exact(*NETWORKS[name](), timesteps)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_single_precision_it_is_so_to_rounding(name: str) -> None:
    torch.manual_seed(0)
    exact(*NETWORKS[name](), 6, torch.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_ladders_and_functions_make_one_network(name: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    outputs = []
    for realisation in ("ladder", "function"):
        method = methods.ShiftedThreshold(5, correction="none", realisation=realisation)
        snn = snnconv.convert(model.eval(), method, x, cover="synapses", progress=False)
        outputs.append(snn(x))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_one_by_one_come_to_the_sums(name: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    method = methods.ShiftedThreshold(4, correction="none")
    snn = snnconv.convert(model.eval().double(), method, x.double(), cover="synapses", progress=False)
    *_, (_, last) = snn.stream(x.double())
    torch.testing.assert_close(last, snn(x.double()))


@pytest.mark.parametrize("name", NETWORKS)
def test_rate_coding_comes_near_with_more_steps(name: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    model.eval()
    wanted = model(x).detach()
    off = []
    for timesteps in (16, 256):
        snn = snnconv.convert(
            model, methods.SignedIF(timesteps, correction="none"), x, cover="synapses", strict=True, progress=False
        )
        off.append(float((snn(x) - wanted).norm() / wanted.norm()))
    assert off[1] < 0.5 * off[0]
    assert off[1] < 0.15


def test_a_network_without_any_relu_converts() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    x = torch.randn(64, 4)
    snn = snnconv.convert(model, methods.ShiftedThreshold(8), x, strict=True, progress=False)
    assert [s.name for s in snn.report.spiking] == ["1", "3"]
    assert not snn.report.analog
    torch.testing.assert_close(snn(x), model(x), atol=0.02, rtol=0.1)


def test_neurons_that_have_no_functions_leave_them_analog() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3))
    snn = snnconv.convert(model, methods.IF(8), torch.randn(64, 4), progress=False)
    assert list(snn.neurons) == ["1"]
    assert [a.name for a in snn.report.analog] == ["3"]


def test_pure_relu_networks_are_what_they_were() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 5))
    x = torch.rand(8, 3, 12, 12)
    for method in (methods.ShiftedThreshold(4), methods.SignedIF(8), methods.IF(8)):
        plain, whole = (
            snnconv.convert(model, method, x, cover=cover, progress=False) for cover in ("activations", "synapses")
        )
        assert torch.equal(plain(x), whole(x))


def test_nothing_behind_the_first_layer_of_a_linear_bottleneck_reads_a_current() -> None:
    model, x = NETWORKS["linear bottleneck"]()
    plain, whole = (
        snnconv.convert(model.eval(), methods.ShiftedThreshold(5), x, cover=cover, progress=False)
        for cover in ("activations", "synapses")
    )
    assert "currents" in plain.report.reads.values()
    first, *others = whole.report.reads.values()
    assert first == "input"
    assert set(others) <= {"spikes", "sum of spikes"}


def test_bias_correction_leaves_encoders_alone() -> None:
    model, x = NETWORKS["vision transformer"]()
    snn = snnconv.convert(model.eval(), methods.ShiftedThreshold(4), x, cover="synapses", progress=False)
    plain = snnconv.convert(model, methods.ShiftedThreshold(4, correction="none"), x, cover="synapses", progress=False)
    shifted = [
        n for n in snn.program.source.graph.nodes if n.name not in {m.name for m in plain.program.source.graph.nodes}
    ]
    assert not shifted  # a current that no layer takes in would be an addition of its own
    wanted = model(x).detach()
    assert float((snn(x) - wanted).norm()) <= 1.2 * float((plain(x) - wanted).norm())


def test_an_encoder_has_a_threshold_of_its_own_beside_trained_ones() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b, self.c = (
                nn.Linear(4, 8),
                snnconv.activations.QuantReLU(15),
                nn.Linear(8, 4),
                nn.Linear(4, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.act(self.a(x))))

    model, x = Net(), torch.randn(32, 4)
    method = methods.ShiftedThreshold(4, thresholds="trained", correction="none")
    snn = snnconv.convert(model, method, x, cover="synapses", progress=False)
    assert torch.equal(snn.thresholds["act"], model.act.alpha.detach().reshape(snn.thresholds["act"].shape))
    assert float(snn.thresholds["b.linear_encoder"].min()) > 0
    with pytest.raises(ConversionError, match=r"b\.linear_encoder: an encoder has no trained threshold"):
        snnconv.convert(model, method, example=x, cover="synapses", progress=False)


REFUSED: dict[str, tuple[Callable[[], nn.Module], methods.Method, str]] = {
    "signs": (lambda: NETWORKS["linear bottleneck"]()[0], methods.IF(8), r"reads values of both signs.*signed='pair'"),
    "a forward that is not captured": (lambda: nets.Branching(), methods.SignedIF(8), "needs the network's graph"),
    "an unknown cover": (lambda: nets.LinearBottleneck(), methods.SignedIF(8), "cover must be one of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_covered_is_refused_by_name(name: str) -> None:
    make, method, words = REFUSED[name]
    with pytest.raises(ConversionError, match=words):
        snnconv.convert(
            make().eval(), method, torch.randn(4, 3, 12, 12), progress=False,
            cover="every" if name == "an unknown cover" else "synapses",
        )  # fmt: skip


def test_strict_names_the_module_whose_weights_read_analog_values() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.a(x))
            return self.b(self.attention(h, h, h)[0])

    with pytest.raises(ConversionError, match=r"attention \(MultiheadAttention\) is kept whole"):
        snnconv.convert(Net(), methods.SignedIF(8), torch.randn(8, 5, 4), cover="synapses", strict=True, progress=False)


def test_a_pair_of_populations_says_both_signs() -> None:
    torch.manual_seed(0)
    model, x = NETWORKS["linear bottleneck"]()
    model.eval()
    snn = snnconv.convert(
        model, methods.IF(256, correction="none"), x, cover="synapses", signed="pair", strict=True, progress=False
    )
    assert any(name.endswith(".below") for name in snn.neurons)
    wanted = model(x).detach()
    assert float((snn(x) - wanted).norm() / wanted.norm()) < 0.2


def test_the_input_is_encoded_where_asked() -> None:
    model, x = NETWORKS["squeeze and excitation"]()
    snn = snnconv.convert(
        model.eval(), methods.ShiftedThreshold(8), x, cover="synapses", encode_input=True, strict=True, progress=False
    )
    assert set(snn.report.reads.values()) <= {"spikes", "sum of spikes"}
    assert next(iter(snn.neurons)) == "x_encoder"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_covered_network_is_saved_and_read_again(name: str, tmp_path: object) -> None:
    model, x = NETWORKS[name]()
    for method in (methods.ShiftedThreshold(4), methods.SignedIF(8)):
        snn = snnconv.convert(model.eval(), method, x, cover="synapses", progress=False)
        snnconv.save(snn, f"{tmp_path}/net.safetensors")
        again = snnconv.load(f"{tmp_path}/net.safetensors")
        assert torch.equal(again(x), snn(x))
        assert again.report.cover == "synapses"
        assert cover_of(again).synapses
        assert snnconv.compare(model, again, x).samples == len(x)


def test_a_network_whose_products_add_along_channels_is_saved_and_read_again(tmp_path: object) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(4, 6), nn.PReLU(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.a(x).transpose(1, 2)).transpose(1, 2)
            return self.b(torch.relu(h) @ (h.transpose(1, 2) @ h))

    model, x = Net().eval(), torch.randn(8, 5, 4)
    with torch.no_grad():
        model.act.weight.copy_(torch.rand(6) - 0.3)
    for method in (methods.ShiftedThreshold(6), methods.SignedIF(8)):
        snn = snnconv.convert(model, method, x, cover="synapses", progress=False)
        assert {site.axis for site in snn.program.sites.values()} >= {0}
        snnconv.save(snn, f"{tmp_path}/net.safetensors")
        assert torch.equal(snnconv.load(f"{tmp_path}/net.safetensors")(x), snn(x))


def test_the_report_begins_with_what_reads_spikes_and_what_does_not() -> None:
    model, x = NETWORKS["vision transformer"]()
    snn = snnconv.convert(model.eval(), methods.ShiftedThreshold(4), x, cover="synapses", progress=False)
    lines = str(snn.report).splitlines()
    assert lines[2] == "13 layers with weights read spikes, 1 the input; 4 of 4 products are of two spike trains"
    assert lines[3] == "stays analog, evaluated as a function: 5 layer_norm, 2 softmax"
    assert snnconv.report.ConversionReport.from_dict(snn.report.to_dict()).products == snn.report.products


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
def test_both_frameworks_make_one_network(framework: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS["vision transformer"]()
    snn = snnconv.convert(
        model.eval(), methods.ShiftedThreshold(6, correction="none"), x, cover="synapses", framework=framework,
        progress=False,
    )  # fmt: skip
    wanted, _ = quantised_network(snn, x)
    assert float((snn(x) - wanted).norm() / wanted.norm()) < 0.02
