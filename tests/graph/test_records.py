"""Kinds of activations and operators as records: the package's own, and those that a user adds."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.graph import activation, ops
from snnconv.graph.activation import Activation, Clip, Quantised, RateNorm, ReLU
from snnconv.graph.arguments import argument, arguments, operand, set_argument
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.ops import Operator, find, op_kind, register_operator
from snnconv.graph.source import Site
from snnconv.runtime.executor import Executor
from tests.graph import users_own
from tests.graph.users_own import Squareplus, SquareplusLayer, scale_shift, squareplus

X = torch.randn(32, 6)


class Net(nn.Module):
    """Two ReLUs, and between the second and its layer what ``between`` does."""

    def __init__(self, between=lambda net, h: h) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.rand(8) + 0.5)
        self.shift = nn.Parameter(torch.rand(8))
        self.own = SquareplusLayer(2.0)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.between(self, F.relu(self.b(F.relu(self.a(x))))))


def converted(between, method=None) -> snnconv.SpikingNetwork:
    return snnconv.convert(Net(between), method or methods.ShiftedThreshold(6), X, progress=False)


# --- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda g, x: g.call_function(torch.conv2d, (x, x, None, 2)), "stride", 2),
        (lambda g, x: g.call_function(torch.conv2d, (x, x), {"groups": 4}), "groups", 4),
        (lambda g, x: g.call_function(torch.conv_transpose2d, (x, x, None, 1, 0, 0, 4)), "groups", 4),
        (lambda g, x: g.call_function(F.pad, (x, [1]), {"value": 3.0}), "value", 3.0),
        (lambda g, x: g.call_function(F.pad, (x, [1], "constant", 3.0)), "value", 3.0),
        (lambda g, x: g.call_method("mean", (x, -1)), "dim", -1),
        (lambda g, x: g.call_method("mean", (x,), {"axis": -1}), "dim", -1),
        (lambda g, x: g.call_method("permute", (x, 0, 2, 1)), "dims", (0, 2, 1)),
        (lambda g, x: g.call_method("permute", (x, (0, 2, 1))), "dims", (0, 2, 1)),
        (lambda g, x: g.call_function(torch.permute, (), {"input": x, "dims": (0, 2, 1)}), "dims", (0, 2, 1)),
        (lambda g, x: g.call_function(torch.bmm, (x,), {"mat2": 5}), "other", 5),
        (lambda g, x: g.call_function(torch.batch_norm, (x, "γ", "β", "μ")), "running_mean", "μ"),
        (lambda g, x: g.call_function(F.batch_norm, (x, "μ", "σ²", "γ")), "running_mean", "μ"),
    ],
)
def test_an_argument_has_one_name_however_it_is_given(make, name, value) -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = make(graph, x)
    assert argument(node, name) == value
    assert operand(node) is x
    other = (2, 1, 0) if name == "dims" else "new"
    set_argument(node, name, other)
    assert argument(node, name) == other


def test_an_argument_that_is_not_given_has_the_callers_default() -> None:
    graph = fx.Graph()
    node = graph.call_function(torch.conv1d, (graph.placeholder("x"), None))
    assert argument(node, "stride", 1) == 1
    assert "stride" not in arguments(node)


# --- operators ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "method"),
    [(torch.relu, "relu"), (torch.add, "add"), (torch.amax, "amax"), (torch.matmul, "bmm"), (torch.reshape, "view")],
)
def test_a_function_and_a_method_of_one_operator_share_their_record(function, method) -> None:
    assert find(function) is find(method, method=True) is find(f"{method}_", method=True)


def test_a_record_that_says_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of"):
        Operator(kind="additive")
    with pytest.raises(ValueError, match="role must be one of"):
        Operator(role="jump")


def test_an_operator_of_ones_own_needs_a_name_that_nobody_has() -> None:
    def mine(x: Tensor) -> Tensor:
        return x

    with pytest.raises(ValueError, match="give the operator a name"):
        register_operator(Operator((mine,)))
    with pytest.raises(ValueError, match=r"there is an operator 'mine\.scale_shift'"):
        register_operator(Operator((mine,), name="mine.scale_shift"))
    with pytest.raises(ValueError, match=r"torch\.cat is known"):
        register_operator(Operator((torch.cat,)))


def test_an_unknown_operator_names_those_like_it() -> None:
    with pytest.raises(ValueError, match=r"'torch\.conv9d'.*register_operator.*torch\.conv1d"):
        ops.resolve("torch.conv9d")


def test_in_place_operators_change_what_later_readers_see() -> None:
    class InPlace(nn.Module):
        def __init__(self, change) -> None:
            super().__init__()
            self.a, self.b, self.change = nn.Linear(6, 6), nn.Linear(6, 2), change

        def forward(self, x: Tensor) -> Tensor:
            z = self.a(x)
            seen = z
            self.change(z, x)
            return self.b(F.relu(seen) + z)

    def added(z: Tensor, x: Tensor) -> None:
        z += x

    def product(z: Tensor, x: Tensor) -> None:
        z *= x

    def count(z: Tensor, x: Tensor) -> None:
        size = x.shape[0]
        size += 1  # a number: its other readers keep theirs
        z.view(x.shape[0], -1).add(size)

    for change in (added, product, count, lambda z, x: torch.relu_(z), lambda z, x: z.clamp_(-0.1, 0.1)):
        net = InPlace(change)
        source = source_graph(net)
        run = Executor(source, lambda site, z, s=source: s.sites[site].activation(z))
        torch.testing.assert_close(run(X), net(X))


# --- a user's operator -------------------------------------------------------------------------------------


def test_a_users_linear_operator_is_linear_everywhere() -> None:
    assert op_kind(scale_shift, False, ("x", "w"), {}, lambda v: v == "x") == "linear"
    snn = converted(lambda net, h: scale_shift(h, net.scale))
    assert snn.report.analog == []
    assert snn.report.reads["c"] == "sum of spikes"
    assert snn.report.scaled == {"c": ["scale_shift by scale at scale_shift"]}
    assert bool(snnconv.audit(snn, X)), str(snnconv.audit(snn, X))
    costs = snnconv.profile(Net(lambda net, h: scale_shift(h, net.scale)), snn, X)
    assert costs.notes == []
    assert {layer.name: layer.reads for layer in costs.layers}["c"] == "sum of spikes"
    assert costs.sops == pytest.approx(8 * costs.sites[0].spikes + 3 * costs.sites[1].spikes)
    torch.testing.assert_close(snn.run(X, "steps").sum(0), snn(X), rtol=1e-4, atol=1e-4)


def test_a_users_affine_operator_gives_currents() -> None:
    snn = converted(lambda net, h: scale_shift(h, net.scale, shift=net.shift))
    assert snn.report.analog == []
    assert snn.report.reads["c"] == "currents"
    assert bool(snnconv.audit(snn, X))
    torch.testing.assert_close(snn.run(X, "steps").sum(0), snn(X), rtol=1e-4, atol=1e-4)


# --- activation kinds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [ReLU(), ReLU(6.0), Quantised(torch.tensor([0.5, 1.0]), 3), RateNorm(torch.tensor(2.0)), Clip(torch.tensor(2.0))],
)
def test_a_kind_is_its_plain_values_and_tensors(kind: Activation) -> None:
    again = Activation.from_dict(kind.to_dict(), kind.tensors())
    z = torch.randn(4, 2, 3) * 3
    assert type(again) is type(kind)
    assert torch.equal(again(z, 1), kind(z, 1))
    assert torch.equal(Site("s", kind, axis=1).activation(z), kind(z, 1))


def test_the_range_of_a_kind_knows_where_it_turns() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Parabola(Activation):
        name = "parabola"
        extrema = (1.0,)

        def f(self, z: Tensor) -> Tensor:
            return (z - 1) ** 2

    assert Parabola().range(0.0, 3.0) == (0.0, 4.0)
    assert Parabola().range(2.0, 3.0) == (1.0, 4.0)


def test_an_unknown_kind_lists_the_known() -> None:
    with pytest.raises(ConversionError, match=r"unknown activation kind 'quadrelu'; known: .*relu.*squareplus"):
        activation.get("quadrelu")
    with pytest.raises(ConversionError, match="activation kind 'quant'"):
        Activation.from_dict({"kind": "quant", "levels": 3})
    with pytest.raises(ValueError, match="there is an activation kind 'relu' already"):
        activation.register_activation(type("Other", (ReLU,), {}))
    with pytest.raises(TypeError, match="derived from Activation"):
        activation.register_activation(nn.ReLU)


OWN = {
    "a function": lambda net, h: squareplus(h, 2.0),
    "a function of a module": lambda net, h: users_own.squareplus(h, b=2.0),
    "a module": lambda net, h: net.own(h),
}


@pytest.mark.parametrize("spelling", OWN)
def test_a_users_activation_is_found_and_named(spelling: str) -> None:
    model = Net(OWN[spelling])
    (node,) = [n for n in source_graph(model).graph.nodes if n.target is activation.activated]
    assert dict(node.kwargs) == Squareplus(2.0).to_dict()
    snn = snnconv.convert(model, methods.ShiftedThreshold(10), X, progress=False)
    assert [(a.operator, a.activation) for a in snn.report.analog] == [("squareplus", True)]
    assert snn.report.reads["c"] == "analog"
    error = (snn(X) - model(X)).norm() / model(X).norm()
    assert error.item() < 0.02
    with pytest.raises(ConversionError, match=r"strict.*squareplus"):
        snnconv.convert(model, methods.ShiftedThreshold(10), X, strict=True, progress=False)


def test_a_file_with_a_users_kinds_loads_where_they_are_registered(tmp_path: Path) -> None:
    snn = converted(lambda net, h: squareplus(scale_shift(h, net.scale), 2.0))
    snnconv.save(snn, tmp_path / "own")
    assert torch.equal(snnconv.load(tmp_path / "own")(X), snn(X))
    code = "import snnconv, sys; snnconv.load(sys.argv[1])"
    for register, wanted in (("", "mine.scale_shift"), ("import users_own; ", "")):
        done = subprocess.run(
            [sys.executable, "-c", register + code, str(tmp_path / "own")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        )
        assert (done.returncode == 0) is (not wanted), done.stderr
        assert wanted in done.stderr


def test_a_file_with_a_kind_that_is_not_registered_is_refused_by_name(tmp_path: Path, monkeypatch) -> None:
    snnconv.save(converted(OWN["a module"]), tmp_path / "own")
    monkeypatch.delitem(activation._KINDS, "squareplus")
    with pytest.raises(ConversionError, match=r"own: unknown activation kind 'squareplus'; known: .*register"):
        snnconv.load(tmp_path / "own")


# --- what follows from the records -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "between",
    [
        lambda net, h: (h + h.flip(1)) / 2,
        lambda net, h: (h + h.flip(1)) * 0.5,
        lambda net, h: h.unflatten(1, (2, 4)).sum(1).repeat(1, 2) / 2,
        lambda net, h: h * net.scale,
    ],
    ids=["division", "product", "sum over a dimension", "parameter"],
)
def test_an_average_written_as_a_division_passes_the_audit(between, tmp_path: Path) -> None:
    snn = converted(between)
    assert len(snn.report.scaled["c"]) == 1
    assert "scaled on their way" in str(snn.report)
    found = snnconv.audit(snn, X)
    assert bool(found), str(found)
    snnconv.save(snn, tmp_path / "scaled")
    assert bool(snnconv.audit(snnconv.load(tmp_path / "scaled"), X))


def test_a_scaling_that_the_report_does_not_list_fails_the_audit() -> None:
    snn = converted(lambda net, h: (h + h.flip(1)) / 2)
    division = next(n for n in snn.program.source.graph.nodes if n.target is operator.truediv)
    division.args = (division.args[0], 3)
    snn.program.executor = type(snn.program.executor)(snn.program.source, None, snn.program.coding)
    assert any("scaled on their way, by truediv" in failure for failure in snnconv.audit(snn, X).failures)


@pytest.mark.parametrize("value", [0, 0.0, 1.5])
def test_padding_by_name_is_profiled(value: float) -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.ConstantPad1d(1, value), nn.Conv1d(4, 2, 3), nn.ReLU())
    x = torch.randn(8, 2, 9)
    snn = snnconv.convert(model, methods.ShiftedThreshold(4), x, progress=False)
    costs = snnconv.profile(model, snn, x)
    assert {layer.name: layer.reads for layer in costs.layers}["3"] == "spikes"


def test_channels_are_followed_through_views_and_normalisations() -> None:
    tokens = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
    assert source_graph(tokens).sites["2"].axis == -1

    class Last(nn.Module):
        def __init__(self, order) -> None:
            super().__init__()
            self.conv, self.order, self.fc = nn.Conv2d(3, 4, 3), order, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.order(self.conv(x))))

    for order in (
        lambda h: h.permute(0, 2, 3, 1),
        lambda h: h.transpose(1, -1),
        lambda h: h.flatten(2).transpose(1, 2),
    ):
        (site,) = source_graph(Last(order)).sites.values()
        assert site.axis in (-1, 2)
