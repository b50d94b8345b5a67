"""Networks that do not trace: activations are found and replaced call by call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.activations import QuantReLU
from snnconv.graph.capture.fx import TraceFailure, source_graph
from snnconv.graph.source import SourceGraph
from snnconv.runtime import capture
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.run import RunState
from snnconv.runtime.tree import TreeProgram

ROWS = torch.randn(48, 5, generator=torch.Generator().manual_seed(3))
IMAGES = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Branching(nn.Module):
    """Takes one of two ways, by the data."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.up, self.down, self.head = (nn.Linear(5, 5) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        branch = self.up if float(x.detach().mean()) > 0 else self.down
        return self.head(torch.relu(branch(y)) + y)


class Pyramid(nn.Module):
    """Iterates over a list of features, asks for its length and for single values."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stages = nn.ModuleList([nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(2)])
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = [self.act(self.stem(x))]
        for stage in self.stages:
            features.append(self.act(stage(features[-1])))
        top = features[-1]
        for row in top:  # iterates over the batch, which a tracer cannot
            assert row.dim() == 3
        for feature in features[-2::-1]:
            top = feature + F.interpolate(top, size=tuple(feature.shape[-2:]))
        return {"out": self.head(top), "pooled": F.max_pool2d(top, 2)}


class Plain(nn.Module):
    """Traces: both paths can be compared on it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn(self.conv(x)))
        z = self.act(self.two(y)) + F.silu(self.two(y))
        return self.head(F.relu(F.max_pool2d(z + y, 2)).flatten(1))


def test_sites_are_call_sites() -> None:
    program = TreeProgram(Pyramid(), IMAGES[:2])
    assert list(program.sites) == ["act", "act:2", "act:3"]
    assert list(TreeProgram(Branching(), ROWS + 1).sites) == ["relu", "relu:2"]


@pytest.mark.parametrize("model", [Branching(), Pyramid()], ids=lambda m: type(m).__name__)
def test_these_do_not_trace(model: nn.Module) -> None:
    with pytest.raises(TraceFailure):
        source_graph(model)


@torch.no_grad()
def test_without_time_it_is_the_network() -> None:
    for model, x in ((Pyramid(), IMAGES), (Branching(), ROWS), (Plain(), IMAGES)):
        program = TreeProgram(model, x)
        out = program.static(x, lambda site, z, program=program: program.sites[site].activation(z))
        torch.testing.assert_close(out, model.eval()(x))


@torch.no_grad()
def test_over_time_it_is_the_graph() -> None:
    model = Plain().eval()
    tree, graph = TreeProgram(model, IMAGES), GraphProgram(source_graph(model))
    assert list(tree.sites) == list(graph.sites)

    def spikes(program: TreeProgram | GraphProgram):
        clock = {}

        def neuron(site: str, x_seq: Tensor) -> Tensor:
            start = clock.get(site, 0)
            clock[site] = start + len(x_seq)
            swing = torch.tensor([1.5, 0.5, 1.0, 1.0])[start : start + len(x_seq)]
            return x_seq.clamp(min=0) * swing.reshape(-1, *[1] * (x_seq.dim() - 1))

        return neuron

    for chunks in ([4], [1, 3], [1, 1, 1, 1]):
        outs = []
        for program in (tree, graph):
            state, neuron = RunState(), spikes(program)
            outs.append(torch.cat([program.steps(IMAGES, n, neuron, state) for n in chunks]))
        torch.testing.assert_close(*outs, rtol=1e-3, atol=1e-4)


class Answers(nn.Module):
    """A class, a function of the readout, and a parameter, beside the readout itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        self.log_std = nn.Parameter(torch.tensor([-1.0, 0.0, 2.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.head(F.relu(self.a(x)))
        return y, y.softmax(1), y.argmax(1), y.log(), self.log_std


@pytest.mark.parametrize("delay", [0, 3])
def test_outputs_that_are_no_mean_of_their_steps_are_those_of_the_graph(
    delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, method = Answers(), methods.IF(8, delay=delay, correction="none")
    graph = snnconv.convert(model, method, ROWS, progress=False)
    monkeypatch.setattr(capture, "WAYS", [replace(way, run=_refuse) for way in capture.WAYS])
    tree = snnconv.convert(model, method, ROWS, progress=False)
    assert tree.report.path == "module tree"
    assert all(a.shape == b.shape for a, b in zip(tree(ROWS), model(ROWS), strict=True))
    for got, wanted in zip(tree(ROWS), graph(ROWS), strict=True):
        torch.testing.assert_close(got, wanted, equal_nan=True)
    for (_, got), (_, wanted) in zip(tree.stream(ROWS), graph.stream(ROWS), strict=True):
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)
    whole = tree(ROWS)
    tree.memory_budget = 1  # input by input
    for one, other in zip(tree(ROWS), whole, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def _refuse(*given: object) -> SourceGraph:
    raise TraceFailure("not now")


@pytest.mark.parametrize(
    "method",
    [
        methods.SignedIF(16),
        methods.SRP(8, 8),
        methods.ShiftedThreshold(6),
        methods.LocalThresholdBalancing(64),
    ],
    ids=lambda m: m.name,
)
def test_a_network_that_does_not_trace_converts(method: methods.Method) -> None:
    torch.manual_seed(0)
    model = Pyramid()
    snn = snnconv.convert(model, method, IMAGES, progress=False)
    assert snn.report is not None
    assert snn.report.path == "module tree"
    assert any("call by call" in note for note in snn.report.notes)
    assert [s.name for s in snn.report.spiking] == ["act", "act:2", "act:3"]
    out, expected = snn(IMAGES)["out"], model(IMAGES)["out"].detach()
    assert float((out - expected).norm() / expected.norm()) < 0.15


@pytest.mark.parametrize("method", [methods.SignedIF(8), methods.ShiftedThreshold(4)], ids=lambda m: m.name)
def test_both_paths_convert_alike(method: methods.Method, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Plain()
    graph = snnconv.convert(model, method, IMAGES, progress=False)
    monkeypatch.setattr(capture, "WAYS", [replace(way, run=_refuse) for way in capture.WAYS])
    tree = snnconv.convert(model, method, IMAGES, progress=False)
    assert tree.report is not None
    assert graph.report is not None
    assert tree.report.path == "module tree"
    # a SiLU has neurons of its own in a graph alone
    assert [s.name for s in tree.report.spiking] == [s.name for s in graph.report.spiking if s.name != "silu"]
    a, b = tree(IMAGES), graph(IMAGES)
    assert float((a - b).norm() / b.norm()) < 0.1
    assert [a.operator for a in tree.report.analog] == ["silu"]


def test_a_trained_activation_is_a_site() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(5, 6), QuantReLU(7, clip=1.5), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.a(x))
            return self.b(self.act(y * 2) if float(y.detach().sum()) > 0 else y)

    snn = snnconv.convert(Net(), methods.ShiftedThreshold(3, thresholds="trained"), ROWS, progress=False)
    assert [(s.name, s.threshold_mean) for s in snn.report.spiking] == [("act", 1.5), ("act:2", 1.5)]
    model = Net()
    model.load_state_dict(snn.program.model.state_dict(), strict=False)


def test_a_trained_activation_under_several_names_is_a_site_under_each(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ReLU()
            self.b = self.a

        def forward(self, x: Tensor) -> Tensor:
            if not torch.isfinite(x).all():  # so that it does not trace
                raise ValueError
            return self.b(self.a(x) - 0.1)

    x = torch.randn(16, 6)
    net = snnconv.prepare(Named(), QuantReLU(7), x, progress=False).eval()
    snn = snnconv.convert(net, methods.ShiftedThreshold(3, thresholds="trained"), x, progress=False)
    assert (snn.report.path, [site.name for site in snn.report.spiking]) == ("module tree", ["a", "a:2"])
    torch.testing.assert_close(snn(x), net(x))
    snnconv.save(snn, tmp_path / "net.safetensors")
    torch.testing.assert_close(snnconv.load(tmp_path / "net.safetensors", net)(x), net(x))


def test_a_way_not_taken_in_calibration_is_named() -> None:
    class Net(Branching):
        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x))
            if float(x.detach().mean()) > 5:
                y = F.relu6(self.up(y))
            return self.head(y)

    snn = snnconv.convert(Net(), methods.IF(4), ROWS, progress=False)
    with pytest.raises(ConversionError, match=r"relu6: the network came to an activation.*calibration data"):
        snn(ROWS + 100)


class OneByOne(nn.Module):
    """Its head sees one input after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.out = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.body(x))
        return torch.cat([self.out(self.relu(self.head(one[None]))) for one in y])


def test_a_loop_over_the_batch_has_a_site_for_each_input_of_the_first_one() -> None:
    torch.manual_seed(0)
    model = OneByOne().eval()
    snn = snnconv.convert(model, methods.ShiftedThreshold(8, correction="none"), ROWS[:6], progress=False)
    assert snn.report.path == "module tree"
    assert sum(site.name.startswith("relu") for site in snn.report.spiking) == 6
    for count in (1, 4, 6):
        torch.testing.assert_close(snn(ROWS[:count]), model(ROWS[:count]), atol=0.02, rtol=0)
    with pytest.raises(ConversionError, match=r"relu:7: .*calibration data \(the first batch\)"):
        snn(ROWS[:7])


def test_an_output_that_picks_values_is_refused_and_said_to_pick() -> None:
    class Picking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 64), nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            y = self.b(F.relu(self.a(x)))
            return y[y > 0.1]

    torch.manual_seed(0)
    with pytest.raises(ConversionError, match="picks as many values as pass a test"):
        snnconv.convert(Picking().eval(), methods.ShiftedThreshold(3, correction="none"), ROWS, progress=False)


def test_stepwise_bits_are_refused_with_a_way_out() -> None:
    snn = snnconv.convert(Pyramid(), methods.ShiftedThreshold(4), IMAGES, progress=False)
    with pytest.raises(ConversionError, match=r"call snn\(x\)"):
        list(snn.stream(IMAGES))


def test_a_broken_weight_is_named() -> None:
    model = Branching()
    with torch.no_grad():
        model.up.weight[0, 0] = torch.inf
    with pytest.raises(ConversionError, match=r"up\.weight"):
        snnconv.convert(model, methods.IF(4), ROWS, progress=False)


def test_an_alias_that_tracing_loses_is_noticed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            out = self.a(x)
            kept = out
            out.view(-1).add_(1.0)  # changes `kept` too, through a view, which torch.fx does not see
            return self.b(F.relu(kept))

    model = Net()
    snn = snnconv.convert(model, methods.ShiftedThreshold(8), ROWS, progress=False)
    assert snn.report is not None
    assert snn.report.capture == "torch.export"
    torch.testing.assert_close(snn(ROWS), model(ROWS).detach(), rtol=0.05, atol=0.05)


def test_the_model_is_left_alone() -> None:
    model = Pyramid().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    snn = snnconv.convert(model, methods.SignedIF(4), IMAGES, progress=False)
    snn(IMAGES)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*model.modules(), *snn.modules()])


def test_an_error_inside_the_network_leaves_no_hooks() -> None:
    snn = snnconv.convert(Pyramid(), methods.SignedIF(4), IMAGES, progress=False)
    with pytest.raises(Exception, match=r"."):
        snn.program.static(torch.zeros(1, 7, 8, 8), lambda s, z: z)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in snn.modules())
