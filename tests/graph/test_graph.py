"""The source graph: what tracing, folding and site finding make of a network, and that it still is one."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.activations import QuantReLU
from snnconv.graph.capture.fx import TraceFailure, source_graph
from snnconv.graph.fold import shift_bias
from snnconv.graph.ops import op_name, qualified_name, resolve
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.runtime.executor import Executor
from snnconv.runtime.readout import window_mean
from snnconv.runtime.run import RunState


class Lambda(nn.Module):
    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def run_static(source: SourceGraph, x: Tensor) -> Tensor:
    return Executor(source, lambda site, z: source.sites[site].activation(z))(x)


def each_step(source: SourceGraph) -> Callable[[str, Tensor], Tensor]:
    return lambda site, x_seq: torch.stack([source.sites[site].activation(x) for x in x_seq])


def same_network(model: nn.Module, x: Tensor, tolerance: float = 1e-4) -> SourceGraph:
    """Trace ``model``; its graph gives what it gives, without time and over three folded steps."""
    source = source_graph(model)
    before = copy.deepcopy(model.state_dict())
    expected = model.eval()(x)
    torch.testing.assert_close(run_static(source, x), expected, rtol=tolerance, atol=tolerance)
    over_time = Executor(source, each_step(source)).steps(x, 3, RunState())
    for t in (1, 2, 3):  # constant currents: every step is the network itself
        torch.testing.assert_close(window_mean(over_time, t, t), expected, rtol=tolerance, atol=tolerance)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items()), "tracing changed the model"
    return source


def randomised(model: nn.Module) -> nn.Module:
    """BatchNorm statistics that are not the identity."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model


def operators(source: SourceGraph) -> list[str]:
    return [op_name(n) for n in source.graph.nodes if n.op in ("call_function", "call_method", "call_module")]


# --- every spelling of ReLU --------------------------------------------------------------------------------

SPELLINGS: dict[str, tuple[Callable[[Tensor], Tensor], float | None]] = {
    "F.relu": (F.relu, None),
    "F.relu inplace": (lambda x: F.relu(x, inplace=True), None),
    "F.relu inplace by position": (lambda x: F.relu(x, True), None),
    "F.relu_": (lambda x: F.relu_(x), None),
    "torch.relu": (torch.relu, None),
    "torch.relu_": (lambda x: torch.relu_(x), None),
    "x.relu()": (lambda x: x.relu(), None),
    "x.relu_()": (lambda x: x.relu_(), None),
    "x.clamp(min=0)": (lambda x: x.clamp(min=0), None),
    "x.clamp(0)": (lambda x: x.clamp(0), None),
    "x.clamp_(min=0)": (lambda x: x.clamp_(min=0), None),
    "x.clamp_min(0)": (lambda x: x.clamp_min(0), None),
    "x.clip(min=0)": (lambda x: x.clip(min=0), None),
    "torch.clamp(min=0)": (lambda x: torch.clamp(x, min=0), None),
    "torch.clamp_min(0)": (lambda x: torch.clamp_min(x, 0), None),
    "torch.clamp(0, 6)": (lambda x: torch.clamp(x, 0, 6), 6.0),
    "x.clamp(0, 0.3)": (lambda x: x.clamp(0, 0.3), 0.3),
    "F.relu6": (F.relu6, 6.0),
    "F.hardtanh(0, 6)": (lambda x: F.hardtanh(x, 0.0, 6.0), 6.0),
    "F.threshold(0, 0)": (lambda x: F.threshold(x, 0.0, 0.0), None),
    "nn.ReLU": (nn.ReLU(), None),
    "nn.ReLU inplace": (nn.ReLU(inplace=True), None),
    "nn.ReLU6": (nn.ReLU6(inplace=True), 6.0),
    "nn.Hardtanh(0, 6)": (nn.Hardtanh(0, 6), 6.0),
    "nn.Threshold(0, 0)": (nn.Threshold(0, 0), None),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_relu_is_a_site(spelling: str) -> None:
    function, cap = SPELLINGS[spelling]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
            self.act = function if isinstance(function, nn.Module) else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            z = self.a(x)
            return self.b(self.act(z) if isinstance(function, nn.Module) else function(z))

    source = same_network(Net(), torch.randn(5, 4) * 4)
    assert len(source.sites) == 1
    assert next(iter(source.sites.values())).cap == cap


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(min=0.1),
        lambda x: x.clamp(max=1),
        lambda x: x.clamp(-1, 1),
        lambda x: F.hardtanh(x),
        lambda x: F.threshold(x, 0.5, 0.0),
        F.silu,
        F.gelu,
        F.leaky_relu,
    ],
)
def test_what_is_no_relu_is_no_site(function: Callable[[Tensor], Tensor]) -> None:
    net = Lambda(lambda m, x: m.b(function(m.a(x))), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert not same_network(net, torch.randn(5, 4)).sites


def test_a_shared_activation_is_a_site_at_each_call() -> None:
    shared = nn.ReLU(inplace=True)
    net = nn.Sequential(nn.Linear(4, 5), shared, nn.Linear(5, 5), shared, nn.Linear(5, 5), shared)
    assert list(same_network(net, torch.randn(3, 4)).sites) == ["1", "1:2", "1:3"]


def test_a_shared_block_is_a_site_at_each_call_and_keeps_its_weights() -> None:
    net = Lambda(lambda m, x: m.block(m.block(x)), block=nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()))
    source = same_network(randomised(net), torch.randn(3, 4))
    assert list(source.sites) == ["block.2", "block.2:2"]


def test_functional_sites_carry_the_path_of_their_module() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.fc(F.relu(x)))

    assert list(source_graph(nn.Sequential(Block(), Block())).sites) == [
        "0.relu",
        "0.relu:2",
        "1.relu",
        "1.relu:2",
    ]


def test_channels_of_a_linear_layer_are_last() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Flatten(1), nn.Linear(15, 2))
    source = same_network(net, torch.randn(2, 3, 4))
    assert source.sites["1"].axis == -1


def test_a_trained_activation_keeps_its_clip() -> None:
    source = same_network(
        nn.Sequential(nn.Linear(4, 5), QuantReLU(levels=3, clip=0.7), nn.Linear(5, 2)), torch.randn(3, 4)
    )
    site = source.sites["1"]
    assert (site.kind, site.levels, float(site.threshold)) == ("quant", 3, pytest.approx(0.7))


# --- in place ----------------------------------------------------------------------------------------------


def test_in_place_relu_changes_what_later_readers_see() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        z = m.a(x)
        y = F.relu(z, inplace=True)
        return m.b(y + z)  # z is relu(z) by now

    net = Lambda(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    same_network(net, torch.randn(5, 4))


def test_in_place_relu_leaves_earlier_readers_alone() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        z = m.a(x)
        early = z * 1.0
        return m.b(z.relu_() - early)

    net = Lambda(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    same_network(net, torch.randn(5, 4))


def test_in_place_residual_add() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        out = m.a(x)
        out += x
        return m.b(F.relu(out))

    net = Lambda(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    same_network(net, torch.randn(5, 4))


# --- folding -----------------------------------------------------------------------------------------------

CONVS = {
    "linear": (lambda: nn.Linear(4, 6), nn.BatchNorm1d, (5, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d, (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, dilation=2, bias=False), nn.BatchNorm2d, (2, 4, 9, 9)),
    "conv2d circular": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.BatchNorm2d,
        (2, 4, 5, 5),
    ),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2, stride=2), nn.BatchNorm3d, (2, 4, 4, 4, 4)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d, (2, 6, 5, 5)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), nn.BatchNorm1d, (2, 4, 5)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d, (2, 4, 5, 5)),
    "conv_transpose2d groups": (
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
        nn.BatchNorm2d,
        (2, 4, 5, 5),
    ),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(4, 6, 2, groups=2), nn.BatchNorm3d, (2, 4, 3, 3, 3)),
}


@pytest.mark.parametrize("name", CONVS)
def test_batch_norm_folds_into_the_layer_before_it(name: str) -> None:
    layer, norm, shape = CONVS[name]
    net = randomised(nn.Sequential(layer(), norm(6), nn.ReLU()))
    source = same_network(net, torch.randn(shape))
    assert "batch_norm" not in operators(source)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_without_weights_folds(affine: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU())
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    assert "batch_norm" not in operators(same_network(net, torch.randn(2, 3, 5, 5)))


def test_batch_norm_before_a_convolution_stays() -> None:
    net = randomised(
        nn.Sequential(
            nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
        )
    )
    source = same_network(net, torch.randn(2, 3, 5, 5))
    assert operators(source).count("batch_norm") == 2


def test_batch_norm_stays_where_its_layer_has_another_reader() -> None:
    net = randomised(
        Lambda(lambda m, x: F.relu(m.bn(z := m.conv(x))) + z, conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4))
    )
    same_network(net, torch.randn(2, 3, 5, 5))


def test_a_convolution_with_two_batch_norms_is_two_layers() -> None:
    net = randomised(
        Lambda(
            lambda m, x: F.relu(m.one(m.conv(x))) + F.relu(m.two(m.conv(x * 2))),
            conv=nn.Conv2d(3, 4, 3),
            one=nn.BatchNorm2d(4),
            two=nn.BatchNorm2d(4),
        )
    )
    source = same_network(net, torch.randn(2, 3, 5, 5))
    assert "batch_norm" not in operators(source)


def test_batch_norm_without_statistics_is_refused_by_name() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU())
    with pytest.raises(ConversionError, match="1: a BatchNorm without running statistics"):
        source_graph(net)


@pytest.mark.parametrize("bias", [True, False])
def test_a_current_goes_into_the_bias(bias: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), nn.ReLU(), nn.MaxPool2d(2))
    x, current = torch.randn(2, 3, 6, 6), torch.randn(4)
    source = source_graph(net)
    shift_bias(source, source.site_nodes()[0], current[None, :, None, None])
    expected = F.max_pool2d(F.relu(net[0](x) + current[:, None, None]), 2)
    torch.testing.assert_close(run_static(source, x), expected)
    assert "add" not in operators(source)


def test_a_current_without_a_bias_to_go_into_is_added() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.ReLU())
    x, current = torch.randn(2, 3, 6, 6), torch.randn(4)
    source = source_graph(net)
    shift_bias(source, source.site_nodes()[0], current[None, :, None, None])
    torch.testing.assert_close(run_static(source, x), F.relu(net[1](net[0](x)) + current[:, None, None]))


# --- max-pooling -------------------------------------------------------------------------------------------


def test_max_pool_moves_before_the_neuron() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    source = same_network(net, torch.randn(2, 3, 6, 6))
    names = operators(source)
    assert names.index("max_pool2d") < names.index("activation_site")


def test_max_pool_stays_where_its_neuron_has_another_reader() -> None:
    net = Lambda(
        lambda m, x: m.b(F.max_pool2d(y := F.relu(m.a(x)), 3, 1, 1)) + y,
        a=nn.Conv2d(3, 4, 3),
        b=nn.Conv2d(4, 4, 1),
    )
    names = operators(same_network(net, torch.randn(2, 3, 6, 6)))
    assert names.index("max_pool2d") > names.index("activation_site")


def test_two_max_pools_in_a_row_both_move() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    names = operators(same_network(net, torch.randn(2, 3, 10, 10)))
    assert names.index("activation_site") > max(i for i, n in enumerate(names) if n == "max_pool2d")


def test_a_padded_max_pool_moves_without_changing_the_border() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 2, 1))
    same_network(net, torch.randn(2, 3, 9, 9))


# --- refusals ----------------------------------------------------------------------------------------------


def test_a_broken_weight_is_named() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        net[2].weight[0, 1] = torch.nan
    with pytest.raises(ConversionError, match=r"2\.weight.*NaN"):
        source_graph(net)


def test_control_flow_on_values_does_not_trace() -> None:
    net = Lambda(lambda m, x: m.a(x) if x.sum() > 0 else x, a=nn.Linear(4, 4))
    with pytest.raises(TraceFailure):
        source_graph(net)


def test_training_mode_is_restored_and_nothing_is_hooked() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.ReLU())
    net.train()
    net[0].eval()
    source_graph(net)
    assert [m.training for m in net] == [False, True, True]
    assert not any(m._forward_hooks for m in net.modules())


def test_a_copy_is_independent() -> None:
    source = source_graph(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
    twin = source.copy()
    x = torch.randn(4, 2)
    before = run_static(source, x)
    for tensor in twin.tensors.values():
        tensor.zero_()
    assert torch.equal(run_static(source, x), before)
    assert not run_static(twin, x).any()


# --- operator names ----------------------------------------------------------------------------------------


def test_every_operator_has_one_name() -> None:
    from snnconv.graph import ops

    for function, name in ops._QUALIFIED.items():
        assert resolve(name) is function
        assert qualified_name(function) == name
    assert qualified_name(activation_site) is None
    assert qualified_name(torch.load) is None


def test_other_threads_run_as_usual_while_one_traces() -> None:
    other, seen = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.randn(4, 3)
    found: list[torch.Tensor] = []

    class Busy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            thread = threading.Thread(target=lambda: found.append(other(seen)))
            thread.start()
            thread.join()
            return torch.relu(self.fc(x))

    source_graph(Busy())
    assert torch.equal(found[0], other(seen))
