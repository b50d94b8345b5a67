"""Encoders: where neurons stand so that every layer with weights and every product reads spikes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconv.graph.capture.fx import source_graph
from snnconv.graph.cover import Cover
from snnconv.graph.encoders import place_encoders, readers, unread
from snnconv.graph.flow import Flow
from snnconv.graph.functions import Identity
from snnconv.graph.ops import products
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.runtime.program import GraphProgram

ALL = Cover("synapses", wanted=lambda kind: True)


def run(source: SourceGraph, x: Tensor, shapes: dict[fx.Node, tuple[int, ...]] | None = None) -> Tensor:
    program = GraphProgram(source)
    if shapes is not None:
        program.executor.observers.append(
            lambda node, value: shapes.update({node: tuple(value.data.shape)}) if hasattr(value, "data") else None
        )
    with torch.no_grad():
        out: Tensor = program.static(x, lambda name, z: source.sites[name].activation(z))
    return out


def covered(model: nn.Module, x: Tensor, cover: Cover = ALL) -> SourceGraph:
    """The graph with encoders; it computes what the model does, and everything reads spikes."""
    source = source_graph(model.eval(), cover=cover)
    shapes: dict[fx.Node, tuple[int, ...]] = {}
    run(source, x, shapes)
    place_encoders(source, cover, shapes)
    with torch.no_grad():
        torch.testing.assert_close(run(source, x), model(x), rtol=1e-4, atol=1e-5)
    assert not unread(Flow(source.graph), cover.encode_input)
    return source


def encoders(source: SourceGraph) -> list[str]:
    return [name for name, site in source.sites.items() if isinstance(site.function, Identity)]


class Lambda(nn.Module):
    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Attention(nn.Module):
    """Multi-head attention written out, with one layer for query, key and value."""

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.qkv, self.out, self.fused = nn.Linear(8, 24), nn.Linear(8, 8), fused

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        written = ((q * 0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        y = F.scaled_dot_product_attention(q, k, v) if self.fused else written
        return self.out(y.transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embed, self.norm1, self.norm2 = nn.Linear(6, 8), nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention, self.up, self.act, self.down = attention, nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.act(self.up(self.norm2(x))))


def test_a_network_of_relus_needs_no_encoder() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    assert not encoders(covered(model, torch.randn(2, 1, 8, 8)))


def test_a_linear_bottleneck_gets_one_for_each_tensor_and_its_shortcut_reads_the_tensor_itself() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        a = net.project(F.relu(net.first(x)))
        b = net.again(F.relu(net.expand(a))) + a
        return net.last(F.relu(net.more(b)))

    model = Lambda(
        forward, first=nn.Linear(4, 9), project=nn.Linear(9, 3), expand=nn.Linear(3, 9), again=nn.Linear(9, 3),
        more=nn.Linear(3, 9), last=nn.Linear(9, 2),
    )  # fmt: skip
    source = covered(model, torch.randn(5, 4))
    assert encoders(source) == ["project.linear_encoder", "add_encoder"]
    (add,) = [n for n in source.graph.nodes if n.op == "call_function" and n.name == "add"]
    assert not any(n.target is activation_site for n in add.all_input_nodes)


def test_query_key_and_value_share_the_encoder_of_what_they_read() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        h = net.norm(net.embed(x))
        return net.out((net.q(h) @ net.k(h).transpose(-2, -1)).softmax(-1) @ net.v(h))

    layers = {name: nn.Linear(8, 8) for name in ("embed", "q", "k", "v", "out")}
    source = covered(Lambda(forward, norm=nn.LayerNorm(8), **layers), torch.randn(2, 5, 8))
    assert encoders(source) == [
        "norm.layer_norm_encoder", "q.linear_encoder", "k.linear_encoder", "softmax_encoder", "v.linear_encoder",
        "matmul_encoder",
    ]  # fmt: skip
    assert {name: site.axis for name, site in source.sites.items()} == {
        "norm.layer_norm_encoder": -1,
        "q.linear_encoder": 0,  # the product adds along the channels
        "k.linear_encoder": 0,
        "v.linear_encoder": -1,  # and here along the tokens
        "softmax_encoder": 0,
        "matmul_encoder": -1,
    }
    assert not source.sites["softmax_encoder"].function.signed


@pytest.mark.parametrize("fused", [False, True])
def test_attention_has_one_step_a_head(fused: bool) -> None:
    source = covered(Block(Attention(fused)), torch.randn(2, 5, 6))
    # norm1, query, key, value, weights, their product, norm2; the last layer reads GELU
    assert len(encoders(source)) == 7
    axes = sorted(site.axis for name, site in source.sites.items() if name.startswith("attention"))
    # one a head for query, key and weights; the value and what the last layer reads have one a channel
    assert axes == [-1, -1, 1, 1, 1]


MODULES: dict[str, dict[str, bool]] = {"as it is": {}, "time first": {"batch_first": False}, "no bias": {"bias": False}}


@pytest.mark.parametrize("name", MODULES)
def test_attention_modules_become_layers_and_products(name: str) -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        return net.last(net.attention(net.first(x), net.second(x), net.third(x))[0])

    attention = nn.MultiheadAttention(8, 2, **{"batch_first": True, **MODULES[name]})
    layers = {n: nn.Linear(8, 8) for n in ("first", "second", "third", "last")}
    source = covered(Lambda(forward, attention=attention, **layers), torch.randn(3, 5, 8))
    assert not source.modules
    assert sum(1 for r in readers(Flow(source.graph)) if r.product) == 4
    paths = {n.meta.get("path") for n in source.graph.nodes if n.target is F.linear}
    assert {"attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj"} <= paths


def test_masks_and_weights_of_an_attention_module() -> None:
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)

    def forward(net: Lambda, x: Tensor) -> Tensor:
        h = net.first(x)
        padding = torch.zeros_like(x[..., 0]) + torch.tensor([0.0, 0.0, 0.0, -1.0, -2.0])
        out, weights = net.attention(h, h, h, key_padding_mask=padding, attn_mask=mask.float() * -9)
        return net.last(out) + weights.sum(-1, keepdim=True) + net.attention(h, h, h, attn_mask=mask)[0]

    attention = nn.MultiheadAttention(8, 4, batch_first=True)
    covered(Lambda(forward, first=nn.Linear(8, 8), attention=attention, last=nn.Linear(8, 8)), torch.randn(3, 5, 8))


def test_an_attention_with_keys_of_its_own_stays_whole() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        h = net.first(x)
        return net.attention(h, h, h)[0]

    attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
    assert source_graph(Lambda(forward, first=nn.Linear(8, 8), attention=attention), cover=ALL).modules


SDPA: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "scaled": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, None, 0.0, False, scale=0.3),
    "a mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.ones(5, 5).tril().bool()),
    "grouped": lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True),
}


@pytest.mark.parametrize("name", SDPA)
def test_attention_functions_become_products(name: str) -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (net.q, net.k, net.v))
        return net.out(SDPA[name](q, k, v).transpose(1, 2).flatten(2))

    layers = {n: nn.Linear(8, 8) for n in ("q", "k", "v", "out")}
    assert len(encoders(covered(Lambda(forward, **layers), torch.randn(3, 5, 8)))) == 5


def test_a_gate_of_squeeze_and_excitation_reads_spikes() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        h = F.silu(net.first(x))
        gate = torch.sigmoid(net.up(F.relu(net.down(F.adaptive_avg_pool2d(h, 1)))))
        return net.last(h * gate)

    model = Lambda(
        forward, first=nn.Conv2d(2, 4, 3), down=nn.Conv2d(4, 2, 1), up=nn.Conv2d(2, 4, 1), last=nn.Conv2d(4, 3, 3)
    )
    source = covered(model, torch.randn(2, 2, 9, 9))
    assert encoders(source) == ["mul_encoder"]  # the gate's sigmoid and what it gates are activations
    assert list(source.sites) == ["silu", "relu", "sigmoid", "mul_encoder"]


def test_a_gated_unit_becomes_a_product() -> None:
    model = Lambda(lambda net, x: net.last(F.glu(net.first(x), 1)), first=nn.Linear(4, 10), last=nn.Linear(5, 2))
    assert encoders(covered(model, torch.randn(3, 4))) == ["getitem_encoder", "mul_encoder"]


def test_products_with_weights_are_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(5, 3))
            self.shift = nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.shift, torch.tanh(x @ self.a), self.b)

    source = covered(Net(), torch.randn(6, 4))
    assert not encoders(source)
    assert sum(n.target is F.linear for n in source.graph.nodes) == 2


EINSUM = {
    "bhld,bhsd->bhls": ((3,), (3,)),
    "bij,bjk->bik": ((2,), (1,)),
    "bi,bi->b": ((1,), (1,)),
    "...i,...i->...": (None, None),
}


@pytest.mark.parametrize("equation", EINSUM)
def test_einsum_adds_along_the_letters_that_are_gone(equation: str) -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    node = graph.call_function(torch.einsum, (equation, x, y))
    assert tuple(axes for _, axes in products(node, {x, y}).values()) == EINSUM[equation]


def test_einsum_reads_spikes() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        return net.out(torch.einsum("bij,bkj->bik", net.a(x), net.b(x)))

    source = covered(Lambda(forward, a=nn.Linear(4, 6), b=nn.Linear(4, 6), out=nn.Linear(5, 2)), torch.randn(2, 5, 4))
    assert encoders(source) == ["a.linear_encoder", "b.linear_encoder", "einsum_encoder"]


def test_a_layer_whose_weights_are_computed_is_a_product() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        return F.linear(net.a(x), net.b(x))

    source = covered(Lambda(forward, a=nn.Linear(4, 6), b=nn.Linear(4, 6)), torch.randn(5, 4))
    assert encoders(source) == ["a.linear_encoder", "b.linear_encoder"]


def test_a_square_reads_one_encoder() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        h = net.a(x)
        return net.b(h * h)

    assert encoders(covered(Lambda(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 2)), torch.randn(5, 4))) == [
        "a.linear_encoder",
        "mul_encoder",
    ]


def test_joined_tensors_have_encoders_of_their_own_and_spikes_have_none() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        a = net.a(x)
        return net.last(torch.cat([F.relu(a), net.b(F.relu(a)), a], 1))

    model = Lambda(forward, a=nn.Linear(4, 5), b=nn.Linear(5, 3), last=nn.Linear(13, 2))
    assert encoders(covered(model, torch.randn(6, 4))) == ["a.linear_encoder", "b.linear_encoder"]


def test_what_depends_on_no_input_is_a_constant() -> None:
    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.layer, self.keys = nn.Parameter(torch.randn(3, 4)), nn.Linear(4, 4), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.keys(x) @ self.layer(self.queries).t()

    source = covered(Queries(), torch.randn(5, 6))
    assert encoders(source) == ["keys.linear_encoder"]  # a product with a constant is a layer


def test_the_first_layers_read_the_input_unless_asked() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        return net.b(F.relu(net.a((x - 0.5) / 0.2)))

    def model() -> Lambda:
        return Lambda(forward, a=nn.Linear(4, 5), b=nn.Linear(5, 2))

    assert not encoders(covered(model(), torch.rand(6, 4)))
    inside = Cover("synapses", encode_input=True, wanted=lambda kind: True)
    assert encoders(covered(model(), torch.rand(6, 4), inside)) == ["truediv_encoder"]


def test_a_function_of_the_input_is_not_the_input() -> None:
    model = Lambda(lambda net, x: net.a(net.norm(x)), norm=nn.LayerNorm(4), a=nn.Linear(4, 3))
    assert encoders(covered(model, torch.randn(6, 4))) == ["norm.layer_norm_encoder"]


def test_embeddings_count_as_an_input() -> None:
    model = Lambda(lambda net, x: net.b(F.gelu(net.a(net.look(x)))), look=nn.Embedding(9, 4), a=nn.Linear(4, 5),
                   b=nn.Linear(5, 2))  # fmt: skip
    assert not encoders(covered(model, torch.randint(0, 9, (3, 6))))


def test_neurons_without_negative_spikes_take_what_is_never_negative() -> None:
    relus = Cover("synapses")
    pooled = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Softmax(1), nn.Linear(5, 2))
    assert encoders(covered(pooled, torch.randn(6, 4), relus)) == ["2.softmax_encoder"]
    bottleneck = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.Linear(3, 2))
    with pytest.raises(ConversionError, match=r"3 reads values of both signs, of linear at 2.*signed='pair'"):
        covered(bottleneck, torch.randn(6, 4), relus)
    pair = covered(bottleneck, torch.randn(6, 4), Cover("synapses", signed="pair"))
    assert encoders(pair) == ["2.linear_encoder.above", "2.linear_encoder.below"]


def test_a_channel_that_a_product_adds_along_has_the_step_of_the_others() -> None:
    def forward(net: Lambda, x: Tensor) -> Tensor:
        q, k = F.relu(net.q(x)), F.relu(net.k(x))
        return net.out(q @ (k.transpose(1, 2) @ F.gelu(net.v(x))))

    layers = {n: nn.Linear(8, 8) for n in ("q", "k", "v", "out")}
    source = covered(Lambda(forward, **layers), torch.randn(2, 5, 8))
    assert [source.sites[name].axis for name in ("relu", "relu:2", "gelu")] == [0, -1, -1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"where": "everything"}, "cover must be one of"),
        ({"signed": "no"}, "signed must be one of"),
        ({"normalisation": "no"}, "normalisation must be one of"),
        ({"normalisation": "ladder"}, "needs cover='synapses'"),
        ({"encode_input": True}, "needs cover='synapses'"),
    ],
)
def test_a_cover_that_makes_no_sense_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConversionError, match=words):
        Cover(**arguments)  # type: ignore[arg-type]
