"""Networks without ReLU: the audit of every layer and product, and operations counted in four classes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.metrics.profiling import AC_JOULES, MAC_JOULES
from snnconv.runtime.program import GraphProgram
from tests import networks as nets

NETWORKS: dict[str, type[nn.Module]] = {
    "vision transformer": nets.TinyViT,
    "convolutional transformer": nets.TinyCCT,
    "squeeze and excitation": nets.SqueezeExcite,
    "gated unit": nets.GatedUnit,
    "linear bottleneck": nets.LinearBottleneck,
}
METHODS = {"sum": methods.ShiftedThreshold(4, correction="none"), "rate": methods.SignedIF(6, correction="none")}


def converted(name: str, method: str) -> tuple[nn.Module, snnconv.SpikingNetwork, Tensor]:
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    x = torch.randn(4, 6) if name == "gated unit" else torch.randn(4, 3, 12, 12)
    return model, snnconv.convert(model, METHODS[method], x, cover="synapses", progress=False), x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_audit_passes_and_fails_without_a_single_encoder(name: str, method: str) -> None:
    _, snn, x = converted(name, method)
    snnconv.audit(snn, x).raise_if_failed()
    program = snn.program
    assert isinstance(program, GraphProgram)
    encoders = [n for n, site in program.sites.items() if site.function.encodes]
    assert encoders
    for encoder in encoders[:: max(1, len(encoders) // 3)]:
        _, broken, _ = converted(name, method)
        assert isinstance(broken.program, GraphProgram)
        source = broken.program.source
        (node,) = [n for n in source.site_nodes() if n.kwargs["site"] == encoder]
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        source.graph.erase_node(node)
        del source.sites[encoder], broken.neurons._order[encoder]
        broken.program = GraphProgram(source, broken.method.coding, broken.method.max_pool)
        assert not snnconv.audit(broken, x), f"{encoder} is gone, and the audit passes"


class Product(nn.Module):
    """a(x)·b(x), one by one or as a matrix product."""

    def __init__(self, matrix: bool) -> None:
        super().__init__()
        self.a, self.b, self.c, self.matrix = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2), matrix

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.a(x)), F.relu(self.b(x))
        return self.c(a @ b.transpose(1, 2) @ b) if self.matrix else self.c(a * b)


def spikes_of(snn: snnconv.SpikingNetwork, x: Tensor) -> dict[str, Tensor]:
    """Outputs ``[T, B, ...]`` of every site."""
    found: dict[str, Tensor] = {}
    snn.run(x, "steps", observe=lambda name, out: found.update({name: out}))
    return found


def test_sum_coding_counts_the_pairs_of_set_bits() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6, 3)
    for matrix in (False, True):
        model = Product(matrix)
        snn = snnconv.convert(model, METHODS["sum"], x, cover="synapses", progress=False)
        out = spikes_of(snn, x)
        bits = {name: (spikes != 0).sum(0).double() for name, spikes in out.items()}
        costs = snnconv.profile(model, snn, x)
        if matrix:
            pairs = torch.einsum("bic,bjc->", bits["relu"], bits["relu:2"])
            assert costs.products[0].ann_macs == 6 * 6 * 4
        else:
            pairs = (bits["relu"] * bits["relu:2"]).sum()
            assert costs.products[0].ann_macs == 6 * 4
        assert costs.products[0].reads == ("spikes", "spikes")
        assert costs.products[0].pairs == pytest.approx(float(pairs) / 5)
        assert costs.products[0].snn_macs == 0


def test_rate_coding_counts_each_spike_for_each_running_sum_that_it_meets() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    model = Product(False)
    snn = snnconv.convert(model, METHODS["rate"], x, cover="synapses", progress=False)
    out = spikes_of(snn, x)
    p, q = out["relu"], out["relu:2"]
    pairs = 0
    sum_p, sum_q = torch.zeros_like(p[0]), torch.zeros_like(q[0])
    for now_p, now_q in zip(p, q, strict=True):
        pairs += int(((now_p != 0) & (sum_q + now_q != 0)).sum()) + int(((sum_p != 0) & (now_q != 0)).sum())
        sum_p, sum_q = sum_p + now_p, sum_q + now_q
    assert snnconv.profile(model, snn, x).products[0].pairs == pytest.approx(pairs / 5)


def test_a_product_that_reads_no_spikes_is_analog() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(F.relu(self.a(x)) * self.b(x))

    x, model = torch.randn(5, 3), Net()
    plain = snnconv.profile(model, snnconv.convert(model, METHODS["sum"], x, progress=False), x)
    assert plain.products[0].reads == ("spikes", "analog")
    assert (plain.products[0].pairs, plain.products[0].snn_macs) == (0, 4)
    rate = snnconv.profile(model, snnconv.convert(model, METHODS["rate"], x, progress=False), x)
    assert rate.products[0].snn_macs == 6 * 4


def test_relu_networks_cost_what_they_did() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(16, 4)
    for method in METHODS.values():
        costs = snnconv.profile(model, snnconv.convert(model, method, x, progress=False), x)
        assert (costs.comparisons, costs.functions, costs.ann_functions) == (0, 0, 0)
        assert costs.snn_energy == pytest.approx(AC_JOULES * costs.sops + MAC_JOULES * costs.snn_macs)
        assert costs.ann_energy == pytest.approx(MAC_JOULES * costs.ann_macs)


def test_nothing_at_a_neuron_or_outside_is_free() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.LayerNorm(8), nn.Linear(8, 2))
    x = torch.randn(16, 4)
    priced = {}
    for realisation in ("ladder", "function"):
        method = methods.ShiftedThreshold(4, correction="none", realisation=realisation)
        snn = snnconv.convert(model, method, x, cover="synapses", progress=False)
        costs = snnconv.profile(model, snn, x)
        assert (costs.comparisons > 0, costs.functions) == ((True, 0) if realisation == "ladder" else (False, 8))
        assert [(f.ann, f.snn) for f in costs.evaluated] == [(8, 8)]
        assert costs.ann_functions == 16
        classes = costs.classes
        assert classes is not None
        assert list(classes) == ["spike x weight", "spike x spike", "at the neuron", "analog"]
        assert classes["analog"][0] == 4 * 8 + 8
        assert sum(joules for _, joules in classes.values()) == pytest.approx(costs.snn_energy)
        priced[realisation] = costs.snn_energy
        dearer = snnconv.profile(model, snn, x, function_macs=8)
        assert dearer.snn_energy > costs.snn_energy
        assert "at the neuron" in str(costs)
    assert priced["ladder"] != priced["function"]


def test_functions_over_time_are_evaluated_at_every_step() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Softmax(1), nn.Linear(8, 2))
    x = torch.randn(16, 4)
    costs = snnconv.profile(model, snnconv.convert(model, METHODS["rate"], x, cover="synapses", progress=False), x)
    assert [(f.ann, f.snn) for f in costs.evaluated] == [(8, 48)]
