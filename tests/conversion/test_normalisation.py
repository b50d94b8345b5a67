"""Softmax and normalisations by codes and ladders: the network is the one whose vectors are so quantised."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.dynamics import normalisation
from snnconv.graph.capture.exported import exported_graph
from snnconv.graph.cover import Cover
from snnconv.graph.ops import part_of_ladder
from snnconv.graph.source import activation_site
from snnconv.runtime import ladders
from snnconv.runtime.covering import encode, shapes_of
from snnconv.runtime.ladder_pass import place_ladders
from snnconv.runtime.program import GraphProgram
from tests import networks as nets
from tests.conversion.test_cover import quantised_network

# --- the formulas of docs/METHODS.md, section 7, written anew -------------------------------------------------


def codes_of_softmax(input: Tensor, dim: int, *, timesteps: int) -> Tensor:
    top = 2**timesteps - 1
    e = torch.exp(input - input.max(dim, keepdim=True).values).mul(top).add(0.5).floor() / top
    return torch.nan_to_num(e)


def scale_of_softmax(input: Tensor, dim: int, *, timesteps: int) -> Tensor:
    top = 2**timesteps - 1
    total = input.mul(top).round().sum(dim, keepdim=True) / top
    two = 2.0 ** total.log2().floor()
    return (top * two / total + 0.5).floor() / top / two


def normalised(c: Tensor, eps: float, timesteps: int) -> Tensor:
    top = 2**timesteps - 1
    q = 2.0 ** (c.abs().max(-1, keepdim=True).values.log2().floor() + 1) / 2**timesteps
    coded = (c / q + 0.5).floor().clamp(-top, top) * q
    w = coded.pow(2).mean(-1, keepdim=True) + eps
    two = 2.0 ** (w.log2() / 2).floor()
    return coded * ((top * two / w.sqrt() + 0.5).floor() / top) / two


def layer_norm(input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
               timesteps: int) -> Tensor:  # fmt: skip
    rows = input.flatten(-len(normalized_shape))
    y = normalised(rows - rows.mean(-1, keepdim=True), eps, timesteps).reshape(input.shape)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def rms_norm(input: Tensor, normalized_shape: Any, weight: Any = None, eps: Any = None, *, timesteps: int) -> Tensor:
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    y = normalised(input.flatten(-len(normalized_shape)), eps, timesteps).reshape(input.shape)
    return y * (1 if weight is None else weight)


def group_norm(input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
               timesteps: int) -> Tensor:  # fmt: skip
    rows = input.reshape(len(input), num_groups, -1)
    y = normalised(rows - rows.mean(-1, keepdim=True), eps, timesteps).reshape(input.shape)
    along = [1, -1] + [1] * (input.dim() - 2)
    return y * (1 if weight is None else weight.reshape(along)) + (0 if bias is None else bias.reshape(along))


INDEPENDENT = {
    ladders.softmax_codes: codes_of_softmax, ladders.softmax_scale: scale_of_softmax,
    ladders.row_scaled: lambda input, scale: input * scale, ladders.ladder_layer_norm: layer_norm,
    ladders.ladder_rms_norm: rms_norm, ladders.ladder_group_norm: group_norm,
}  # fmt: skip


# --- networks ----------------------------------------------------------------------------------------------------


class Grouped(nn.Module):
    """Convolutions with GroupNorm, a row of RMSNorm, a LayerNorm over an image's last two axes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 3)
        self.map, self.rms, self.head = nn.LayerNorm((4, 4)), nn.RMSNorm(8), nn.Linear(8, 5)
        for module in (self.norm, self.map, self.rms):
            nn.init.uniform_(module.weight, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.one(x)))
        y = self.map(self.two(y))
        y = F.gelu(F.group_norm(y, 2)).mean((2, 3))
        return self.head(self.rms(y))


class Heads(nn.Module):
    """nn.MultiheadAttention with a mask of keys, causal scaled_dot_product_attention, einsum, a gate, an output."""

    def __init__(self, weights: bool = False) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(4, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.qkv, self.out, self.gate, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.weights = weights
        self.register_buffer("hidden", torch.tensor([[False, False, False, True, True]]))

    def forward(self, x: Tensor) -> Any:
        y = self.embed(x)
        attended, weights = self.attention(y, y, y, key_padding_mask=self.hidden.expand(x.shape[0], -1))
        y = y + attended
        q, k, v = self.qkv(y).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        y = y + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        scores = torch.einsum("bqc,bkc->bqk", self.out(y), self.out(y)) / 3
        y = torch.einsum("bqk,bkc->bqc", F.softmax(scores, dim=-1), self.out(y))
        y = self.head(y * torch.softmax(self.gate(y), 2)).mean(1)
        return (y.softmax(1), weights) if self.weights else y.softmax(1)


class Windows(nn.Module):
    """Attention inside windows, which stand in the batch, as Swin has it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.reshape(-1, 4, 6)).chunk(3, -1)
        y = (q @ k.transpose(-2, -1) * 0.4).softmax(dim=-1) @ v
        return self.out(y.reshape(-1, 12, 6).mean(1))


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "vision transformer": lambda: (nets.TinyViT(), torch.randn(6, 3, 12, 12)),
    "convolutional transformer": lambda: (nets.TinyCCT(), torch.randn(6, 3, 12, 12)),
    "group, layer and rms norm": lambda: (Grouped(), torch.randn(6, 3, 6, 6)),
    "attention in every spelling": lambda: (Heads(), torch.randn(6, 5, 4)),
    "windows": lambda: (Windows(), torch.randn(6, 12, 6)),
}


def converted(
    name: str, timesteps: int = 4, dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[nn.Module, Tensor, snnconv.SpikingNetwork]:
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    model, x = model.eval().to(dtype), x.to(dtype)
    options = {"method": methods.ShiftedThreshold(timesteps, correction="none"), "strict": True, **options}
    snn = snnconv.convert(model, options.pop("method"), x, cover="synapses", normalisation="ladder", progress=False,
                          **options)  # fmt: skip
    return model, x, snn


def written_anew(snn: snnconv.SpikingNetwork) -> snnconv.SpikingNetwork:
    """The same network with every part of a ladder computed by the formulas of this file."""
    twin = copy.deepcopy(snn)
    assert isinstance(twin.program, GraphProgram)
    source = twin.program.source
    for node in source.graph.nodes:
        if part_of_ladder(node):
            node.target = INDEPENDENT[node.target]
    twin.program = GraphProgram(source, snn.program.coding, snn.program.max_pool)
    return twin


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


# --- what it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timesteps", [4, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_its_quantised_twin_at_every_layer(name: str, timesteps: int) -> None:
    _, x, snn = converted(name, timesteps)
    wanted, sites = quantised_network(written_anew(snn), x)
    got = snn.rates(x)
    assert list(got) == list(sites)
    for site, value in sites.items():
        torch.testing.assert_close(got[site], value, rtol=1e-9, atol=1e-12, msg=lambda m, n=site: f"{n}: {m}")
    torch.testing.assert_close(snn(x), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("timesteps", [4, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_in_single_precision_it_is_so_to_rounding(name: str, timesteps: int) -> None:
    _, x, snn = converted(name, timesteps, torch.float32)
    wanted, _ = quantised_network(written_anew(snn), x)
    assert relative(snn(x), wanted) < 0.02  # rounding decides at the border of two codes


@pytest.mark.parametrize("name", NETWORKS)
def test_more_bits_come_closer_to_the_source_network(name: str) -> None:
    errors = []
    for timesteps in (4, 6, 8):
        model, x, snn = converted(name, timesteps)
        with torch.no_grad():
            errors.append(relative(snn(x), model(x)))
    assert errors[1] < 0.5 * errors[0], errors
    assert errors[2] < 0.5 * errors[1], errors
    assert errors[2] < 0.02, errors


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_sent_one_by_one_come_to_the_same(name: str) -> None:
    _, x, snn = converted(name)
    *_, (_, last) = snn.stream(x)
    torch.testing.assert_close(last, snn(x))
    steps = snn.run(x, "steps")
    torch.testing.assert_close(snn.readout.final(steps), snn(x))
    torch.testing.assert_close(snnconv.stepwise(snn).run(x), snn(x))


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
def test_both_frameworks_make_one_network(framework: str) -> None:
    pytest.importorskip(framework)
    _, x, snn = converted("vision transformer", framework=framework)
    wanted, _ = quantised_network(written_anew(snn), x)
    torch.testing.assert_close(snn(x), wanted, rtol=1e-9, atol=1e-9)


def test_functions_are_the_default_and_leave_everything_as_it_was() -> None:
    torch.manual_seed(0)
    model, x = NETWORKS["vision transformer"]()
    method = methods.ShiftedThreshold(4)
    plain, named = (
        snnconv.convert(model.eval(), method, x, cover="synapses", progress=False, **more)
        for more in ({}, {"normalisation": "function"})
    )
    assert torch.equal(plain(x), named(x))
    assert plain.report.normalisation == "function"
    assert not plain.report.normalisations
    assert not [node for node in plain.program.source.graph.nodes if part_of_ladder(node)]


def test_no_encoder_stands_between_a_softmax_and_its_product() -> None:
    _, _, snn = converted("attention in every spelling")
    read = {node.all_input_nodes[0].target for node in snn.program.source.site_nodes()}
    assert ladders.softmax_codes not in read
    assert ladders.row_scaled in read  # behind a product
    assert [one.kind for one in snn.report.normalisations] == ["softmax"] * 5
    assert snn.report.products
    assert all(set(made) == {"spikes"} for made in snn.report.products.values())


def test_the_scale_stands_behind_the_product() -> None:
    _, _, snn = converted("vision transformer")
    for node in snn.program.source.graph.nodes:
        if node.target is ladders.softmax_codes:
            (product,) = [user for user in node.users if user.target is torch.matmul]
            assert [user.target for user in product.users] == [ladders.row_scaled]


def test_weights_of_an_attention_that_are_asked_for_are_scaled_codes() -> None:
    torch.manual_seed(0)
    model, x = Heads(weights=True).eval(), torch.randn(6, 5, 4)
    method = methods.ShiftedThreshold(10, correction="none")
    snn = snnconv.convert(model, method, x, cover="synapses", normalisation="ladder", progress=False)
    (y, weights), (wanted, exact) = snn(x), model(x)
    torch.testing.assert_close(weights, exact, atol=0.01, rtol=0.05)
    torch.testing.assert_close(y, wanted, atol=0.01, rtol=0.05)
    assert not weights[..., 3:].any()  # masked


def test_rows_that_are_masked_in_whole_give_nothing() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            scores = (q @ k.transpose(1, 2)).masked_fill(~mask, -torch.inf)
            return self.out(scores.softmax(-1) @ v)

    torch.manual_seed(0)
    model, x = Masked().eval(), torch.randn(4, 3, 4)
    mask = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool).expand(4, 3, 3).contiguous()
    method = methods.ShiftedThreshold(8, correction="none")
    snn = snnconv.convert(model, method, (x, mask), cover="synapses", normalisation="ladder", strict=True,
                          progress=False)  # fmt: skip
    torch.testing.assert_close(snn(x, mask), model(x, mask), atol=0.02, rtol=0.05)
    mask[:, 1] = False
    y = snn(x, mask)
    assert y.isfinite().all()
    torch.testing.assert_close(y[:, 1], model.out.bias.expand(4, 3))  # where the function gives NaN, no weight at all


@pytest.mark.parametrize(
    ("make", "size", "kinds"),
    [
        (nets.TinyViT, 12, {"softmax", "scale", "layer_norm"}),
        (Grouped, 6, {"group_norm", "layer_norm", "rms_norm"}),
    ],
)
def test_what_torch_export_captures_becomes_ladders_too(
    make: Callable[[], nn.Module], size: int, kinds: set[str]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, size, size)
    cover = Cover("synapses", normalisation="ladder", wanted=lambda kind: True)
    source = exported_graph(make().eval(), {"x": x}, cover=cover)
    encode(source, cover, x)

    def said(site: str, z: Tensor) -> Tensor:
        return source.sites[site].activation(z)

    with torch.no_grad():
        before = GraphProgram(source.copy()).static(x, said)
        place_ladders(source, shapes_of(source, x), lambda site: 10, 10)
        after = GraphProgram(source).static(x, said)
    assert {part_of_ladder(node) for node in source.graph.nodes} - {""} == kinds
    assert 0 < relative(after, before) < 0.02


# --- bits a layer ------------------------------------------------------------------------------------------------


def test_a_ladder_has_the_bits_of_the_neurons_behind_it() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    x = torch.randn(16, 4)
    snn = snnconv.convert(
        model, methods.ShiftedThreshold(4), x, cover="synapses", normalisation="ladder", progress=False,
        overrides={"3.*": {"timesteps": 6}},
    )  # fmt: skip
    assert [(one.name, one.timesteps) for one in snn.report.normalisations] == [("1", 4), ("3", 6)]
    # either norm: c and r one after the other, then the encoder
    assert snn.report.path_steps == 3 * 4 + 3 * 6 == snnconv.metrics.latency.latencies(snn)["network"]
    *_, (_, last) = snn.stream(x)
    torch.testing.assert_close(last, snn(x))


def sites_behind(node: fx.Node) -> set[str]:
    """The neurons that read what comes of a value, without others between."""
    found, waiting = set(), list(node.users)
    for user in waiting:
        if user.target is activation_site:
            found.add(str(user.kwargs["site"]))
        else:
            waiting += user.users
    return found


def test_bits_that_are_chosen_layer_by_layer_are_the_ladders_too() -> None:
    torch.manual_seed(0)
    model, x = nets.TinyViT().eval(), torch.randn(8, 3, 12, 12)
    snn = snnconv.convert(
        model, methods.ShiftedThreshold(4), x, cover="synapses", normalisation="ladder", progress=False,
        timesteps="auto", budget=3.5,
    )  # fmt: skip
    assert len({one.timesteps for one in snn.report.normalisations}) > 1
    for node in snn.program.source.graph.nodes:
        if part_of_ladder(node) not in ("", "scale"):
            steps = [snn.method.at(site).timesteps for site in sites_behind(node)]
            assert node.kwargs["timesteps"] == max(steps, default=snn.method.timesteps)
    in_graph = [n.kwargs["timesteps"] for n in snn.program.source.graph.nodes if part_of_ladder(n) not in ("", "scale")]
    assert in_graph == [one.timesteps for one in snn.report.normalisations]
    snnconv.audit(snn, x).raise_if_failed()


# --- report, audit, files, refusals ------------------------------------------------------------------------------


def test_the_report_says_what_stands_as_ladders() -> None:
    _, _, snn = converted("vision transformer")
    lines = str(snn.report).splitlines()
    assert lines[2] == "13 layers with weights read spikes, 1 the input; 4 of 4 products are of two spike trains"
    assert lines[3] == "by codes and ladders of a row: 5 layer_norm, 2 softmax"
    assert "evaluated as a function" not in str(snn.report)
    assert not snn.report.analog
    again = snnconv.report.ConversionReport.from_dict(snn.report.to_dict())
    assert again == snn.report


@pytest.mark.parametrize("name", NETWORKS)
def test_the_audit_passes_and_fails_without_a_single_encoder(name: str) -> None:
    _, x, snn = converted(name)
    snnconv.audit(snn, x).raise_if_failed()
    encoders = [n for n, site in snn.program.sites.items() if site.function.encodes]
    for encoder in encoders[:: max(1, len(encoders) // 3)]:
        broken = copy.deepcopy(snn)
        source = broken.program.source
        (node,) = [n for n in source.site_nodes() if n.kwargs["site"] == encoder]
        node.replace_all_uses_with(node.args[0])
        source.graph.erase_node(node)
        del source.sites[encoder], broken.neurons._order[encoder]
        broken.program = GraphProgram(source, broken.method.coding, broken.method.max_pool)
        assert not snnconv.audit(broken, x), f"{encoder} is gone, and the audit passes"


@pytest.mark.parametrize("timesteps", [1, 12, 14])
def test_the_audit_passes_with_few_and_with_many_bits_in_single_precision(timesteps: int) -> None:
    _, x, snn = converted("vision transformer", timesteps, torch.float32)
    snnconv.audit(snn, x).raise_if_failed()


def test_the_audit_finds_a_ladder_of_other_bits_and_values_that_are_no_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x, snn = converted("vision transformer")
    changed = copy.deepcopy(snn)
    node = next(n for n in changed.program.source.graph.nodes if n.target is ladders.softmax_codes)
    node.kwargs = {"timesteps": 5}
    changed.program = GraphProgram(changed.program.source, changed.method.coding, changed.method.max_pool)
    assert "not those of the conversion report" in "; ".join(snnconv.audit(changed, x).failures)
    exact = normalisation.softmax_codes
    monkeypatch.setattr(normalisation, "softmax_codes", lambda *given: exact(*given) * 0.9)
    assert "are no whole number of 1/15 from 0 to 1" in "; ".join(snnconv.audit(snn, x).failures)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_network_is_the_same_in_a_fresh_process(name: str, tmp_path: Path) -> None:
    model, x, snn = converted(name, dtype=torch.float32)
    snnconv.save(snn, tmp_path / "net.safetensors")
    again = snnconv.load(tmp_path / "net.safetensors")
    assert torch.equal(again(x), snn(x))
    assert again.report == snn.report
    snnconv.audit(again, x).raise_if_failed()
    assert snnconv.compare(model, again, x).samples == len(x)
    if name == "vision transformer":
        torch.save({"x": x, "y": snn(x)}, tmp_path / "data")
        code = """
import sys, torch, snnconv
data = torch.load(sys.argv[1] + "/data")
assert torch.equal(snnconv.load(sys.argv[1] + "/net.safetensors")(data["x"]), data["y"])
"""
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_a_changed_file_may_ask_for_is_refused() -> None:
    for timesteps in (0, 17, 2**40, "4", None, True):
        with pytest.raises(ConversionError, match="a code has 1 to 16 bits"):
            ladders.softmax_codes(torch.zeros(1, 2), -1, timesteps=timesteps)
    for shape in ([3], [], [2, 4]):
        for norm in (ladders.ladder_layer_norm, ladders.ladder_rms_norm):
            with pytest.raises(ConversionError, match="a normalisation over the shape"):
                norm(torch.zeros(3, 4), shape, timesteps=4)
    for groups in (0, 3):
        with pytest.raises(ConversionError, match="groups of channels"):
            ladders.ladder_group_norm(torch.zeros(3, 4, 3), groups, timesteps=4)


REFUSED: dict[str, tuple[methods.Method, dict[str, str], str]] = {
    "rate coding": (methods.SignedIF(8), {"cover": "synapses"}, r"methods\.SignedIF codes by rates.*ShiftedThreshold"),
    "differential coding": (methods.MultiThreshold(8), {"cover": "synapses"}, "codes differences"),
    "activations alone": (methods.ShiftedThreshold(4), {"cover": "activations"}, "needs cover='synapses'"),
    "an unknown word": (
        methods.ShiftedThreshold(4), {"cover": "synapses", "normalisation": "table"},
        r"normalisation must be one of \('function', 'ladder'\), got 'table'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_before_any_work(name: str) -> None:
    method, options, words = REFUSED[name]

    class Loader:
        def __iter__(self) -> Any:
            raise AssertionError("data was read")

    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    with pytest.raises(ConversionError, match=words):
        snnconv.convert(model, method, Loader(), progress=False, **{"normalisation": "ladder", **options})


# --- training ----------------------------------------------------------------------------------------------------


def test_gradients_pass_the_ladders() -> None:
    _, x, snn = converted("group, layer and rms norm", dtype=torch.float32)
    net = snnconv.trainable(snn)
    assert torch.equal(net(x), snn(x))
    net(x).square().mean().backward()
    first = next(p for name, p in net.named_parameters() if "one" in name and p.dim() == 4)
    assert first.grad is not None
    assert first.grad.abs().max() > 0


def test_reconstruction_brings_it_closer() -> None:
    torch.manual_seed(0)
    model, x = nets.TinyViT().eval(), torch.randn(32, 3, 12, 12)
    errors = []
    for correction in ("none", "reconstruct"):
        method = methods.ShiftedThreshold(4, correction=correction)
        snn = snnconv.convert(model, method, x, cover="synapses", normalisation="ladder", progress=False)
        with torch.no_grad():
            errors.append(relative(snn(x), model(x)))
    assert errors[1] < 0.95 * errors[0], errors


# --- elsewhere ---------------------------------------------------------------------------------------------------


def test_the_quantised_twin_gives_what_the_network_gives() -> None:
    _, x, snn = converted("attention in every spelling")
    torch.testing.assert_close(snnconv.quantised_twin(snn)(x), snn(x), rtol=1e-9, atol=1e-9)


def test_statistics_of_a_calibration_serve_it() -> None:
    torch.manual_seed(0)
    model, x = nets.TinyViT().eval(), torch.randn(16, 3, 12, 12)
    method = methods.ShiftedThreshold(4, correction="none")
    known = snnconv.calibrate(model, x, cover="synapses")
    snn = snnconv.convert(model, method, known, cover="synapses", normalisation="ladder", progress=False)
    plain = snnconv.convert(model, method, x, cover="synapses", normalisation="ladder", progress=False)
    assert list(snn.neurons) == list(plain.neurons)
    assert relative(snn(x), plain(x)) < 0.05
