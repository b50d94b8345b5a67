"""Operators over time: folding time into the batch is only done where it changes nothing."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

import snnconv
from snnconv import methods
from snnconv.graph.capture.fx import source_graph
from snnconv.runtime.executor import Executor
from snnconv.runtime.over_time import at_each_step, at_once, each_step, shares, so_far
from snnconv.runtime.shapes import known_name, one_by_one
from snnconv.runtime.values import Accumulated, Static, Temporal, unfolded

T = 3
X = "x"  # stands for a value over time

ALONE: list[tuple[Any, tuple[int, ...], tuple[Any, ...]]] = [
    (torch.relu, (2, 4), (X,)),
    (torch.add, (2, 4), (X, 1.0)),
    (torch.mul, (2, 4), (X, torch.randn(4))),
    (torch.mul, (2, 4), (X, torch.randn(1, 4))),
    (torch.where, (2, 4), (X, X, 0.0)),
    (operator.getitem, (2, 4), (X, (slice(None), 1))),
    (operator.getitem, (2, 4, 5), (X, (..., 1))),
    (operator.getitem, (2, 4, 5), (X, (slice(None), torch.tensor([2, 0])))),
    (torch.flatten, (2, 4, 5), (X, 1)),
    ("view", (2, 4, 5), (X, -1, 20)),
    ("permute", (2, 4, 5), (X, 0, 2, 1)),
    ("transpose", (2, 4, 5), (X, 1, 2)),
    ("flip", (2, 4, 5), (X, 1, 2)),
    ("expand", (2, 1, 5), (X, -1, 4, -1)),
    ("repeat", (2, 4), (X, 1, 3)),
    ("mean", (2, 4, 5), (X, (1, 2))),
    ("squeeze", (2, 4, 1), (X,)),
    ("squeeze", (1, 4, 1), (X, 2)),
    ("softmax", (2, 4), (X, 1)),
    ("topk", (2, 4), (X, 2)),
    ("max", (2, 4), (X, 1)),
    ("unsqueeze", (2, 4), (X, 1)),
    ("chunk", (2, 4), (X, 2, 1)),
    (torch.cat, (2, 4), ([X, X], 1)),
    (torch.stack, (2, 4), ([X, X], 1)),
    (torch.matmul, (2, 4, 4), (X, X)),
    (torch.matmul, (2, 4), (X, torch.randn(4, 3))),
    (torch.matmul, (2, 4, 5), (torch.randn(3, 4), X)),
    (torch.bmm, (2, 4, 4), (X, X)),
    (F.linear, (2, 4), (X, torch.randn(3, 4))),
    (F.conv1d, (2, 4, 6), (X, torch.randn(3, 4, 2))),
    (F.conv2d, (2, 4, 6, 6), (X, torch.randn(3, 4, 2, 2))),
    (F.max_pool2d, (2, 4, 6, 6), (X, 2)),
    (F.adaptive_avg_pool2d, (2, 4, 6, 6), (X, 2)),
    (F.layer_norm, (2, 4), (X, (4,))),
    (F.group_norm, (2, 4, 3), (X, 2)),
    (F.pad, (2, 4), (X, (1, 1))),
    (F.pad, (2, 4, 6), (X, (1, 1), "reflect")),
    (F.scaled_dot_product_attention, (2, 4, 4), (X, X, X)),
    (F.normalize, (2, 4), (X,)),
    ("masked_fill", (2, 4), (X, torch.tensor([True, False, True, False]), 0.0)),
]
TOGETHER: list[tuple[Any, tuple[int, ...], tuple[Any, ...]]] = [
    (torch.mul, (1, 4), (X, torch.randn(5, 4))),
    (torch.mul, (3, 4), (X, torch.randn(3, 4))),
    (torch.mul, (4,), (X, torch.randn(3, 4))),
    (torch.where, (2, 4), (X, X, torch.randn(2, 1))),
    (operator.getitem, (2, 4), (X, 0)),
    (operator.getitem, (2, 4), (X, (..., 0, 1))),
    (operator.getitem, (2, 4, 5), (X, (torch.arange(2), -1))),
    (operator.getitem, (2, 4, 5, 6), (X, (slice(None), 0, slice(None), torch.tensor([1, 2])))),
    (torch.flatten, (2, 4, 5), (X,)),
    ("view", (2, 4), (X, 4, -1)),
    ("permute", (2, 4, 5), (X, 1, 0, 2)),
    ("transpose", (2, 4, 5), (X, 0, 1)),
    ("flip", (2, 4, 5), (X, 1, 0)),
    ("expand", (1, 4), (X, 5, 4)),
    ("expand", (2, 4), (X, 3, 2, 4)),
    ("repeat", (2, 4), (X, 2, 1)),
    ("tile", (2, 4), (X, (2, 1))),
    ("mean", (2, 4), (X,)),
    ("mean", (2, 4), (X, 0)),
    ("std", (3, 4), (X, True)),
    ("squeeze", (1, 4, 1), (X,)),
    ("squeeze", (1, 4), (X, 0)),
    ("repeat_interleave", (2, 4), (X, 2)),
    ("softmax", (2, 4), (X, 0)),
    ("t", (2, 4), (X,)),
    ("topk", (5,), (X, 2)),
    (torch.vstack, (2, 4), ([X, X],)),
    (torch.cat, (2, 4), ([X, X],)),
    (torch.cat, (2, 4), ([X, torch.randn(2, 1)], 1)),
    (torch.stack, (2, 4), ([X, X],)),
    (torch.matmul, (4, 4), (X, X)),
    (torch.einsum, (2, 4), ("ic,jc->ij", X, X)),
    (torch.cdist, (2, 4), (X, X)),
    (F.linear, (4,), (X, torch.randn(3, 4))),
    (F.conv1d, (4, 6), (X, torch.randn(3, 4, 2))),
    (F.max_pool2d, (4, 6, 6), (X, 2)),
    (F.layer_norm, (2, 4), (X, (2, 4))),
    (F.scaled_dot_product_attention, (4, 4), (X, X, X)),
    (F.batch_norm, (2, 4), (X, None, None, None, None, True)),
    (torch.cumsum, (2, 4), (X, 0)),
    (torch.sort, (4,), (X,)),
    (torch.linalg.norm, (2, 4), (X,)),
    (torch.fft.rfft, (2, 4), (X,)),
]


def call_of(target: Any, shape: tuple[int, ...], template: tuple[Any, ...]) -> tuple[fx.Node, Any, list[Any]]:
    """A call, its function, and its arguments over T steps of one shape."""
    torch.manual_seed(0)
    boolean = target is torch.where

    def value(given: Any) -> Any:
        if isinstance(given, list):
            return [value(v) for v in given]
        if not isinstance(given, str) or given != X:
            return given
        return Temporal(torch.randn(T * shape[0], *shape[1:]))

    args = [value(given) for given in template]
    if boolean:
        args[0] = Accumulated(args[0].data > 0, "mask")
    graph = fx.Graph()
    if isinstance(target, str):
        return graph.call_method(target), lambda v, *rest: getattr(v, target)(*rest), args
    return graph.call_function(target), target, args


def name_of(entry: tuple[Any, tuple[int, ...], tuple[Any, ...]]) -> str:
    return str(entry[0] if isinstance(entry[0], str) else getattr(entry[0], "__name__", entry[0])) + str(entry[1])


@pytest.mark.parametrize("entry", ALONE, ids=name_of)
def test_what_takes_inputs_one_by_one_gives_the_same_with_time_in_the_batch(entry: Any) -> None:
    node, function, args = call_of(*entry)
    assert one_by_one(node, known_name(node), None, args, {}, T)
    got, want = at_once(function, args, {}, T), each_step(function, args, {}, T, vectorised=False)
    for a, b in zip(tree_leaves(got, lambda v: isinstance(v, Temporal)), _temporal(want), strict=True):
        torch.testing.assert_close(unfolded(a, T), unfolded(b, T))


@pytest.mark.parametrize("entry", TOGETHER, ids=name_of)
def test_what_acts_on_the_batch_is_told_apart(entry: Any) -> None:
    node, _, args = call_of(*entry)
    assert not one_by_one(node, known_name(node), None, args, {}, T)


@pytest.mark.parametrize("entry", [*ALONE, *TOGETHER], ids=name_of)
def test_all_steps_in_one_call_are_the_steps(entry: Any) -> None:
    _, function, args = call_of(*entry)
    got, want = (_temporal(each_step(function, args, {}, T, vectorised=v)) for v in (True, False))
    for a, b in zip(got, want, strict=True):
        assert a.scalar == b.scalar
        torch.testing.assert_close(a.data, b.data)


def _temporal(tree: Any) -> list[Temporal]:
    return [v for v in tree_leaves(tree, lambda v: isinstance(v, Temporal)) if isinstance(v, Temporal)]


def test_a_function_of_ones_own_with_the_name_of_an_operator_is_not_taken_for_it() -> None:
    def add(x: Tensor, y: float) -> Tensor:
        return x - x.mean() + y

    node = fx.Graph().call_function(add)
    assert not one_by_one(node, known_name(node), None, [Temporal(torch.randn(6, 2)), 1.0], {}, T)


def test_what_depends_on_the_input_alone_is_the_same_at_every_step() -> None:
    x, s = Temporal(torch.randn(6, 4)), Static(torch.randn(2, 4))
    node = fx.Graph().call_function(torch.add)
    assert one_by_one(node, known_name(node), None, [x, s], {}, T)
    torch.testing.assert_close(at_once(torch.add, [x, s], {}, T).data, x.data + s.data.repeat(T, 1))


def test_results_that_change_their_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="pick by a mask"):
        each_step(lambda v: v[v > 0], [Temporal(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))], {}, 2)


@pytest.mark.parametrize("vectorised", [True, False])
def test_results_besides_tensors_stand_in_their_places(vectorised: bool) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    got = at_each_step(lambda v: (v.sum(), None, {"sizes": [2, v * 2]}), [x], vectorised)
    assert got[1] is None
    assert got[2]["sizes"][0] == 2
    assert got[0].tolist() == [3, 7]
    assert torch.equal(got[2]["sizes"][1], 2 * x)


@pytest.mark.parametrize("coding", ["rate", "sum", "differential"])
def test_the_shares_of_the_steps_come_to_the_value_whatever_was_undefined_before(coding: str) -> None:
    values = torch.tensor([[torch.nan, 1.0, torch.inf], [2.0, torch.nan, -torch.inf], [3.0, 5.0, 7.0]])
    whole, total = shares(values, 0, None, coding)
    assert bool(torch.isfinite(whole).all())
    torch.testing.assert_close(so_far(whole, 0, None, coding)[0][-1], values[-1])
    torch.testing.assert_close(total, values[-1] * (3 if coding == "rate" else 1))
    before, pieces = None, []
    for t in range(3):
        piece, before = shares(values[t : t + 1], t, before, coding)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces), whole)


# --- networks ----------------------------------------------------------------------------------------------


class Net(nn.Module):
    """A function of the network and its input, with a few layers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.rand(1, 8) + 0.5)
        self.places = nn.Parameter(torch.randn(5, 8))
        self.register_buffer("causal", torch.triu(torch.ones(5, 5, dtype=torch.bool), 1))
        self.register_buffer("ahead", torch.triu(torch.full((5, 5), float("-inf")), 1))
        self.lstm, self.gru = nn.LSTM(8, 8, batch_first=True), nn.GRU(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)

    def h(self, x: Tensor) -> Tensor:
        return F.relu(self.a(x))


def attended(m: Net, x: Tensor, mask: str) -> Tensor:
    h = m.h(x)
    scores = h @ h.transpose(1, 2) / 8**0.5
    scores = scores.masked_fill(m.causal, float("-inf")) if mask == "filled" else scores + m.ahead
    return m.c(torch.softmax(scores, -1) @ h)


def time_first(m: Net, x: Tensor) -> Tensor:
    h = m.h(x).transpose(0, 1)
    return m.c(m.attention(h, h, h)[0].transpose(0, 1))


VECTORS, TOKENS = (32, 6), (32, 5, 6)
MIXING: dict[str, tuple[Callable[[Net, Tensor], Any], tuple[int, ...]]] = {
    "one above the other": (lambda m, x: m.c(torch.vstack([m.h(x), F.relu(m.b(x))])), VECTORS),
    "joined along the batch": (lambda m, x: m.c(torch.cat([m.h(x), F.relu(m.b(x))], 0)), VECTORS),
    "similarity of the inputs": (lambda m, x: (h := m.h(x)) @ h.T, VECTORS),
    "similarity by einsum": (lambda m, x: torch.einsum("ic,jc->ij", h := m.h(x), h), VECTORS),
    "distances": (lambda m, x: torch.cdist(h := m.h(x), h + 0.5), VECTORS),
    "tiled": (lambda m, x: m.c(m.h(x).tile(2, 1)), VECTORS),
    "mean of the batch": (lambda m, x: m.c(m.h(x) - m.h(x).mean(0)), VECTORS),
    "mean of everything": (lambda m, x: m.c(m.h(x) / m.h(x).mean()), VECTORS),
    "squared batch": (lambda m, x: m.c((h := m.h(x)) @ h.T @ h), (8, 6)),
}
APART: dict[str, tuple[Callable[[Net, Tensor], Any], tuple[int, ...]]] = {
    "last by index": (lambda m, x: m.c(m.h(x)[torch.arange(x.size(0)), -1]), TOKENS),
    "scaled by the size of the batch": (lambda m, x: m.c(m.h(x) / x.shape[0] * x.size(0)), VECTORS),
    "a parameter for every input": (lambda m, x: m.c(m.h(x) * m.scale.expand(x.shape[0], -1)), VECTORS),
    "a token for every input": (
        lambda m, x: m.c(torch.cat([m.places[:1].expand(x.shape[0], 1, 8), m.h(x)], 1)),
        TOKENS,
    ),
    "places up to a length": (lambda m, x: m.c(m.h(x) + m.places[: x.shape[1]]), TOKENS),
    "half of the tokens": (lambda m, x: m.c(m.h(x)[:, : x.shape[1] // 2]), TOKENS),
    "shares of a sum": (lambda m, x: m.c((h := F.relu(m.a(x) + 0.5)) / h.sum(1, keepdim=True)), VECTORS),
    "unit length": (lambda m, x: m.c((h := F.relu(m.a(x) + 0.5)) / h.norm(dim=1, keepdim=True)), VECTORS),
    "a mask that is filled in": (lambda m, x: attended(m, x, "filled"), TOKENS),
    "a mask that is added": (lambda m, x: attended(m, x, "added"), TOKENS),
    "a mask on a layer's outputs": (
        lambda m, x: torch.softmax(m.places.new_zeros(3) + m.c(m.h(x)) + m.ahead[0, :3], -1),
        VECTORS,
    ),
    "a spectrum": (lambda m, x: m.c(torch.fft.fft(m.h(x)).abs()), VECTORS),
    "LSTM behind a ReLU": (lambda m, x: m.c(m.lstm(m.h(x))[0][:, -1]), TOKENS),
    "GRU over the second dimension": (lambda m, x: m.c(m.gru(m.h(x).transpose(0, 1))[0][-1]), TOKENS),
    "attention over the second dimension": (time_first, TOKENS),
    "rounded in between": (lambda m, x: m.c((m.h(x) * 8).to(torch.int32).float() / 8), VECTORS),
}
CODINGS = {
    "sums": (methods.ShiftedThreshold(timesteps=10, correction="none"), 0.03),
    "rates": (methods.SignedIF(timesteps=128, correction="none"), 0.08),
}


@pytest.mark.filterwarnings("error::snnconv.ConversionWarning")
@pytest.mark.parametrize("name", [*MIXING, *APART])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_network_is_itself_however_it_mixes_its_dimensions(name: str, coding: str) -> None:
    torch.manual_seed(0)
    function, shape = (MIXING | APART)[name]
    model, x = Net(function).eval(), torch.randn(shape)
    method, bound = CODINGS[coding]
    snn = snnconv.convert(model, method, x, progress=False)
    with torch.no_grad():
        want = model(x)
    got = snn(x)
    assert got.shape == want.shape
    assert float((got - want).norm() / want.norm()) < bound
    for _, last in snn.stream(x):
        assert last.shape == want.shape
    torch.testing.assert_close(last, got, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*MIXING, *APART])
def test_a_batch_is_cut_only_where_its_inputs_are_apart(name: str) -> None:
    torch.manual_seed(0)
    function, shape = (MIXING | APART)[name]
    model, x = Net(function).eval(), torch.randn(shape)
    snn = snnconv.convert(model, methods.ShiftedThreshold(timesteps=8, correction="none"), x, progress=False)
    whole = snn(x)
    snn.memory_budget = 1
    assert (len(snn.slices(x)) == 1) == (name in MIXING)
    torch.testing.assert_close(snn(x), whole, rtol=1e-3, atol=1e-4)


def test_early_exit_needs_inputs_that_are_apart() -> None:
    torch.manual_seed(0)
    model, x = Net(MIXING["mean of the batch"][0]).eval(), torch.randn(8, 6)
    snn = snnconv.convert(model, methods.IF(timesteps=8, correction="none"), x, progress=False)
    with pytest.raises(snnconv.ConversionError, match="have to do with one another"):
        snn.early_exit(x, margin=0.1)


class Normalised(nn.Module):
    """A convolution with standardised weights, and a bias that layers make of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.gain = nn.Parameter(torch.rand(4) + 0.5)
        self.table = nn.Parameter(torch.randn(4, 2))
        self.bias = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, 4, -1), None, None, weight=self.gain, training=True, momentum=0.0, eps=1e-6
        )
        return F.relu(F.conv2d(x, weight.reshape_as(self.weight), self.bias(self.table).flatten()))


def test_what_no_input_changes_is_computed_once_and_is_no_site() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Normalised(), nn.Conv2d(4, 2, 1)).eval()
    x = torch.randn(16, 3, 8, 8)
    source = source_graph(model)
    assert list(source.sites) == ["0.relu"]
    assert [n.target for n in source.graph.nodes if n.op == "call_function" and n.target is F.batch_norm] == []
    snn = snnconv.convert(model, methods.ShiftedThreshold(timesteps=8), x, progress=False)
    with torch.no_grad():
        want = model(x)
    assert float((snn(x) - want).norm() / want.norm()) < 0.03


def test_dropout_of_a_constant_stays_random() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.linear(x, F.dropout(self.weight, 0.5, True)))

    source = source_graph(Noisy())
    assert any(n.target is F.dropout for n in source.graph.nodes)


def test_a_chain_of_analog_operators_is_exact_at_every_step() -> None:
    torch.manual_seed(0)

    def chain(m: Net, x: Tensor) -> Tensor:
        return torch.log(torch.softmax(torch.sigmoid(m.c(m.h(x))), -1))

    source = source_graph(Net(chain).eval())
    x, steps = torch.randn(2, 6), 4

    def neuron(site: str, z: Tensor) -> Tensor:
        return source.sites[site].activation(z)

    want = Executor(source, neuron)(x)
    held = Executor(source, neuron).steps(x, steps)
    torch.testing.assert_close(held.values, want.expand(steps, *want.shape))
    torch.testing.assert_close(held.shares.mean(0), want)


@pytest.mark.parametrize("coding", ["rate", "sum"])
@pytest.mark.parametrize("function", ["shares of a sum", "unit length"])
def test_what_is_undefined_without_spikes_is_right_from_the_first_spikes_on(function: str, coding: str) -> None:
    torch.manual_seed(0)
    source = source_graph(Net(APART[function][0]).eval())
    x, steps = torch.randn(2, 6), 5

    def late(site: str, z: Tensor) -> Tensor:
        out = source.sites[site].activation(z if coding == "rate" else z.sum(0))
        seq = torch.zeros(steps, *out.shape[-2:])
        seq[2:] = out[-1] * steps / 3 if coding == "rate" else out / 3
        return seq

    want = Executor(source, lambda site, z: source.sites[site].activation(z), coding)(x)
    out = Executor(source, late, coding).steps(x, steps)
    assert bool(torch.isfinite(out).all())
    torch.testing.assert_close(out.mean(0) if coding == "rate" else out.sum(0), want)


class Excited(nn.Module):
    """A residual block with a squeeze and excitation in front of its last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.down, self.up, self.last = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        y = F.hardswish(self.b(h))
        y = y * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        return self.last((self.c(y) + h).mean((2, 3)))


@pytest.mark.filterwarnings("error::snnconv.ConversionWarning")
@pytest.mark.parametrize("coding", CODINGS)
def test_a_sum_with_a_convolution_of_analog_values_is_right_however_it_runs(coding: str) -> None:
    torch.manual_seed(0)
    model, x = Excited().eval(), torch.randn(16, 3, 6, 6)
    snn = snnconv.convert(model, CODINGS[coding][0], x, progress=False)
    with torch.no_grad():
        want = model(x)
    assert float((snn(x) - want).norm() / want.norm()) < 0.1
    seen = snn.readout.final(snn.run(x, observe=lambda site, out: None))
    torch.testing.assert_close(seen, snn(x), rtol=1e-3, atol=1e-4)
