"""Capture by torch.export: what torch.fx cannot follow becomes a graph of the same operators, with the same sites."""

from __future__ import annotations

import abc
import builtins
import copy
import operator
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import snnconv
from snnconv import ConversionError, methods
from snnconv.activations import QuantReLU
from snnconv.graph.capture.aten import SPELLED
from snnconv.graph.capture.aten_rewritten import REWRITTEN
from snnconv.graph.capture.exported import exported_graph
from snnconv.graph.capture.fx import TraceFailure, source_graph
from snnconv.graph.capture.whole_numbers import whole_numbers
from snnconv.graph.ops import operator_of, qualified_name
from snnconv.graph.sizes import Sizes
from snnconv.graph.source import SourceGraph
from snnconv.runtime.batch import Batch
from snnconv.runtime.program import GraphProgram
from tests.graph.users_own import Squareplus, squareplus

IMAGES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(2))
ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
Both = namedtuple("Both", "first second")


@dataclass
class Made:
    logits: Tensor
    features: Tensor


class Net(nn.Module):
    """Two convolutions, a head, and a forward that a test gives."""

    def __init__(self, forward: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.norm, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.relu, self.head = nn.ReLU(), nn.Linear(8, 4)
        self.table = nn.Parameter(torch.rand(8, 8))
        self.register_buffer("scale", torch.full((8, 1, 1), 0.5))
        self.norm.running_mean.uniform_(-0.1, 0.1)
        self.norm.running_var.uniform_(0.5, 1.5)
        self.way = forward

    def forward(self, x: Tensor) -> Any:
        return self.way(self, x)


def by_shape(m: Net, x: Tensor) -> Tensor:
    y = m.relu(m.norm(m.one(x)))
    if y.shape[-1] > 8:  # decides by a size
        y = m.relu(m.two(y)) * m.scale
    return m.head(y.mean((2, 3)))


def looped(m: Net, x: Tensor) -> dict[str, Tensor]:
    y, found = m.one(x), {}
    for part in torch.unbind(y, 1)[:3]:  # iterates over a traced value
        found[f"part{len(found)}"] = torch.relu(part).mean((1, 2))
    return {**found, "out": m.head(F.relu(m.two(y)).mean((2, 3)))}


def named(m: Net, x: Tensor) -> Both:
    y = F.relu(m.one(x), inplace=True)
    return Both(m.head(y.amax((2, 3))), [y for _ in range(int(x.dim()) - 3)])


def recorded(m: Net, x: Tensor) -> Made:
    y = m.relu(m.one(x))
    assert y.shape[0] == x.shape[0]
    return Made(m.head(y.mean((-2, -1))), y)


def written(m: Net, x: Tensor) -> Tensor:
    y = m.one(x)
    y[:, 0] = 0  # changes y itself through a part of it
    y[:, :, 0] += 1.0
    y.clamp_(min=0)
    z = y
    z.mul_(2)
    return m.head(m.relu(m.two(y)).mean((2, 3)))


def rearranged(m: Net, x: Tensor) -> Tensor:
    y = m.relu(m.one(x))
    b, c, h, w = map(int, y.shape[:1]) if False else y.shape
    tokens = y.reshape(b, c, h * w).permute(0, 2, 1).reshape(b, h * w, 2, c // 2).transpose(1, 2)
    mixed = torch.einsum("bhnc,bhmc->bhnm", tokens, tokens).softmax(-1) @ tokens
    y = mixed.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2)
    return m.head(F.relu(torch.addmm(m.table[0], y.mean((2, 3)), m.table)))


WAYS = {"a decision by a size": by_shape, "a loop over values": looped, "a named tuple": named,
        "a dataclass": recorded, "parts that are overwritten": written, "einops by hand": rearranged}  # fmt: skip


def run(source: SourceGraph, x: Any) -> Any:
    return GraphProgram(source).static(x, lambda site, z: source.sites[site].activation(z))


def close(got: Any, expected: Any) -> None:
    if isinstance(expected, Made):
        assert isinstance(got, Made)
        got, expected = (got.logits, got.features), (expected.logits, expected.features)
    assert isinstance(got, type(expected))
    for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@torch.no_grad()
def test_the_graph_gives_what_the_network_gives_at_every_batch(way: Any) -> None:
    model = Net(way).eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    for x in (IMAGES, IMAGES[:1], IMAGES[:2]):
        close(run(source, x), model(x.clone()))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_it_converts_is_saved_and_loaded(way: Any, tmp_path: Path) -> None:
    model = Net(way).eval()
    snn = snnconv.convert(model, methods.ShiftedThreshold(10, thresholds="max"), IMAGES, progress=False)
    assert snn.report is not None
    assert snn.report.path == "graph"
    with torch.no_grad():
        expected = tree_leaves(model(IMAGES.clone()) if way is not recorded else model(IMAGES).logits)
    out = snn(IMAGES)
    got = tree_leaves(out.logits if way is recorded else out)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)
    if way is not recorded:  # a class of the user's own is no part of a file
        snnconv.save(snn, tmp_path / "net.safetensors")
        for a, b in zip(tree_leaves(snnconv.load(tmp_path / "net.safetensors")(IMAGES)), got, strict=True):
            assert torch.equal(a, b)


def test_the_report_says_which_way_and_how_long() -> None:
    traced = snnconv.convert(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), methods.IF(4), ROWS)
    exported = snnconv.convert(Net(by_shape).eval(), methods.IF(4), IMAGES)
    for snn, way in ((traced, "torch.fx"), (exported, "torch.export")):
        assert snn.report is not None
        assert snn.report.capture == way
        assert f"converted through the graph ({way})" in str(snn.report)
        assert snn.report.seconds["capture"] > 0


def test_sites_have_the_names_that_tracing_gives_them() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU6(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.bn(self.conv(x)))
            return self.act(F.relu(y + x).clamp(min=0) - F.hardtanh(y, 0, 2))

    model = nn.Sequential(Block(), Block(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    traced, exported = source_graph(model), exported_graph(model, {"input": IMAGES[:2]})
    assert list(exported.sites) == list(traced.sites)
    assert [(s.cap, s.axis) for s in exported.sites.values()] == [(s.cap, s.axis) for s in traced.sites.values()]
    assert not any(n.target is F.batch_norm for n in exported.graph.nodes)


# --- sizes -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_sizes_vary_as_far_as_the_network_takes_the_same_way() -> None:
    model = Net(by_shape).eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    program = GraphProgram(source)
    for shape in ((1, 3, 12, 20), (3, 3, 9, 9)):
        x = torch.rand(shape)
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-4, atol=1e-5)
    for shape, why in (((2, 3, 12, 8), "dimension 3 of x is 8.*9 or more"), ((2, 4, 12, 12), "dimension 1 of x is 4")):
        with pytest.raises(ConversionError, match=f"{why}.*calibration inputs of this size"):
            program.static(torch.rand(shape), lambda site, z: z)


def test_a_converted_network_refuses_a_size_it_was_not_captured_for(tmp_path: Path) -> None:
    snn = snnconv.convert(Net(by_shape).eval(), methods.ShiftedThreshold(4), IMAGES, progress=False)
    snnconv.save(snn, tmp_path / "net.safetensors")
    for network in (snn, snnconv.load(tmp_path / "net.safetensors"), copy.deepcopy(snn)):
        assert network(torch.rand(2, 3, 16, 16)).shape == (2, 4)
        with pytest.raises(ConversionError, match="dimension 3 of x is 7"):
            network(torch.rand(2, 3, 16, 7))


def test_a_network_for_one_size_says_so() -> None:
    class Fixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = self.relu(self.one(x))
            return self.head(sum(y[..., i, :].mean(-1) for i in range(int(x.shape[2]))))

    source = exported_graph(Fixed().eval(), {"x": IMAGES[:2]})
    assert source.sizes is not None
    assert source.sizes.dims["x"][2] == 12
    assert source.sizes.refusal({"x": (2, 3, 13, 12)}) == "dimension 2 of x is 13, and was captured for 12"


def test_a_batch_that_must_be_one_size_is_no_graph() -> None:
    class Fixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.relu(self.one(x)).mean((2, 3))) * len(x)

    with pytest.raises(TraceFailure):
        exported_graph(Fixed(), {"x": IMAGES[:2]})


class Windows(Net):
    """Cuts its maps in windows and puts them together again, as Swin's first code does."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.one(x))
        channels, height, width = y.shape[1:]
        windows = (
            y.view(-1, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, channels)
        )
        windows = self.relu(windows - windows.mean(1, keepdim=True))
        count = int(windows.shape[0] / (height * width / 4 / 4))
        assert isinstance(count, (int, torch.SymInt))
        y = windows.view(count, height // 4, width // 4, 4, 4, -1).permute(0, 1, 3, 2, 4, 5)
        return self.head(y.reshape(count, height * width, -1).mean(1))


@torch.no_grad()
def test_a_batch_computed_by_int_from_a_quotient_stays_free() -> None:
    model = Windows().eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    for x in (IMAGES, IMAGES[:1]):
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-4, atol=1e-5)
    assert "int" not in globals(), "what stood for it is gone"
    snn = snnconv.convert(
        model, methods.ShiftedThreshold(6, correction="none"), IMAGES, cover="synapses", progress=False
    )
    assert snn.report is not None
    assert snn.report.capture == "torch.export"


@torch.no_grad()
def test_of_the_batch_alone_any_number_of_conditions_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnconv.graph.capture.program.QUESTIONS", 0)
    model = Windows().eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    torch.testing.assert_close(run(source, IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    assert source.sizes is not None
    assert source.sizes.dims["x"][1:] == [3, 12, 12], "with all sizes free too much was asked"


@torch.no_grad()
@pytest.mark.parametrize("over", [lambda a: a / 9.0, lambda a: a / (12 * 12 / 4 / 4), lambda a: a / 9])
def test_a_batch_computed_by_int_from_a_quotient_is_known_for_the_batch(over: Callable[[Any], Any]) -> None:
    counts: list[tuple[str, str]] = []

    class Counted(Net):
        def forward(self, x: Tensor) -> Tensor:
            windows = self.relu(self.one(x)).reshape(9 * x.shape[0], 16, 8)
            count = int(over(windows.shape[0]))
            if not isinstance(count, int):
                counts.append((str(count), str(x.shape[0])))
            return self.head(windows.view(count, 144, 8).mean(1))

    model = Counted().eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    assert counts, "a size of no name"
    assert [count for count, _ in counts] == [batch for _, batch in counts], (
        "or the sizes of each layer hold those of all before it"
    )
    torch.testing.assert_close(run(source, IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "size",
    [lambda a: int(a / 49 * 49), lambda a: int(a / 5), lambda a: int(abs(a - 20))],  # not a, not whole, not a - 20
)
def test_no_other_size_is_taken_for_simpler(size: Callable[[Any], Any]) -> None:
    counts: list[Any] = []

    class Counted(Net):
        def forward(self, x: Tensor) -> Tensor:
            counts.append(size(x.shape[0]))
            return self.head(self.relu(self.one(x)).mean((2, 3))) + counts[-1]

    model = Counted().eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    for x in (IMAGES, IMAGES[:1], IMAGES[:1].expand(49, -1, -1, -1)):
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-4, atol=1e-5)


class Sequences(Net):
    """Attention over positions, which come first, with keys of a coarser map, as in SegFormer of mmseg."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm_of_keys = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        height, width = y.shape[2:]
        if height != 12 and height > 1000:  # so that it does not trace
            return y
        rows = y.flatten(2).transpose(1, 2)
        keys = (
            F.avg_pool2d(rows.transpose(1, 2).reshape(-1, 8, height, width), 2).flatten(2).transpose(1, 2).contiguous()
        )
        keys = self.norm_of_keys(keys).transpose(0, 1)
        found = self.attention(rows.transpose(0, 1), keys, keys)[0].transpose(0, 1)
        return self.head(self.relu(rows + found).mean(1))


@torch.no_grad()
def test_what_strides_ask_of_a_batch_of_two_is_not_asked_of_one() -> None:
    model = Sequences().eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    for x in (IMAGES, IMAGES[:1]):
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-4, atol=1e-5)
    source.sizes.conditions.append(["lt", ["max", next(iter(source.sizes.ranges)), 2], 6])
    assert source.sizes.refusal({"x": (1, 3, 12, 12)}) is None
    assert "max(dimension 0 of x, 2)" in str(source.sizes.refusal({"x": (6, 3, 12, 12)}))


def test_a_graph_that_does_not_hold_for_a_batch_of_one_is_not_taken() -> None:
    class Alone(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = self.relu(self.one(x)).mean((2, 3))
            return self.head(y * 3 if len(x) == 1 else y)

    snn = snnconv.convert(Alone().eval(), methods.ShiftedThreshold(4), IMAGES, progress=False)
    assert snn.report is not None
    assert snn.report.path == "module tree"


def test_sizes_are_plain_values() -> None:
    sizes = Sizes({"x": ["n", 3, "h"]}, {"n": (1, None), "h": (2, 64)}, [["ne", ["floordiv", "h", 2], 3]])
    assert Sizes.from_dict(sizes.to_dict()) == sizes
    assert sizes.refusal({"x": (1, 3, 8)}) is None
    assert sizes.refusal({"x": (1, 3, 7)}) == "the graph was captured for inputs with (dimension 2 of x // 2) ≠ 3"
    assert sizes.refusal({"x": (1, 3)}) == "x has 2 dimensions, and was captured with 3"


WRONG = {
    "an unknown operator": {"conditions": [["eval", "n", 1]]}, "an unknown size": {"conditions": [["ne", "z", 1]]},
    "a power": {"conditions": [["pow", "n", 999]]}, "no list": {"conditions": "n"}, "no range": {"ranges": {"n": [1]}},
    "a name that no dimension has": {"ranges": {"k": [1, 2]}}, "a number beyond bounds": {"ranges": {"n": [1, 2**70]}},
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_is_no_condition_on_sizes_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match="sizes"):
        Sizes.from_dict({"dims": {"x": ["n", 3]}, "ranges": {"n": [1, None]}, "conditions": []} | change)


# --- inputs, parts, failures -------------------------------------------------------------------------------


@torch.no_grad()
def test_several_inputs_by_name_nested_and_without_a_batch() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 4), nn.Linear(5, 4)

        def forward(self, x: Tensor, pair: list[Tensor], *, gate: Tensor | None = None, flip: bool = False) -> Tensor:
            y = F.relu(self.a(x)) + F.relu(self.b(pair[0] - pair[1] if len(pair) == 2 else pair[0]))
            y = y * gate if gate is not None else y
            return -y if flip else y

    model = Two().eval()
    values = {"x": ROWS, "pair": [ROWS + 1, 2 * ROWS], "gate": torch.rand(4), "flip": True}
    source = exported_graph(model, {k: v[:2] if k == "x" else v for k, v in values.items() if k != "pair"} | {
        "pair": [v[:2] for v in values["pair"]]}, frozenset({"gate"}))  # fmt: skip
    assert source.sizes is not None
    assert list(source.sizes.dims) == ["x", "pair[0]", "pair[1]", "gate"]
    assert source.sizes.dims["gate"] == [4]
    torch.testing.assert_close(run(source, Batch(values)), model(**values))
    snn = snnconv.convert(model, methods.ShiftedThreshold(10, thresholds="max"), [values], progress=False)
    torch.testing.assert_close(snn(**values), model(**values), rtol=0.05, atol=0.02)


@torch.no_grad()
def test_trained_activations_and_activations_of_ones_own_stay_whole() -> None:
    class Own(Net):
        def __init__(self) -> None:
            super().__init__()
            self.quant = QuantReLU(7, clip=1.5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.quant(self.one(x))
            return self.head(squareplus(self.two(y)).mean((2, 3)) if y.shape[2] > 2 else y.mean((2, 3)))

    model = Own().eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    assert [(s.kind, s.levels) for s in source.sites.values()] == [("quant", 7)]
    kinds = [n.kwargs["kind"] for n in source.graph.nodes if n.op == "call_function" and "kind" in n.kwargs]
    assert kinds == [Squareplus.name]
    torch.testing.assert_close(run(source, IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    assert model.quant.forward.__func__ is QuantReLU.forward  # the model is not changed


@torch.no_grad()
def test_gradients_off_inside_the_forward_and_shared_weights() -> None:
    class Shared(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                y = self.relu(self.one(x))
            with torch.no_grad():
                y = self.relu(self.two(self.relu(self.two(y))))
            return self.head(y.mean((2, 3))) if y.shape[2] > 3 else y

    model = Shared().eval()
    source = exported_graph(model, {"x": IMAGES[:2]})
    assert list(source.sites) == ["relu", "relu:2", "relu:3"]
    torch.testing.assert_close(run(source, IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


def test_what_it_cannot_follow_is_named_and_the_module_tree_takes_over(capfd: pytest.CaptureFixture[str]) -> None:
    class Unknown(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = self.relu(self.one(x)).mean((2, 3))
            return self.head(torch.special.bessel_j0(y) if len(y.shape) == 2 and y.shape[1] > 2 else y)

    class Valued(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = self.relu(self.one(x)).mean((2, 3))
            return self.head(y if float(y.sum()) > -1 else -y)

    class Stateful(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.scale.add_(0.0)
            return self.head(self.relu(self.one(x)).mean((2, 3)) * (2 if x.shape[2] > 3 else 1))

    for model, why in ((Unknown(), "special_bessel_j0"), (Valued(), "ata-dependent"), (Stateful(), "buffer scale")):
        with pytest.raises(TraceFailure, match=why):
            exported_graph(model, {"x": IMAGES[:2]})
    snn = snnconv.convert(Unknown(), methods.ShiftedThreshold(4), IMAGES, progress=False)
    assert snn.report is not None
    assert snn.report.path == "module tree"
    assert any("special_bessel_j0" in note for note in snn.report.notes)
    assert capfd.readouterr().err == ""  # nothing of torch's own


def test_a_broken_weight_is_named() -> None:
    model = Net(by_shape)
    with torch.no_grad():
        model.two.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ConversionError, match=r"two\.weight"):
        exported_graph(model, {"x": IMAGES[:2]})


def test_progress_says_how_far_it_is() -> None:
    told: list[tuple[str, int, int]] = []
    exported_graph(Net(by_shape), {"x": IMAGES[:2]}, progress=lambda *given: told.append(given))
    assert {what for what, _, _ in told} == {"capturing the network"}
    assert told[-1][1] == told[-1][2]


def test_every_operator_that_is_spelled_anew_is_in_the_operator_table() -> None:
    known = (operator.getitem,)
    for name, spelled in SPELLED.items():
        method = isinstance(spelled.target, str)
        assert operator_of(spelled.target, method).parameters, name
        assert method or spelled.target in known or qualified_name(spelled.target), name
    assert not {*SPELLED} & {*REWRITTEN}


def test_python_s_own_modules_keep_their_int_while_a_network_s_code_has_another() -> None:
    class Net(nn.Module, abc.ABC):
        """Of one package of its own, of torch and of the standard library."""

    own, others = vars(sys.modules[Net.__module__]), [vars(abc), vars(nn.modules.module)]
    with whole_numbers(Net()):
        assert own["int"] is not builtins.int
        assert own["int"]("7") == 7
        assert all("int" not in space for space in others)
    assert "int" not in own
