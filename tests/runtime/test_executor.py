"""Execution over time: with neurons that make no error it is the network, at once and chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.flow import Flow
from snnconv.graph.origin import analog, reads
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.runtime.executor import Executor
from snnconv.runtime.run import RunState

TIMESTEPS = 4
TOLERANCE = {"rtol": 1e-3, "atol": 2e-4}


class Net(nn.Module):
    """A function of its modules."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(i: int, o: int, k: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2 * options.get("dilation", 1), **options)


def body(tail: Callable[[nn.Module, Tensor], Tensor], **modules: nn.Module) -> Net:
    """relu(conv(x)), ``tail``, relu, convolution: neurons before and behind what is tested."""
    modules.setdefault("last", nn.LazyConv2d(3, 1))
    net = Net(lambda m, x: m.last(F.relu(tail(m, F.relu(m.first(x))))), first=conv(3, 4), **modules)
    with torch.no_grad():
        net(torch.randn(2, 3, 8, 8))
    return net


def two_parts(m: nn.Module, x: Tensor) -> Tensor:
    a, b = torch.split(x, [1, 3], 1)
    return a - b


def se_block(m: nn.Module, x: Tensor) -> Tensor:
    squeezed = F.adaptive_avg_pool2d(x, 1)
    return x * torch.sigmoid(m.up(F.relu(m.down(squeezed))))


IMAGE = (2, 3, 8, 8)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (lambda: nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 2)), IMAGE),
    "residual add": (lambda: body(lambda m, x: m.a(x) + x, a=conv(4, 4)), IMAGE),
    "residual from the input": (
        lambda: Net(lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))) + x)), a=conv(3, 3), b=conv(3, 3), c=conv(3, 2)),
        IMAGE,
    ),
    "subtraction": (lambda: body(lambda m, x: m.a(x) - 0.5 * x, a=conv(4, 4)), IMAGE),
    "constant added": (lambda: body(lambda m, x: 0.3 + x - 0.1), IMAGE),
    "constant minus": (lambda: body(lambda m, x: 1.5 - x), IMAGE),
    "scaled": (lambda: body(lambda m, x: 0.3 * x / 2), IMAGE),
    "concat": (lambda: body(lambda m, x: torch.cat([m.a(x), x, F.relu(m.a(x))], 1), a=conv(4, 2)), IMAGE),
    "concat with the input": (
        lambda: Net(lambda m, x: m.b(torch.cat([F.relu(m.a(x)), x], 1)), a=conv(3, 4), b=conv(7, 2)),
        IMAGE,
    ),
    "stack": (lambda: body(lambda m, x: torch.stack([x, 2 * x], 1).sum(1)), IMAGE),
    "nearest": (lambda: body(lambda m, x: F.interpolate(x, scale_factor=2, mode="nearest")), IMAGE),
    "bilinear": (
        lambda: body(lambda m, x: F.interpolate(x, size=(5, 5), mode="bilinear", align_corners=False)),
        IMAGE,
    ),
    "upsample to a traced size": (
        lambda: body(lambda m, x: F.interpolate(m.a(x), size=x.shape[2:]) + x, a=nn.Conv2d(4, 4, 3, stride=2)),
        IMAGE,
    ),
    "nn.Upsample": (
        lambda: body(lambda m, x: m.up(x), up=nn.Upsample(scale_factor=2, mode="bilinear")),
        IMAGE,
    ),
    "zero pad": (lambda: body(lambda m, x: F.pad(x, (1, 1, 0, 2))), IMAGE),
    "zero pad channels": (lambda: body(lambda m, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))), IMAGE),
    "constant pad": (lambda: body(lambda m, x: F.pad(x, (1, 1), value=0.5)), IMAGE),
    "reflect pad": (lambda: body(lambda m, x: F.pad(x, (1, 1, 1, 1), mode="reflect")), IMAGE),
    "replicate pad": (lambda: body(lambda m, x: m.p(x), p=nn.ReplicationPad2d(1)), IMAGE),
    "view with a traced size": (
        lambda: Net(lambda m, x: m.b((y := F.relu(m.a(x))).view(y.size(0), -1)), a=conv(3, 4), b=nn.Linear(256, 5)),
        IMAGE,
    ),
    "view with a traced shape": (
        lambda: Net(
            lambda m, x: m.b((y := F.relu(m.a(x))).view(y.shape[0] * 2, -1).reshape(x.shape[0], -1)),
            a=conv(3, 4),
            b=nn.Linear(256, 5),
        ),
        IMAGE,
    ),
    "reshape to -1": (
        lambda: Net(lambda m, x: m.b(F.relu(m.a(x)).reshape(-1, 256)), a=conv(3, 4), b=nn.Linear(256, 5)),
        IMAGE,
    ),
    "flatten": (
        lambda: nn.Sequential(conv(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 5)),
        IMAGE,
    ),
    "chunk": (lambda: body(lambda m, x: torch.cat(x.chunk(2, 1)[::-1], 1)), IMAGE),
    "split": (lambda: body(two_parts), IMAGE),
    "unbind": (lambda: body(lambda m, x: x.unbind(1)[0].unsqueeze(1) + x), IMAGE),
    "channel shuffle": (
        lambda: body(lambda m, x: x.view(x.shape[0], 2, 2, 8, 8).transpose(1, 2).contiguous().flatten(1, 2)),
        IMAGE,
    ),
    "pixel shuffle": (lambda: body(lambda m, x: F.pixel_shuffle(x, 2)), IMAGE),
    "permute": (
        lambda: body(lambda m, x: m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), fc=nn.Linear(4, 4)),
        IMAGE,
    ),
    "tokens": (
        lambda: Net(
            lambda m, x: m.b(F.relu(m.fc(F.relu(m.a(x)).flatten(2).transpose(1, 2))).mean(1)),
            a=conv(3, 4),
            fc=nn.Linear(4, 6),
            b=nn.Linear(6, 2),
        ),
        IMAGE,
    ),
    "dropout": (lambda: body(lambda m, x: m.d(F.dropout(x, 0.5, m.training)), d=nn.Dropout2d(0.5)), IMAGE),
    "average pooling": (lambda: body(lambda m, x: F.avg_pool2d(x, 3, 2, 1)), IMAGE),
    "adaptive pooling": (lambda: body(lambda m, x: F.adaptive_avg_pool2d(x, (3, 2))), IMAGE),
    "mean": (lambda: body(lambda m, x: x.mean((2, 3), keepdim=True)), IMAGE),
    "strided slicing": (lambda: body(lambda m, x: x[:, :, ::2, 1::2] + x[..., :4, :4]), IMAGE),
    "roll and flip": (lambda: body(lambda m, x: torch.roll(x, 1, 2) + x.flip(3)), IMAGE),
    "grouped": (lambda: body(lambda m, x: m.a(x), a=conv(4, 6, groups=2)), IMAGE),
    "dilated": (lambda: body(lambda m, x: m.a(x), a=conv(4, 6, dilation=2)), IMAGE),
    "transposed": (lambda: body(lambda m, x: m.a(x), a=nn.ConvTranspose2d(4, 6, 3, 2, groups=2)), IMAGE),
    "batch norm before": (lambda: body(lambda m, x: m.a(m.n(x)), n=normalising(4), a=conv(4, 4)), IMAGE),
    "max-pool before neurons": (lambda: body(lambda m, x: F.max_pool2d(m.a(x), 2), a=conv(4, 4)), IMAGE),
    "max-pool behind neurons": (lambda: body(lambda m, x: F.max_pool2d(x, 3, 1, 1) + x), IMAGE),
    "adaptive max-pool": (lambda: body(lambda m, x: F.adaptive_max_pool2d(x, 2) + x[..., :2, :2]), IMAGE),
    "silu": (lambda: body(lambda m, x: F.silu(m.a(x)), a=conv(4, 4)), IMAGE),
    "gelu": (lambda: body(lambda m, x: m.g(m.a(x)), a=conv(4, 4), g=nn.GELU()), IMAGE),
    "sigmoid": (lambda: body(lambda m, x: torch.sigmoid(m.a(x)), a=conv(4, 4)), IMAGE),
    "leaky relu": (lambda: body(lambda m, x: F.leaky_relu(m.a(x), 0.1), a=conv(4, 4)), IMAGE),
    "softmax": (lambda: body(lambda m, x: x.softmax(1)), IMAGE),
    "squeeze and excitation": (lambda: body(se_block, down=conv(4, 2, 1), up=conv(2, 4, 1)), IMAGE),
    "product": (lambda: body(lambda m, x: m.a(x) * m.b(x), a=conv(4, 4), b=conv(4, 4)), IMAGE),
    "product with the input": (
        lambda: Net(lambda m, x: m.b(F.relu(m.a(x)) * x.mean((1, 2, 3), keepdim=True)), a=conv(3, 4), b=conv(4, 2)),
        IMAGE,
    ),
    "attention": (
        lambda: body(
            lambda m, x: (torch.softmax(m.q(x).flatten(2) @ m.k(x).flatten(2).transpose(1, 2), -1) @ x.flatten(2)).view(
                x.shape
            ),
            q=conv(4, 4),
            k=conv(4, 4),
        ),
        IMAGE,
    ),
    "layer norm": (
        lambda: body(lambda m, x: m.n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), n=nn.LayerNorm(4)),
        IMAGE,
    ),
    "group norm": (lambda: body(lambda m, x: m.n(x), n=nn.GroupNorm(2, 4)), IMAGE),
    "division of two": (lambda: body(lambda m, x: x / (x.sum(1, keepdim=True) + 1)), IMAGE),
    "1d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 3),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(4, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(2),
        ),
        (2, 3, 16),
    ),
    "3d": (
        lambda: nn.Sequential(
            nn.Conv3d(3, 4, 3),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(4, 4, 1),
            nn.ReLU(),
            nn.AvgPool3d(2),
            nn.Flatten(),
            nn.LazyLinear(2),
        ),
        (2, 3, 8, 8, 8),
    ),
    "batch moved behind": (
        lambda: Net(
            lambda m, x: m.b(F.relu(m.a(F.relu(m.first(x)).flatten(2).permute(2, 0, 1))).mean(0)),
            first=conv(3, 4),
            a=nn.Linear(4, 6),
            b=nn.Linear(6, 2),
        ),
        IMAGE,
    ),
    "transposed weights": (
        lambda: Net(lambda m, x: F.relu(m.a(x)) @ m.b.weight.t(), a=nn.Linear(4, 6), b=nn.Linear(6, 2)),
        (3, 4),
    ),
    "two branches as one batch": (
        lambda: Net(
            lambda m, x: m.b(F.relu(torch.cat([F.relu(m.a(x)), F.relu(m.a(-x))], 0)).view(2, -1, 6).sum(0)),
            a=nn.Linear(4, 6),
            b=nn.Linear(6, 2),
        ),
        (3, 4),
    ),
    "attribute T": (
        lambda: Net(lambda m, x: m.b(F.relu(m.a(x)).mT).mT, a=nn.Linear(4, 6), b=nn.Linear(5, 5)),
        (3, 5, 4),
    ),
    "constant tensor": (lambda: body(lambda m, x: x + torch.ones(1, 4, 1, 1) * 0.2), IMAGE),
    "zeros like the input": (
        lambda: body(lambda m, x: torch.cat([x, torch.zeros(x.shape[0], 2, x.shape[2], x.shape[3])], 1)),
        IMAGE,
    ),
    "new_zeros": (
        lambda: body(lambda m, x: torch.cat([x, x.new_zeros(x.size(0), 1, x.size(2), x.size(3))], 1)),
        IMAGE,
    ),
}


def normalising(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


def traces_joined_chunks() -> bool:
    """Whether this torch.fx traces ``torch.cat`` of what ``chunk`` gives; that of torch 2.6 does not."""
    try:
        torch.fx.symbolic_trace(lambda x: torch.cat(x.chunk(2)))
    except TypeError:
        return False
    return True


def build(name: str) -> tuple[nn.Module, SourceGraph, Tensor]:
    if name == "chunk" and not traces_joined_chunks():
        pytest.skip("this torch.fx does not trace torch.cat of what chunk gives; such a network is exported")
    make, shape = NETWORKS[name]
    net = make()
    x = torch.randn(shape)
    with torch.no_grad():
        net(x)
    return net.eval(), source_graph(net), x


@torch.no_grad()
def test_joined_chunks_convert_whether_torch_traces_them_or_not() -> None:
    net, shape = NETWORKS["chunk"][0]().eval(), NETWORKS["chunk"][1]
    x = torch.randn(8, *shape[1:])
    snn = snnconv.convert(net, methods.ShiftedThreshold(8), x, progress=False)
    assert snn.report is not None
    assert snn.report.path == "graph"
    assert torch.allclose(snn(x), net(x), atol=0.02)


def exact(source: SourceGraph, wobble: float = 0.0) -> Callable[[str, Tensor], Tensor]:
    """Rate neurons whose outputs so far have the activation of the mean current so far as their mean.

    With ``wobble``, outputs swing around that from step to step, as spikes do.
    """
    state: dict[str, tuple[int, Tensor, Tensor]] = {}

    def neuron(site: str, x_seq: Tensor) -> Tensor:
        zero = torch.zeros_like(x_seq[0])
        step, total, before = state.get(site, (0, zero, zero))
        outputs = []
        for x in x_seq:
            step, total = step + 1, total + x
            now = source.sites[site].activation(total / step) * (step + wobble * (-1) ** step)
            outputs.append(now - before)
            before = now
        state[site] = (step, total, before)
        return torch.stack(outputs)

    return neuron


def spread(source: SourceGraph) -> Callable[[str, Tensor], Tensor]:
    """Sum neurons: they see their whole input, then give its activation in unequal parts over the steps."""
    parts = torch.tensor([0.5, -0.2, 0.4, 0.3])

    def neuron(site: str, x_seq: Tensor) -> Tensor:
        y = source.sites[site].activation(x_seq.sum(0))
        return y * parts.reshape(-1, *[1] * y.dim())

    return neuron


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_without_time_the_graph_is_the_network(name: str) -> None:
    net, source, x = build(name)
    out = Executor(source, lambda site, z: source.sites[site].activation(z))(x)
    torch.testing.assert_close(out, net(x), **TOLERANCE)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_rates_carry_the_network_at_every_horizon(name: str) -> None:
    net, source, x = build(name)
    out = Executor(source, exact(source)).steps(x, TIMESTEPS, RunState())
    for t in range(1, TIMESTEPS + 1):
        torch.testing.assert_close(out[:t].mean(0), net(x), **TOLERANCE)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_weighted_sums_carry_the_network(name: str) -> None:
    net, source, x = build(name)
    out = Executor(source, spread(source), "sum").steps(x, TIMESTEPS, RunState())
    torch.testing.assert_close(out.sum(0), net(x), **TOLERANCE)


@pytest.mark.parametrize("chunks", [[1] * TIMESTEPS, [1, 3], [3, 1]], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_steps_in_chunks_are_the_steps_at_once(name: str, chunks: list[int]) -> None:
    _, source, x = build(name)
    at_once = Executor(source, exact(source, 0.5)).steps(x, TIMESTEPS, RunState())
    executor, state = Executor(source, exact(source, 0.5)), RunState()
    parts = torch.cat([executor.steps(x, n, state) for n in chunks])
    torch.testing.assert_close(parts, at_once, **TOLERANCE)
    assert state.steps == TIMESTEPS


@torch.no_grad()
def test_a_restarted_run_is_a_fresh_run() -> None:
    _, source, x = build("squeeze and excitation")
    state = RunState()
    Executor(source, exact(source, 0.5)).steps(x, 3, state)
    state.restart()
    again = Executor(source, exact(source, 0.5)).steps(x, TIMESTEPS, state)
    torch.testing.assert_close(again, Executor(source, exact(source, 0.5)).steps(x, TIMESTEPS, RunState()))


@torch.no_grad()
def test_instantaneous_max_pooling_acts_on_each_step() -> None:
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2))
    source = source_graph(net)
    spikes = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(2, 1, 2)
    accumulated, instantaneous = (
        Executor(source, lambda site, x: spikes, max_pool=kind).steps(torch.zeros(1, 1), 2, RunState()).sum()
        for kind in ("accumulated", "instantaneous")
    )
    assert (float(accumulated), float(instantaneous)) == (1.0, 2.0)


@torch.no_grad()
def test_what_does_not_depend_on_neurons_runs_once() -> None:
    net = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2))
    source = source_graph(net)
    executor, state = Executor(source, exact(source)), RunState()
    ran: list[str] = []
    executor.observers.append(lambda node, value: ran.append(node.name))
    calls = 0
    original = torch.conv2d
    first = next(n for n in source.graph.nodes if n.target is original)

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        return original(*args, **kwargs)

    first.target = counted
    for _ in range(3):
        executor.steps(torch.randn(1, 3, 8, 8), 1, state)
    assert calls == 1


@torch.no_grad()
def test_dictionaries_and_tuples_come_back_as_they_are() -> None:
    net = Net(
        lambda m, x: {"a": (y := F.relu(m.a(x))), "b": (m.b(y), y.shape[0])},
        a=nn.Linear(3, 4),
        b=nn.Linear(4, 2),
    )
    source = source_graph(net)
    x = torch.randn(5, 3)
    out = Executor(source, exact(source)).steps(x, 2, RunState())
    assert out["a"].shape == (2, 5, 4)
    assert out["b"][0].shape == (2, 5, 2)
    assert out["b"][1] == 5
    torch.testing.assert_close(out["b"][0].mean(0), net(x)["b"][0])


@torch.no_grad()
def test_two_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x)) + y)

    net = Two()
    source = source_graph(net)
    x, y = torch.randn(5, 3), torch.randn(5, 4)
    out = Executor(source, exact(source)).steps((x, y), 3, RunState())
    torch.testing.assert_close(out.mean(0), net(x, y))


@torch.no_grad()
def test_an_empty_batch_goes_through() -> None:
    _, source, _ = build("flatten")
    out = Executor(source, exact(source)).steps(torch.zeros(0, 3, 8, 8), 3, RunState())
    assert out.shape == (3, 0, 5)


@torch.no_grad()
def test_a_failing_operator_is_named() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    source = source_graph(net)
    with pytest.raises(ConversionError, match="0: operator linear failed"):
        Executor(source, lambda s, z: z)(torch.zeros(2, 7))


@torch.no_grad()
def test_a_failing_operator_over_time_is_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.eye(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x).softmax(1) @ self.mix

    source = source_graph(Net())
    with pytest.raises(ConversionError, match="operator matmul failed"):
        Executor(source, exact(source)).steps(torch.ones(2, 4), 2, RunState())


def test_an_input_that_is_not_given_is_named() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.relu(x) + y

    source = source_graph(Net())
    with pytest.raises(ConversionError, match="takes an input 'y' that was not given"):
        Executor(source, exact(source))((torch.ones(2, 4),))


def test_shape_arithmetic_is_neither_analog_nor_spiking() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = F.relu(m.a(x))
        half = y.shape[1] // 2
        positions = torch.arange(half * 2, dtype=y.dtype).view(1, -1) * 0.1
        return m.b(F.relu(m.c(y.view(y.size(0), half * 2))) + positions)

    net = Net(forward, a=nn.Linear(3, 4), b=nn.Linear(4, 2), c=nn.Linear(4, 4))
    source = source_graph(net)
    executor = Executor(source, exact(source))
    assert analog(source, Flow(source.graph)) == []
    assert reads(Flow(source.graph)) == {"a": "input", "c": "spikes", "b": "currents"}
    x = torch.randn(5, 3)
    with torch.no_grad():
        torch.testing.assert_close(executor.steps(x, 3, RunState()).mean(0), net(x), **TOLERANCE)
        summed = Executor(source, spread(source), "sum").steps(x, TIMESTEPS, RunState())
        torch.testing.assert_close(summed.sum(0), net(x), **TOLERANCE)


def test_srps_phases_in_one_pass_each_are_its_nodes_step_by_step(monkeypatch) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()]
    x = torch.rand(40, 3, 10, 10)
    method = methods.SRP(5, pre_timesteps=3)
    snn = snnconv.convert(nn.Sequential(*layers).eval(), method, x, progress=False)

    def spikes() -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        snn.run(x, observe=lambda site, out: found.append(out))
        return found

    fast = spikes()
    monkeypatch.setattr(type(method), "scan_arguments", lambda self, node: None)
    slow = spikes()
    assert [len(s) for s in fast] == [3, 3, 5, 5]
    assert all(torch.equal(a, b) for a, b in zip(fast, slow, strict=True))
    assert any((a[:1] == 0).any() and a.any() for a in fast)
