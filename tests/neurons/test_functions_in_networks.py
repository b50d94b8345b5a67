"""Networks whose neurons have functions: saved, streamed, trained, stopped early, in 8 bits, as those of ReLUs are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.runtime import int8

X = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
METHODS = [
    methods.ShiftedThreshold(5, correction="none"),
    methods.ShiftedThreshold(5, correction="none", realisation="function"),
    methods.SignedIF(12, correction="none"),
]
runs = pytest.mark.skipif(bool(int8.supported()), reason=f"8-bit layers: {int8.supported()}")


def network() -> nn.Module:
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 6, 3), nn.GELU(), nn.Flatten()]
    return nn.Sequential(*convs, nn.Linear(96, 12), nn.Sigmoid(), nn.Linear(12, 4)).eval()


def converted(method: methods.Method, framework: str = "spikingjelly") -> snnconv.SpikingNetwork:
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    return snnconv.convert(network(), method, X, framework=framework, progress=False)


def outputs(snn: snnconv.SpikingNetwork, x: Tensor) -> Tensor:
    out: Tensor = snn(x)
    return out


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name} {m.realisation}")
def test_a_network_of_functions_is_saved_streamed_and_trained(
    method: methods.Method, framework: str, tmp_path: Path
) -> None:
    snn = converted(method, framework)
    names = {snn.neurons[site].neuron.name for site in snn.neurons}
    assert names == {method.neuron_at(snn.program.sites[site].function)[0].name for site in snn.neurons}
    out = outputs(snn, X[:4])
    wanted = network()(X[:4])
    assert (out - wanted).norm() < 0.35 * wanted.norm()
    *_, (_, last) = snn.stream(X[:4])
    torch.testing.assert_close(last, out, rtol=1e-4, atol=1e-4)
    snnconv.save(snn, tmp_path / "net.snn")
    assert torch.equal(outputs(snnconv.load(tmp_path / "net.snn"), X[:4]), out)
    net = snnconv.trainable(snn)
    torch.testing.assert_close(net(X[:4]), out, rtol=1e-4, atol=1e-4)
    net(X[:4]).square().mean().backward()
    assert all(p.grad is not None for p in net.weight_parameters())


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
def test_frameworks_and_realisations_give_the_same_network(framework: str) -> None:
    ladder, evaluated = (converted(method, framework) for method in METHODS[:2])
    assert torch.equal(outputs(ladder, X), outputs(evaluated, X))
    assert torch.equal(outputs(ladder, X), outputs(converted(METHODS[0]), X))


def test_a_network_on_the_sum_stops_early() -> None:
    snn = converted(METHODS[2])
    found = snn.early_exit(X, margin=0.2)
    assert found.output.shape == (12, 4)


@runs
def test_8_bit_layers_read_codes_of_both_signs() -> None:
    snn = converted(METHODS[0])
    exact = outputs(snn, X)
    snn.precision = "int8"
    assert 0 < (outputs(snn, X) - exact).norm() < 0.05 * exact.norm()
    with pytest.raises(snnconv.ConversionError, match="127 levels of both signs, and T = 8 has 255: take T of 7 or"):
        converted(methods.ShiftedThreshold(8, correction="none")).precision = "int8"
