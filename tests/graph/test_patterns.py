"""ReLUs that are written as arithmetic: what is one is seen, what is none is left, and no value changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import snnconv
from snnconv import ConversionError, activations, methods
from snnconv.graph.activation import ReLU
from snnconv.graph.capture.curves import Curve, Lines, Unknown
from snnconv.graph.capture.fx import source_graph, trace_graph
from snnconv.graph.capture.passes import passes
from snnconv.graph.source import SourceGraph
from snnconv.runtime.executor import Executor

X = torch.randn(64, 6)
Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A ReLU, and ``act`` behind the second layer."""

    def __init__(self, act: Function) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.act = act if isinstance(act, nn.Module) else Written(act)
        nn.init.normal_(self.norm.weight, 1, 0.3)
        self.norm.running_mean.normal_(0, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.act(self.b(F.relu(self.norm(self.a(x))))))


class Written(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


def run(source: SourceGraph, x: Tensor) -> Tensor:
    return Executor(source, lambda site, z: source.sites[site].activation(z))(x)


RELUS: dict[str, tuple[Function, float | None]] = {
    "where >": (lambda z: torch.where(z > 0, z, 0.0), None),
    "where >=": (lambda z: torch.where(z >= 0, z, torch.zeros_like(z)), None),
    "where <": (lambda z: torch.where(z < 0, torch.zeros_like(z), z), None),
    "where <=": (lambda z: torch.where(z.le(0), torch.zeros(z.shape), z), None),
    "where, the constant first": (lambda z: torch.where(z > 0, z, z.new_zeros(())), None),
    "method where": (lambda z: z.where(z > 0, torch.zeros(())), None),
    "where of no": (lambda z: torch.where(~(z > 0), 0.0, z), None),
    "maximum": (lambda z: torch.maximum(z, torch.zeros((), device=z.device)), None),
    "maximum of a multiple": (lambda z: torch.maximum(2 * z, torch.zeros(())), None),
    "maximum, the constant first": (lambda z: torch.maximum(torch.zeros_like(z), z), None),
    "max of two": (lambda z: torch.max(z, torch.zeros(1)), None),
    "method max": (lambda z: z.max(torch.zeros(1)), None),
    "mask": (lambda z: z * (z > 0), None),
    "mask as numbers": (lambda z: (z >= 0).float() * z, None),
    "mask of its type": (lambda z: (z > 0).to(z.dtype) * z, None),
    "masked_fill": (lambda z: z.masked_fill(z < 0, 0.0), None),
    "half of z and |z|": (lambda z: (z + z.abs()) / 2, None),
    "z less its negative part": (lambda z: z - torch.clamp(z, max=0), None),
    "minus the minimum": (lambda z: -torch.minimum(-z, torch.zeros(())), None),
    "clamp of a clamp": (lambda z: z.clamp(max=1).clamp(min=0), 1.0),
    "clamp_max of a ReLU": (lambda z: torch.clamp_max(F.relu(z), 2.0), 2.0),
    "ReLU of a clamp": (lambda z: F.relu(torch.clamp(z, -1, 1)), 1.0),
    "minimum and maximum": (lambda z: torch.minimum(torch.maximum(z, torch.zeros(())), torch.ones(())), 1.0),
    "clip by two wheres": (
        lambda z: torch.where(z < 0, torch.zeros_like(z), torch.where(z > 1, torch.ones_like(z), z)),
        1.0,
    ),
    "a clamp and a where that adds nothing": (lambda z: torch.where(z.clamp(0, 1) < 0, 0.0, z.clamp(0, 1)), 1.0),
    "two bounds at once": (lambda z: torch.where((z > 0) & (z < 1), z, (z >= 1).float()), 1.0),
}


@pytest.mark.parametrize("spelling", RELUS)
def test_a_relu_is_a_site_however_it_is_written(spelling: str) -> None:
    function, cap = RELUS[spelling]
    net = Net(function).eval()
    source = source_graph(net)
    first, second = source.sites.values()
    assert (first.function, second.function) == (ReLU(), ReLU(cap))
    assert second.name.startswith("act.")
    torch.testing.assert_close(run(source, X), net(X))
    snn = snnconv.convert(net, methods.ShiftedThreshold(8, thresholds="max"), X, strict=True, progress=False)
    assert snn.report.analog == []
    assert set(snn.report.reads.values()) == {"input", "spikes"}
    assert bool(snnconv.audit(snn, X))
    assert (snn(X) - net(X)).norm() < 0.05 * net(X).norm()


NO_RELU: dict[str, tuple[Function, set[str]]] = {
    "another slope below": (lambda z: torch.where(z > 0, z, 0.1 * z), {"gt", "where"}),
    "another threshold": (lambda z: torch.where(z > 0.5, z, 0.0), {"gt", "where"}),
    "another slope above": (lambda z: torch.where(z > 0, 2 * z, 0.0), {"gt", "where"}),
    "another bound": (lambda z: torch.maximum(z, torch.full((), 0.1)), {"maximum"}),
    "of two values": (lambda z: torch.where(z > 0, z, z.flip(1)), {"gt", "where"}),
    "a step": (lambda z: (z > 0).float(), {"gt"}),
    "a square": (lambda z: z * z * (z > 0), {"mul", "gt"}),
    "hard swish": (lambda z: z * F.relu6(z + 3) / 6, {"mul"}),
    "one bound for each channel": (lambda z: torch.minimum(F.relu(z), torch.linspace(0.1, 2, 16)), {"minimum"}),
    "the largest of a row": (lambda z: z - torch.max(z, 1, keepdim=True)[0], {"max"}),
}


@pytest.mark.parametrize("spelling", NO_RELU)
def test_what_is_no_relu_stays_analog_and_strict_refuses_it(spelling: str) -> None:
    function, operators = NO_RELU[spelling]
    net = Net(function).eval()
    source = source_graph(net)
    torch.testing.assert_close(run(source, X), net(X))
    snn = snnconv.convert(net, methods.ShiftedThreshold(8), X, progress=False)
    assert operators <= {a.operator for a in snn.report.analog}
    with pytest.raises(ConversionError, match=rf"strict=True.*{next(iter(operators))}"):
        snnconv.convert(net, methods.ShiftedThreshold(8), X, strict=True, progress=False)


def test_each_relu_of_several_in_a_row_is_a_site_of_its_own() -> None:
    assert len(source_graph(Net(lambda z: F.relu(F.relu(z)))).sites) == 3
    assert len(source_graph(Net(lambda z: F.relu(z.clamp(0, 6)))).sites) == 3
    assert len(source_graph(Net(lambda z: F.relu(torch.where(z > 0, z, 0.0)))).sites) == 3


@pytest.mark.parametrize("spelling", ["where >", "where <", "masked_fill", "maximum", "mask", "half of z and |z|"])
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(lambda z: F.relu(0.5 - z), id="of a difference"),
        pytest.param(lambda z: torch.relu(F.relu(z) * 0.7 - 0.1), id="twice, shifted"),
        pytest.param(lambda z: F.relu(z).clamp(-0.5, 0.5), id="under a bound"),
        pytest.param(lambda z: 1 - F.relu(z), id="subtracted"),
    ],
)
def test_a_relu_written_as_arithmetic_behind_another_is_one_of_its_own(before: Function, spelling: str) -> None:
    net = Net(lambda z: RELUS[spelling][0](before(z))).eval()
    source = source_graph(net)
    torch.testing.assert_close(run(source, X), net(X))
    snn = snnconv.convert(net, methods.SignedIF(256, thresholds="max"), X, strict=True, progress=False)
    assert snn.report.analog == []
    assert (snn(X) - net(X)).norm() < 0.05 * net(X).norm()
    quantised = snnconv.prepare(net, activations.QuantReLU(7), X, progress=False).eval()
    assert {site.kind for site in source_graph(quantised).sites.values()} == {"quant"}


def test_a_mask_that_others_read_stays_for_them() -> None:
    def forward(z: Tensor) -> Tensor:
        mask = z > 0
        return z * mask + mask.float()

    net = Net(forward).eval()
    source = source_graph(net)
    assert len(source.sites) == 2
    torch.testing.assert_close(run(source, X), net(X))


@pytest.mark.parametrize("spelling", ["where >", "masked_fill", "maximum", "mask", "half of z and |z|"])
def test_a_relu_written_as_arithmetic_is_one_site_for_all_that_read_it_also_turned_twice(spelling: str) -> None:
    def forward(z: Tensor) -> Tensor:
        turned = RELUS[spelling][0](z) / -1.0
        return F.relu(-turned) + turned / 2

    net = Net(forward).eval()
    source = source_graph(net)
    assert len(source.sites) == 3  # the network's own, the one written as arithmetic, and the one behind it
    torch.testing.assert_close(run(source, X), net(X))
    snn = snnconv.convert(net, methods.ShiftedThreshold(8), X, strict=True, progress=False)
    assert snn.report.analog == []
    quantised = snnconv.prepare(net, activations.QuantReLU(7), X, progress=False).eval()
    assert {site.kind for site in source_graph(quantised).sites.values()} == {"quant"}


def test_arithmetic_that_is_a_site_already_stays_as_it_was() -> None:
    source = source_graph(Net(lambda z: torch.clamp(z / 2.0, 0, 1) * 2.0))
    assert [n.target.__name__ for n in source.graph.nodes if "div" in str(n.target) or "mul" in str(n.target)] == [
        "truediv",
        "mul",
    ]


# --- quantised activations ---------------------------------------------------------------------------------


class Floor(torch.autograd.Function):
    """⌊v⌋ with a straight-through gradient."""

    @staticmethod
    def forward(ctx, v: Tensor) -> Tensor:
        return v.floor()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return grads[0]


class Own(nn.Module):
    """A quantised activation of one's own, with a clip that learns."""

    def __init__(self, function: Callable[[Tensor, Tensor, int], Tensor], levels: int = 4) -> None:
        super().__init__()
        self.clip, self.levels, self.function = nn.Parameter(torch.tensor([1.3])), levels, function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z, self.clip, self.levels)


QUANTISERS: dict[str, tuple[Callable[[Tensor, Tensor, int], Tensor], bool]] = {
    "floor": (lambda z, a, n: Floor.apply(torch.clamp(z / a, 0, 1) * n + 0.5) / n * a, False),
    "floor first": (lambda z, a, n: torch.clamp(torch.floor(z * n / a + 0.5) / n, 0, 1) * a, False),
    "floor of a ReLU": (lambda z, a, n: torch.clamp(torch.floor(F.relu(z) * n / a + 0.5), max=n) * (a / n), False),
    "round": (lambda z, a, n: torch.round(z.clamp(0, 1.3) / a * n) * a / n, False),
    "detach": (lambda z, a, n: (y := z.clamp(0, 1.3) / a * n) + (y.round() - y).detach(), None),
    "floor without a half": (lambda z, a, n: torch.floor(torch.clamp(z / a, 0, 1) * n) / n * a, True),
    "ceil": (lambda z, a, n: torch.ceil(torch.clamp(z / a, 0, 1) * n - 0.5) / n * a, None),
    "where": (lambda z, a, n: torch.floor(torch.where(z > 0, z, 0.0).clamp(max=1.3) / a * n + 0.5) / n * a, False),
}


@pytest.mark.parametrize("spelling", [k for k, v in QUANTISERS.items() if v[1] is not None])
def test_a_quantised_activation_of_ones_own_is_seen(spelling: str) -> None:
    function, shifted = QUANTISERS[spelling]
    net = Net(Own(function)).eval()
    site = list(source_graph(net).sites.values())[1]
    assert (site.kind, site.levels, site.name) == ("quant", 4, "act.quant")
    assert float(site.threshold) == pytest.approx(1.3)
    torch.testing.assert_close(run(source_graph(net), X), net(X))
    twin = copy.deepcopy(net)
    twin.act = activations.QuantReLU(4, clip=1.3)
    if not shifted:
        torch.testing.assert_close(net(X), twin.eval()(X))
    snn = snnconv.convert(net, methods.IF(4, correction="none"), X, strict=True, progress=False)
    assert snn.report.analog == []
    (note,) = [n for n in snn.report.notes if "quantised" in n]
    assert note.startswith("act: read as a quantised activation of 4 levels up to 1.3")
    assert ("shifted" in note) is shifted


@pytest.mark.parametrize(
    "function",
    [
        QUANTISERS["detach"][0],  # in units of its levels, not of its input
        lambda z, a, n: torch.floor(torch.clamp(z / a, -1, 1) * n + 0.5) / n * a,  # of both signs
        lambda z, a, n: torch.floor(F.relu(z) / a * n + 0.5) / n * a,  # without a last level
        lambda z, a, n: torch.floor(torch.floor(z.clamp(0, 1.3) * n) / 2) / n,  # rounded twice
    ],
)
def test_a_rounding_that_is_no_quantised_relu_is_left_and_refused(function) -> None:
    net = Net(Own(function)).eval()
    source = source_graph(net)
    assert "quant" not in {site.kind for site in source.sites.values()}
    torch.testing.assert_close(run(source, X), net(X))
    with pytest.raises(ConversionError, match=r"strict=True.*(floor|round)"):
        snnconv.convert(net, methods.ShiftedThreshold(8), X, strict=True, progress=False)


@pytest.mark.parametrize(
    "bound",
    [
        lambda z: torch.ones_like(z).sum(1, keepdim=True) / 8,
        lambda z: torch.ones_like(z).cumsum(1) / 4,
        lambda z: torch.ones_like(z).softmax(1) * 2,
        lambda z: z.new_ones(z.shape[0], 16).cumsum(1) / 4,
    ],
    ids=["sum", "cumsum", "softmax", "of a shape"],
)
def test_what_sums_a_filled_tensor_is_not_its_number(bound: Function) -> None:
    net = Net(Written(lambda z: torch.minimum(F.relu(z), bound(z)))).eval()
    x = 3 * X
    torch.testing.assert_close(run(source_graph(net), x), net(x))
    torch.testing.assert_close(
        snnconv.convert(net, methods.ShiftedThreshold(12, thresholds="max"), x, progress=False)(x), net(x),
        atol=5e-3, rtol=0,
    )  # fmt: skip


def test_a_quantised_activation_of_another_slope_is_one_in_other_units() -> None:
    net = Net(Own(lambda z, a, n: torch.floor(torch.clamp(z / a, 0, 1) * n + 0.5) / n * (2 * a))).eval()
    snn = snnconv.convert(net, methods.ShiftedThreshold(8, thresholds="max"), X, strict=True, progress=False)
    (seen,) = [site for site in snn.program.sites.values() if site.kind == "quant"]
    assert (seen.levels, float(seen.threshold)) == (4, 1.0)
    torch.testing.assert_close(run(source_graph(net), X), net(X))


def test_prepare_replaces_relus_however_they_are_written_and_leaves_quantised_ones() -> None:
    net = nn.Sequential(
        nn.Linear(6, 8), Written(RELUS["mask"][0]), nn.Linear(8, 8), Own(QUANTISERS["floor"][0]), nn.Linear(8, 2)
    )
    twin = snnconv.prepare(net, activations.QuantReLU(4), X)
    assert [type(m).__name__ for m in twin.modules() if isinstance(m, activations.TrainedActivation)] == ["QuantReLU"]
    twin(X).sum().backward()
    assert net[3].clip.grad is None
    assert [site.levels for site in source_graph(twin.eval()).sites.values()] == [4, 4]


# --- the algebra -------------------------------------------------------------------------------------------

CONSTANTS = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("+*<>mMfab"), CONSTANTS), min_size=1, max_size=6), st.data())
def test_a_curve_is_its_function(steps, data) -> None:
    """Random chains of operators, against the numbers themselves."""
    x = torch.arange(-64, 65, dtype=torch.float64) / 16  # exact, as all that is made of it
    y, curve = x, Curve(Lines.identity())
    for step, number in steps:
        constant = Curve(Lines.constant(number))
        c = torch.full_like(x, number)
        try:
            if step == "+":
                new, value = curve + constant, y + c
            elif step == "*":
                new, value = curve * constant, y * c
            elif step in "<>":
                flag = Lines.compare(curve.lines, constant.lines, step) if curve.stairs is None else None
                if flag is None:
                    continue
                value = (y > c).double() if step == ">" else (y < c).double()
                new = Curve(flag)
            elif step == "m":
                new, value = curve.bounded(None, number), torch.minimum(y, c)
            elif step == "M":
                new, value = curve.bounded(number, None), torch.maximum(y, c)
            elif step == "f":
                new, value = curve.floor(), torch.floor(y)
            elif step == "a":
                new, value = curve + Curve(Lines.identity()), y + x
            else:
                new, value = curve * Curve(Lines.identity().compare(constant.lines, ">")), y * (x > c)
        except Unknown:
            continue
        y, curve = value, new
    lines = torch.tensor([curve.lines.at(float(v)) for v in x], dtype=torch.float64)
    if curve.stairs is not None:
        stairs = torch.tensor([curve.stairs.at(float(v)) for v in x], dtype=torch.float64)
        lines = lines + curve.height * torch.floor(stairs)
    torch.testing.assert_close(lines, y)
    kind = curve.relu()
    if kind is not None:
        torch.testing.assert_close(kind(x), y)


# --- passes ------------------------------------------------------------------------------------------------


def interpreted(source: SourceGraph, x: Tensor) -> Tensor:
    """The graph as it stands, run by torch.fx."""
    holder = nn.Module()
    renamed = {}
    for number, (name, tensor) in enumerate(source.tensors.items()):
        renamed[name] = f"t{number}"
        holder.register_buffer(renamed[name], tensor)
    for number, (name, module) in enumerate(source.modules.items()):
        renamed[name] = f"m{number}"
        holder.add_module(renamed[name], module)
    copied = source.copy()
    for node in copied.graph.nodes:
        if node.op in ("get_attr", "call_module"):
            node.target = renamed[node.target]

    class Sites(fx.Interpreter):
        def call_function(self, target, args, kwargs):
            if target.__name__ == "activation_site":
                return source.sites[kwargs["site"]].activation(args[0])
            return super().call_function(target, args, kwargs)

    return Sites(holder, graph=copied.graph).run(x)


PASSED: dict[str, Callable[[], nn.Module]] = {
    **{name: (lambda f=f: Net(f)) for name, (f, _) in RELUS.items() if name.startswith(("where", "clamp", "mask"))},
    **{f"quantised, {name}": (lambda f=f: Net(Own(f))) for name, (f, _) in QUANTISERS.items()},
    "max-pooling": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2)
    ),
}


@pytest.mark.parametrize("name", PASSED)
def test_every_pass_keeps_what_the_network_computes(name: str) -> None:
    model = PASSED[name]().eval()
    source = trace_graph(model)
    for step in passes():
        step.run(source)
        source.graph.lint()
        torch.testing.assert_close(interpreted(source, X), model(X), msg=lambda text, step=step: f"{step.name}: {text}")


# --- modules of PyTorch's that hold ReLUs ------------------------------------------------------------------


def layer(**more) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, activation="relu", batch_first=True, **more)


TOKENS = torch.randn(16, 5, 6)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: layer(), 2),
        (lambda: layer(norm_first=True), 2),
        (lambda: nn.TransformerEncoder(layer(), 2), 3),
        (lambda: nn.TransformerEncoder(layer(), 2, norm=nn.LayerNorm(8)), 3),
    ],
    ids=["layer", "norm first", "encoder", "encoder with a norm"],
)
def test_the_relu_inside_a_transformer_becomes_neurons(make, count: int) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), make(), nn.Linear(8, 3)).eval()
    source = source_graph(net)
    assert len(source.sites) == count
    assert all(site.axis == -1 for site in source.sites.values())
    torch.testing.assert_close(run(source, TOKENS), net(TOKENS), rtol=1e-4, atol=1e-5)
    snn = snnconv.convert(net, methods.ShiftedThreshold(10), TOKENS, progress=False)
    assert {a.operator for a in snn.report.analog} == {"MultiheadAttention", "layer_norm"}
    assert (snn(TOKENS) - net(TOKENS)).norm() < 0.05 * net(TOKENS).norm()


def test_the_relus_of_a_decoder_and_of_a_whole_transformer_become_neurons() -> None:
    class Decodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kind = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
            self.a, self.decoder = nn.Linear(6, 8), nn.TransformerDecoder(kind, 2)
            self.both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
            self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool).triu(1))

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.a(x))
            x = self.decoder(x, x, tgt_mask=self.mask, tgt_is_causal=True)
            return self.both(x, x, src_mask=self.mask)

    net = Decodes().eval()
    source = source_graph(net)
    assert len(source.sites) == 5
    torch.testing.assert_close(run(source, TOKENS), net(TOKENS), rtol=1e-4, atol=1e-5)


def test_a_transformer_layer_of_ones_own_stays_whole_and_strict_refuses_it() -> None:
    class Mine(nn.TransformerEncoderLayer):
        def forward(self, src: Tensor, *args, **kwargs) -> Tensor:
            return super().forward(src) + src

    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Mine(8, 2, 16, batch_first=True), nn.Linear(8, 3)).eval()
    with pytest.raises(ConversionError, match=r"strict=True.*Mine"):
        snnconv.convert(net, methods.ShiftedThreshold(6), TOKENS, strict=True, progress=False)
