"""The quantised network of as many levels as a spiking one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
        nn.ReLU(), nn.Linear(10, 3),
    )  # fmt: skip
    model(torch.rand(32, 1, 8, 8))
    return model.eval(), torch.rand(16, 1, 8, 8)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_of_sum_coding_it_gives_what_the_spiking_network_gives(network, steps: int) -> None:
    model, x = network
    snn = snnconv.convert(model, methods.ShiftedThreshold(steps), x, progress=False)
    twin = snnconv.quantised_twin(snn)
    assert set(twin.levels.values()) == {2**steps - 1}
    assert torch.allclose(twin(x), snn(x), atol=1e-5)


@pytest.mark.parametrize("method", [methods.IF(6), methods.SignedIF(6), methods.SRP(6, 3)])
def test_of_rate_coding_each_activation_is_a_multiple_of_a_tth_of_its_threshold(network, method) -> None:
    model, x = network
    snn = snnconv.convert(model, method, x, progress=False)
    twin = snnconv.quantised_twin(snn)
    assert set(twin.levels.values()) == {6}
    seen = {}
    for name, quantiser in twin.quantisers.items():
        quantiser.register_forward_hook(lambda m, i, out, name=name: seen.__setitem__(name, (m, out)))
    twin(x)
    for name, (quantiser, out) in seen.items():
        axis = [1] * out.dim()
        axis[quantiser.axis] = -1
        codes = out / quantiser.step.reshape(axis)
        assert torch.allclose(codes, codes.round(), atol=1e-4)
        assert codes.min() >= 0
        assert codes.max() <= 6 + 1e-4
        assert torch.allclose(quantiser.step, torch.as_tensor(snn.neurons[name].v_threshold).reshape(-1) / 6)


def test_a_rate_norm_layer_is_worth_one_at_its_own_threshold() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 16), snnconv.activations.RateNorm(), nn.Linear(16, 4)), torch.rand(64, 8)
    model.train()(3 * x)
    snn = snnconv.convert(model.eval(), methods.RateNorm(255), x, progress=False)
    assert float((snn.thresholds["1"] - 1).abs().min()) > 0.05
    torch.testing.assert_close(snnconv.quantised_twin(snn)(x), model(x), rtol=0, atol=0.02)


def test_with_many_steps_it_approaches_the_source_network(network) -> None:
    model, x = network
    errors = []
    for steps in (4, 16, 64):
        method = methods.SignedIF(steps, thresholds="max", correction="none")
        twin = snnconv.quantised_twin(snnconv.convert(model, method, x, progress=False))
        errors.append(float((twin(x) - model(x)).detach().abs().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_weights_in_8_bits_take_at_most_255_values_a_channel(network) -> None:
    model, x = network
    snn = snnconv.convert(model, methods.ShiftedThreshold(4), x, progress=False)
    plain, int8 = snnconv.quantised_twin(snn), snnconv.quantised_twin(snn, int8_weights=True)
    difference = (plain(x) - int8(x)).abs().max()
    assert 0 < difference < 0.2 * plain(x).abs().max()


def test_a_coding_without_levels_is_refused_by_name(network) -> None:
    model, x = network
    snn = snnconv.convert(model, methods.MultiThreshold(4), x, progress=False)
    with pytest.raises(snnconv.ConversionError, match=r"MultiThreshold \(differential coding\) has no levels"):
        snnconv.quantised_twin(snn)
