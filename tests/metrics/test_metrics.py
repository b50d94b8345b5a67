"""compare() and profile(): errors by layer, operations counted by hand."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.ops import role
from snnconv.metrics import compare, profile
from snnconv.metrics.profiling import AC_JOULES, MAC_JOULES
from snnconv.metrics.synapses import SpikeFlow, connections, fan_out
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

METHODS = [
    methods.IF(8),
    methods.SignedIF(8, delay=2),
    methods.SRP(4, 3),
    methods.ShiftedThreshold(4),
    methods.LocalThresholdBalancing(16),
]


def by_name(method: methods.Method) -> str:
    return method.name


class Residual(nn.Module):
    """Stride, groups, concatenation, residual add, pooling before and behind neurons, a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.merge = nn.Conv2d(8, 4, 3, padding=2, dilation=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.stem(x))
        b = self.grouped(a).relu()
        c = F.max_pool2d(torch.relu(self.merge(torch.cat([a, b], 1)) + a), 2)
        d = F.relu(self.grouped(c) + c)
        return self.head(d.mean((2, 3)))


class Untraceable(nn.Module):
    """Its forward depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 3, 3, padding=1), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.second(x.flatten(1)) if float(x.sum()) > -1 else x


def network(model: nn.Module, method: methods.Method, theta: float) -> SpikingNetwork:
    """Conversion by hand: one threshold for all."""
    program = GraphProgram(source_graph(model), method.coding, method.max_pool)
    return SpikingNetwork(program, method, {site: torch.tensor(theta) for site in program.sites})


def always_firing(model: nn.Module) -> SpikingNetwork:
    """T = 1, and every current is far above the threshold."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    return network(model, methods.IF(1), 1e-3)


# ---------------------------------------------------------------------- fan-out


def brute_force(function, x: Tensor, weight: Tensor, **kwargs) -> Tensor:
    """Outputs that change with each input, for a kernel without zeros."""
    base = function(torch.zeros_like(x), torch.ones_like(weight), **kwargs)
    reach = torch.zeros(x.shape, dtype=torch.float64)
    for at in itertools.product(*map(range, x.shape)):
        probe = torch.zeros_like(x)
        probe[at] = 1
        reach[at] = float((function(probe, torch.ones_like(weight), **kwargs) != base).sum())
    return reach


@pytest.mark.parametrize(
    ("function", "shape", "kernel", "options"),
    [
        (torch.conv1d, (1, 2, 7), (3, 2, 3), {"padding": 1, "stride": 2}),
        (torch.conv2d, (1, 4, 5, 6), (6, 2, 3, 2), {"padding": (1, 0), "groups": 2}),
        (torch.conv2d, (1, 2, 6, 6), (3, 2, 3, 3), {"padding": "same", "dilation": 2}),
        (torch.conv2d, (1, 2, 5, 5), (3, 2, 1, 1), {"stride": 2}),
        (torch.conv3d, (1, 1, 3, 4, 3), (2, 1, 2, 3, 2), {"padding": 1, "stride": 2}),
        (torch.conv_transpose2d, (1, 4, 3, 4), (4, 3, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
        (torch.conv_transpose1d, (1, 2, 4), (2, 3, 4), {"stride": 3, "padding": 2, "output_padding": 1}),
        (F.linear, (1, 5), (3, 5), {}),
    ],
)
def test_fan_out_is_the_number_of_outputs_that_an_input_reaches(function, shape, kernel, options):
    x, weight = torch.zeros(shape), torch.zeros(kernel)
    wanted = brute_force(function, x, weight, **options)
    got = fan_out(function, (x, weight), options)
    torch.testing.assert_close(got.expand(shape), wanted)
    assert connections(function, (x, weight), options) == float(wanted.sum())


# ---------------------------------------------------------------------- SOPs and MACs


def test_operations_of_a_small_network_by_hand():
    model = nn.Sequential(
        nn.Conv1d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
    costs = profile(model, always_firing(model), torch.ones(3, 1, 4))
    # a kernel of three on four positions has 2 + 3 + 3 + 2 = 10 connections into real inputs
    assert [c.ann_macs for c in costs.layers] == [10 * 2, 10 * 2 * 3, 12 * 5]
    assert [c.sops for c in costs.layers] == [0, 60, 60]
    assert [c.snn_macs for c in costs.layers] == [20, 0, 0]
    assert (costs.neurons, costs.spikes, costs.spikes_per_neuron) == (20, 20, 1)
    assert costs.rates == {"1": 1.0, "3": 1.0}
    assert costs.ann_energy == pytest.approx(140 * MAC_JOULES)
    assert costs.snn_energy == pytest.approx(120 * AC_JOULES + 20 * MAC_JOULES)
    assert costs.energy_ratio == pytest.approx((120 * 0.9 + 20 * 4.6) / (140 * 4.6))


def test_always_firing_network_of_one_step_has_as_many_sops_as_macs():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(2, 4, 3, stride=2, padding=1)
            self.b = nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2)
            self.up = nn.ConvTranspose2d(6, 3, 3, stride=2, padding=1)
            self.c = nn.Conv2d(7, 2, 5, padding=2)
            self.fc = nn.Linear(2 * 9 * 9, 3)

        def forward(self, x: Tensor) -> Tensor:
            a = F.relu(self.a(x))
            up = F.relu(self.up(F.relu(self.b(a))))
            both = torch.cat([F.pad(F.interpolate(a, scale_factor=2), (-1, 0, 0, -1)), up], 1)
            return self.fc(F.relu(self.c(both)).view(x.size(0), -1))

    model = Net()
    costs = profile(model, always_firing(model), torch.ones(2, 2, 9, 9))
    for layer in costs.layers[1:]:
        assert layer.sops == layer.ann_macs > 0
    assert costs.layers[0].snn_macs == costs.layers[0].ann_macs == costs.snn_macs


def test_spikes_of_both_residual_branches_count():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            a = F.relu(self.a(x))
            return self.c(F.relu(self.b(a)) + a)

    model = Net()
    costs = profile(model, always_firing(model), torch.ones(1, 3))
    assert [c.sops for c in costs.layers] == [0, 16, (4 + 4) * 5]


@pytest.mark.parametrize(
    ("pool", "entered"),
    [
        (nn.AvgPool2d(2), 16),
        (nn.AvgPool2d(3, stride=1, padding=1), 100),  # (2 + 3 + 3 + 2)² entries into 3 × 3 windows
        (nn.AvgPool2d(3, stride=2, ceil_mode=True), 25),  # per axis windows 0-2 and 2-3
        (nn.AdaptiveAvgPool2d(1), 16),
        (nn.AdaptiveAvgPool2d(3), 36),  # per axis windows 0-1, 1-2, 2-3
        (nn.Upsample(scale_factor=2), 64),
        (
            nn.Upsample(scale_factor=2, mode="bilinear"),
            196,
        ),  # per axis 8 cells with two weights, 1 at both ends
    ],
)
def test_every_spike_enters_each_cell_that_it_contributes_to(pool, entered):
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), pool, nn.Conv2d(1, 7, 1))
    costs = profile(model, always_firing(model), torch.ones(1, 1, 4, 4))
    assert costs.layers[1].sops == 7 * entered


def test_max_pooling_behind_neurons_sends_its_own_spikes():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv1d(1, 1, 1), nn.Conv1d(1, 2, 1), nn.Conv1d(1, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            a = F.relu(self.a(x))
            return self.b(F.max_pool1d(a, 2)) + self.c(a[..., :2])

    model = Net()
    nn.init.ones_(model.a.weight)
    nn.init.zeros_(model.a.bias)
    for method in (methods.IF(4), methods.ShiftedThreshold(2)):
        snn = network(model, method, 1.0)
        # rates 1 and 1/4 (2 of 3 levels in the sum coding) in the first window, none in the second
        weak = 0.25 if method.coding == "rate" else 2 / 3
        x = torch.tensor([[[1.0, weak, 0.0, 0.0]]])
        assert snn.run(x, "steps").shape[0] == method.timesteps
        costs = profile(model, snn, x)
        strong = 4 if method.coding == "rate" else 2
        assert [c.sops for c in costs.layers] == [0, strong * 2, (strong + 1) * 2]


def test_input_beside_spikes_is_multiplied_once():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(7, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.cat([x, F.relu(self.a(x))], 1))

    model = Net()
    always_firing(model)
    costs = profile(model, network(model, methods.IF(6), 1e-3), torch.ones(2, 3))
    assert [(c.sops, c.snn_macs) for c in costs.layers] == [(0, 12), (6 * 4 * 5, 3 * 5)]


def test_layers_on_currents_multiply_at_each_step():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1))
    costs = profile(model, network(model, methods.SRP(4, 3), 1.0), torch.rand(2, 3))
    assert [c.reads for c in costs.layers] == ["input", "spikes", "currents", "spikes"]
    assert [c.snn_macs for c in costs.layers] == [12, 0, 10 * 7, 0]


def test_negative_spikes_count_as_one():
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 3))
    snn = network(model, methods.SignedIF(4), 1.0)
    snn.neurons["1"].register_forward_hook(
        lambda m, a, out: torch.tensor([1.0, -1.0, 0.0, -0.0]).reshape(4, 1, 1).expand(out.shape)
    )
    costs = profile(model, snn, torch.ones(5, 1))
    assert (costs.spikes, costs.sops, costs.rates["1"]) == (2, 6, 0.5)


def test_latency():
    model, x = Residual(), torch.rand(2, 3, 8, 8)
    assert profile(model, network(model, methods.IF(6), 0.5), x).latency == 6
    srp = profile(model, network(model, methods.SRP(4, 3), 0.5), x)
    assert (srp.latency, srp.network_latency) == (7, 7)
    shifted = profile(model, network(model, methods.ShiftedThreshold(3), 0.5), x)
    assert (shifted.latency, shifted.network_latency) == (3, 12)  # four sites in a row
    assert shifted.pipelined_latency == shifted.to_dict()["pipelined_latency"] == 12  # the earlier name
    assert "3 steps a layer, 12 of the network; pipelined 12, then every 3" in str(shifted)
    assert srp.pipeline == (10, 7)  # each of four sites a step behind the one before


def test_both_phases_of_srp_count():
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    nn.init.ones_(model[0].weight)
    nn.init.ones_(model[0].bias)
    costs = profile(model, network(model, methods.SRP(4, 3), 0.5), torch.ones(1, 1))
    assert costs.spikes == 7


def test_spike_counts_add_over_batches():
    model, x = Residual(), torch.rand(7, 3, 8, 8)
    snn = network(model, methods.IF(5), 0.2)
    whole = profile(model, snn, x)
    parts = profile(model, snn, [x[:3], x[3:]])
    assert parts.sops == pytest.approx(whole.sops)
    assert parts.samples == 7
    assert profile(model, snn, x, limit=2).samples == 2


def test_weights_half_as_wide_give_the_same_counts():
    model, x = Residual(), torch.rand(2, 3, 8, 8)
    snn = network(model, methods.IF(5), 0.25)
    half = copy.deepcopy(snn).to(torch.bfloat16)
    costs = profile(model, half, x.bfloat16())
    assert costs.ann_macs == profile(model, snn, x).ann_macs
    assert costs.sops > 0


def test_what_cannot_be_counted_is_said():
    model, x = Untraceable(), torch.rand(4, 2, 4)
    snn = snnconv.convert(model, methods.IF(4), calibration=x, progress=False)
    costs = profile(model, snn, x)
    assert costs.sops is costs.snn_energy is costs.energy_ratio is None
    assert costs.ann_macs == 10 * 6 + 24
    assert costs.spikes > 0
    assert "not counted" in str(costs)
    assert "does not trace" in str(costs)


def test_inputs_of_several_sizes_are_refused():
    model = nn.Sequential(nn.Conv1d(1, 1, 3), nn.ReLU(), nn.Conv1d(1, 1, 3))
    with pytest.raises(ConversionError, match="one input shape"):
        profile(model, network(model, methods.IF(2), 1.0), [torch.rand(1, 1, 8), torch.rand(1, 1, 9)])


def test_role_of_products_is_not_a_sum():
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    assert role(graph.call_function(torch.multiply, (x, 2.0)), "linear") == "scale"
    assert role(graph.call_function(torch.matmul, (x, x)), "linear") == "other"
    assert role(graph.call_function(F.interpolate, (x,), {"mode": "bilinear"}), "linear") == "sum"
    assert role(graph.call_function(F.interpolate, (x,), {"mode": "nearest"}), "linear") == "move"


def test_spikes_that_end_in_an_unknown_operator_are_named():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.w = nn.Linear(3, 4), nn.Parameter(torch.rand(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return torch.matmul(F.relu(self.a(x)), self.w)

    flow = SpikeFlow(source_graph(Net()), {}, {})
    flow.send(torch.zeros(1, 3))
    assert flow.lost


# ---------------------------------------------------------------------- compare


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_errors_are_those_of_the_readout(method):
    model, x = Residual(), torch.rand(8, 3, 8, 8)
    snn = snnconv.convert(model, method, calibration=x, progress=False)
    result = compare(model, snn, [x[:3], x[3:]])
    assert [row.name for row in result.rows] == list(snn.program.sites)
    rates, activations = snn.rates(x), {}
    program = GraphProgram(source_graph(model))

    def keep(site: str, z: Tensor) -> Tensor:
        activations[site] = z.relu()
        return z.relu()

    program.static(x, keep)
    for row in result.rows:
        wanted = activations[row.name]
        error = float((rates[row.name] - wanted).norm() / wanted.norm())
        assert row.error == pytest.approx(error, rel=1e-4)
    with torch.no_grad():
        y = model(x)
        assert result.output_error == pytest.approx(float((snn(x) - y).norm() / y.norm()), rel=1e-3)
        assert result.agreement == pytest.approx(float((snn(x).argmax(1) == y.argmax(1)).float().mean()))


def test_the_layer_that_was_broken_is_named():
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(8, 8), nn.ReLU())], nn.Linear(8, 3))
    for layer in model[::2]:
        nn.init.uniform_(layer.weight, 0, 0.3)
    x = torch.rand(64, 8)
    snn = snnconv.convert(model, methods.SignedIF(32), calibration=x, progress=False)
    snn.neurons["5"].v_threshold *= 5
    snn.neurons["5"].register_forward_hook(lambda m, a, out: out / 25)
    result = compare(model, snn, x)
    assert result.departs.name == "5"
    assert result.departs.increase > 0.5
    assert f"The worst layer is {result.worst.name}" in str(result)
    assert "largest increase over the layers before is at 5" in str(result)


def test_another_network_is_refused_by_its_first_missing_site():
    snn = network(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), methods.IF(2), 1.0)
    with pytest.raises(ConversionError, match=r"^1: the model has no activation"):
        compare(nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.ReLU()), snn, torch.rand(2, 2))
    with pytest.raises(ConversionError, match=r"^3: the converted network has no activation"):
        compare(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU()), snn, torch.rand(2, 2))


def test_compare_networks_that_do_not_trace():
    model, x = Untraceable(), torch.rand(6, 2, 4)
    for method in (methods.IF(16), methods.ShiftedThreshold(6)):
        snn = snnconv.convert(model, method, calibration=x, progress=False)
        result = compare(model, snn, x)
        assert len(result.rows) == 1
        assert result.worst.error < 0.3


def test_progress_and_state():
    model, x = Residual().train(), torch.rand(6, 3, 8, 8)
    before = copy.deepcopy(model.state_dict())
    snn = network(model, methods.IF(3), 0.5)
    seen: list[tuple[str, int, int]] = []
    compare(model, snn, [(x[:4], None), (x[4:], None)], progress=lambda *a: seen.append(a))
    profile(model, snn, {"image": x}.values(), progress=lambda *a: seen.append(a))
    assert seen[-1] == ("counting spikes", 6, 6)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not snn.program.executor.observers


def test_a_padding_with_a_value_on_currents_is_counted() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(F.pad(self.b(F.relu(self.a(x))), (1, 1, 1, 1), value=0.5))

    torch.manual_seed(0)
    model, x = Padded().eval(), torch.randn(8, 3, 6, 6)
    snn = snnconv.convert(model, methods.SignedIF(timesteps=4), x, progress=False)
    costs = snnconv.profile(model, snn, x)
    assert {c.name: c.ann_macs for c in costs.layers} == {"a": 12 * 36, "b": 16 * 36, "c": 72 * 36}
