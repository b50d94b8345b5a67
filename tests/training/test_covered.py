"""prepare(cover="synapses"): the fine-tuned network and the spiking one are the same function."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.activations import QuantFunction, QuantReLU, QuantSigned, RateNorm
from snnconv.graph.functions import GELU, PReLU
from tests import networks as nets

NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "vision transformer": lambda: (nets.TinyViT(), torch.randn(8, 3, 12, 12)),
    "squeeze and excitation": lambda: (nets.SqueezeExcite(), torch.randn(8, 3, 12, 12)),
    "linear bottleneck": lambda: (nets.LinearBottleneck(), torch.randn(8, 3, 12, 12)),
    "learned slopes": lambda: (
        nn.Sequential(nn.Linear(4, 8), nn.PReLU(8), nn.Linear(8, 8), nn.PReLU(), nn.Linear(8, 2)),
        torch.randn(16, 4),
    ),
}


def prepared(name: str, levels: int = 15, per_channel: bool = True) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    model, x = model.eval().double(), x.double()
    quantiser = QuantReLU(levels, per_channel=per_channel)
    return model, snnconv.prepare(model, quantiser, x, cover="synapses", progress=False), x


def converted(twin: nn.Module, x: Tensor, timesteps: int = 4) -> snnconv.SpikingNetwork:
    method = methods.ShiftedThreshold(timesteps, thresholds="trained", correction="none")
    return snnconv.convert(twin, method, x, cover="synapses", strict=True, progress=False)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_trained_network_is_the_spiking_one(name: str, per_channel: bool) -> None:
    model, twin, x = prepared(name, per_channel=per_channel)
    optimiser = torch.optim.SGD(twin.parameters(), 1e-3)
    before = copy.deepcopy(twin.state_dict())
    for _ in range(3):
        optimiser.zero_grad()
        (twin(x) - model(x)).square().mean().backward()
        optimiser.step()
    moved = [k for k, v in twin.state_dict().items() if not torch.equal(v, before[k])]
    assert any(k.endswith("clip") for k in moved)
    assert any(k in dict(model.named_parameters()) for k in moved)
    snn = converted(twin.eval(), x)
    assert len(snn.neurons) == sum(isinstance(m, QuantReLU) for m in twin.modules())
    torch.testing.assert_close(snn(x), twin(x), rtol=1e-9, atol=1e-9)


def test_training_brings_the_spiking_network_nearer_to_its_source() -> None:
    model, twin, x = prepared("vision transformer", levels=3)
    off = [float((converted(twin.eval(), x, 2)(x) - model(x)).norm().detach())]
    optimiser = torch.optim.Adam(twin.parameters(), 2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        (twin(x) - model(x).detach()).square().mean().backward()
        optimiser.step()
    off.append(float((converted(twin.eval(), x, 2)(x) - model(x)).norm().detach()))
    assert off[1] < 0.85 * off[0]


def test_a_trained_function_is_saved_with_the_network(tmp_path) -> None:
    for name in ("vision transformer", "learned slopes"):
        _, twin, x = prepared(name)
        snn = converted(twin.eval(), x)
        snnconv.save(snn, tmp_path / name)
        assert torch.equal(snnconv.load(tmp_path / name)(x), snn(x))


def test_each_place_has_the_quantiser_of_its_values() -> None:
    _, twin, _ = prepared("vision transformer")
    kinds = {type(m) for m in twin.modules() if isinstance(m, QuantReLU)}
    assert kinds == {QuantReLU, QuantSigned, QuantFunction}  # a softmax, a normalisation, a GELU


@pytest.mark.parametrize("function", [GELU(), PReLU(torch.tensor([0.1, 0.4, 1.5]))])
def test_a_quantised_function_has_its_codes_and_gradient(function) -> None:
    module = QuantFunction(function, levels=15, clip=torch.tensor([1.0, 2.0, 0.5]))
    z = torch.randn(64, 3, requires_grad=True)
    y = module(z)
    codes = y / (module.alpha / 15)
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
    off = (y - function(z)).abs()
    inside = function(z).abs() < module.alpha
    assert bool((off <= module.alpha / 30 + 1e-6)[inside].all())
    y.sum().backward()
    wanted = torch.autograd.grad(function(w := z.detach().requires_grad_()).sum(), w)[0]
    torch.testing.assert_close(z.grad[inside], wanted[inside])
    torch.testing.assert_close(module.site("a").activation(z), y)


def test_what_cannot_be_prepared_is_refused_by_name() -> None:
    model, x = nets.LinearBottleneck(), torch.randn(4, 3, 12, 12)
    with pytest.raises(TypeError, match=r"give activations\.QuantReLU\(levels\), not RateNorm"):
        snnconv.prepare(model, RateNorm(), x, cover="synapses")
    with pytest.raises(ConversionError, match=r"give prepare.*calibration"):
        snnconv.prepare(model, QuantReLU(3), cover="synapses")
    twin = snnconv.prepare(model, QuantReLU(3), x, cover="synapses", progress=False)
    with pytest.raises(ConversionError, match="it is a trained activation already"):
        snnconv.prepare(twin, QuantReLU(3), x, cover="synapses")
