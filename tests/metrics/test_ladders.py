"""What softmax and normalisations by ladders cost, counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.metrics.ladders import set_bits
from snnconv.metrics.profiling import AC_JOULES, MAC_JOULES
from tests import networks as nets

T = 4
L = 2**T - 1


def ones(code: float) -> int:
    return bin(abs(round(code))).count("1")


def converted(model: nn.Module, x: Tensor, **options: object) -> snnconv.SpikingNetwork:
    method = methods.ShiftedThreshold(T, correction="none")
    return snnconv.convert(model.eval(), method, x, cover="synapses", progress=False,
                           **{"normalisation": "ladder", **options})  # fmt: skip


def sites_of(snn: snnconv.SpikingNetwork, x: Tensor) -> dict[str, Tensor]:
    """Spikes ``[T, B, ...]`` of every site."""
    found: dict[str, Tensor] = {}
    snn.run(x, "steps", observe=lambda name, out: found.update({name: out}))
    return found


def row_by_hand(row: list[float], eps: float) -> tuple[list[int], int]:
    """The codes of one centred row, and of its reciprocal root."""
    q = 2.0 ** (math.floor(math.log2(max(map(abs, row)))) + 1) / 2**T
    codes = [max(-L, min(L, math.floor(c / q + 0.5))) for c in row]
    w = sum((code * q) ** 2 for code in codes) / len(codes) + eps
    k = math.floor(math.log2(w) / 2)
    return codes, math.floor(L * 2.0**k / math.sqrt(w) + 0.5)


def test_a_layer_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)).double()
    x = torch.randn(7, 3, dtype=torch.float64)
    snn = converted(model, x)
    costs = snnconv.profile(model, snn, x)
    spikes = additions = 0
    for row in model[0](x).tolist():
        mean = sum(row) / 5
        codes, root = row_by_hand([value - mean for value in row], 1e-5)
        spikes += sum(map(ones, codes)) + ones(root)
        additions += sum(ones(c) ** 2 + ones(c) * ones(root) for c in codes)
    (cost,) = costs.ladders
    assert (cost.name, cost.kind, cost.timesteps, cost.neurons, cost.ann) == ("1", "layer_norm", T, 6, 5)
    assert cost.comparisons == 4 + T  # the largest of five, and one ladder
    assert cost.spikes == pytest.approx(spikes / 7)
    assert cost.additions == pytest.approx(additions / 7)
    assert costs.comparisons == cost.comparisons
    assert not costs.evaluated
    assert costs.functions == 0
    assert costs.ann_functions == 5
    encoder = float((sites_of(snn, x)["1.layer_norm_encoder"] != 0).sum()) / 7
    assert costs.spikes == pytest.approx(encoder + cost.spikes)
    assert costs.sops == pytest.approx(2 * encoder)
    operations = costs.operations
    assert operations is not None
    assert operations["spike x spike"].additions == pytest.approx(cost.additions)
    assert operations["at the neuron"].additions == 4 + T
    assert operations["analog"].functions == 0
    priced = AC_JOULES * (costs.sops + cost.additions + cost.comparisons) + MAC_JOULES * costs.snn_macs
    assert costs.snn_energy == pytest.approx(priced)
    assert "1 (layer_norm)" in str(costs)
    assert "by ladders" in str(costs)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, 4) for _ in range(3))
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x))


def test_a_softmax_and_its_product() -> None:
    torch.manual_seed(0)
    model, x = Attention().double(), torch.randn(6, 3, 3, dtype=torch.float64)
    snn = converted(model, x)
    costs = snnconv.profile(model, snn, x)
    said = sites_of(snn, x)
    q, k, v, _ = said.values()
    logits = q.sum(0) @ k.sum(0).transpose(1, 2)
    bits_of_v = (v != 0).sum(0)
    spikes = pairs = additions = 0
    for sample, rows in enumerate(logits.tolist()):
        for row in rows:
            codes = [math.floor(math.exp(u - max(row)) * L + 0.5) for u in row]
            total = sum(codes) / L
            r = math.floor(L * 2.0 ** math.floor(math.log2(total)) / total + 0.5)
            spikes += sum(map(ones, codes)) + ones(r)
            pairs += sum(ones(e) * int(bits_of_v[sample, j].sum()) for j, e in enumerate(codes))
            additions += 4 * ones(r)  # every component of the product
    (cost,) = costs.ladders
    assert (cost.kind, cost.neurons, cost.ann) == ("softmax", 3 * (3 + 1), 9)
    assert cost.comparisons == 3 * (2 + 3 * T + T)
    assert cost.spikes == pytest.approx(spikes / 6)
    assert cost.additions == pytest.approx(additions / 6)
    assert [product.reads for product in costs.products] == [("spikes", "spikes")] * 2
    assert costs.products[1].pairs == pytest.approx(pairs / 6)
    assert costs.products[1].ann_macs == 3 * 3 * 4
    assert costs.comparisons == cost.comparisons


def test_a_group_norm_has_a_row_a_group() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 1)).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    (cost,) = snnconv.profile(model, converted(model, x), x).ladders
    spikes = 0
    for row in model[0](x).reshape(-1, 8).tolist():  # two channels of four places
        mean = sum(row) / 8
        codes, root = row_by_hand([value - mean for value in row], 1e-5)
        spikes += sum(map(ones, codes)) + ones(root)
    assert (cost.kind, cost.neurons, cost.ann, cost.comparisons) == ("group_norm", 18, 16, 2 * (7 + T))
    assert cost.spikes == pytest.approx(spikes / 3)


class Turned(nn.Module):
    """An attention whose product is written as that of the turned operands."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.turned, self.query, self.value, self.last = turned, nn.Linear(6, 5), nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        weights, values = self.query(x).softmax(-1), self.value(x)
        y = (values.mT @ weights.mT).mT if self.turned else weights @ values
        out: Tensor = self.last(y)
        return out


def test_a_product_of_turned_codes_costs_the_same() -> None:
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    plain, turned = (
        snnconv.profile(model, converted(model, x), x) for model in (Turned(False).double(), Turned(True).double())
    )
    assert plain.ladders[0].additions > 0
    assert turned.ladders == plain.ladders
    assert [p.pairs for p in turned.products] == [p.pairs for p in plain.products]


def test_the_source_networks_costs_are_the_same_either_way() -> None:
    torch.manual_seed(0)
    model, x = nets.TinyViT().eval(), torch.randn(4, 3, 12, 12)
    ladder, function = (
        snnconv.profile(model, converted(model, x, normalisation=how), x) for how in ("ladder", "function")
    )
    assert ladder.ann_energy == function.ann_energy
    assert (len(ladder.evaluated), len(function.evaluated)) == (0, 7)
    assert ladder.comparisons > function.comparisons > 0
    assert sum(row.ann for row in ladder.ladders) == sum(f.ann for f in function.evaluated)


def test_products_inside_windows_are_counted_window_by_window() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            windows = x.reshape(-1, 2, 3)  # two of each sample
            a, b = torch.relu(self.a(windows)), torch.relu(self.b(windows))
            return self.out(a @ b.transpose(1, 2))

    torch.manual_seed(0)
    model, x = Windows(), torch.randn(5, 4, 3)
    snn = converted(model, x, normalisation="function")
    a, b = ((out != 0).sum(0).double() for out in list(sites_of(snn, x).values())[:2])
    (cost,) = snnconv.profile(model, snn, x).products
    assert cost.pairs == pytest.approx(float((a @ b.transpose(1, 2)).sum()) / 5)
    assert cost.ann_macs == 2 * 2 * 2 * 4
    # in rate coding, too, a sample costs what its two windows cost by themselves
    method = methods.SignedIF(6, correction="none")
    rate = snnconv.convert(model, method, x, cover="synapses", progress=False)
    (whole,), (window,) = (snnconv.profile(model, rate, data).products for data in (x, x.reshape(10, 2, 3)))
    assert whole.pairs == pytest.approx(2 * window.pairs)
    assert whole.ann_macs == 2 * window.ann_macs


def test_set_bits_of_either_sign() -> None:
    codes = torch.arange(-15.0, 16.0)
    assert set_bits(codes, 4).tolist() == [ones(code) for code in codes.tolist()]
