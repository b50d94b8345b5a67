"""Quantised weights: levels, gradients, and networks that train, are prepared and converted with them."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import snnconv
from snnconv import ConversionError, methods
from snnconv.activations import QuantReLU
from snnconv.training.weight_quant import APoT, UniformWeight, apot_levels, quantise_weights

# the paper's sets of powers of two, written out
TERMS = {
    1: [[1]],
    2: [[1, 2, 3]],
    3: [[1, 2, 4], [3]],
    4: [[1, 3, 5], [2, 4, 6]],
    5: [[1, 3, 6], [2, 4, 7], [5]],
    6: [[1, 4, 7], [2, 5, 8], [3, 6, 9]],
}


@pytest.mark.parametrize("bits", TERMS)
def test_levels_are_all_sums_of_the_terms(bits):
    sums = {0.0}
    for exponents in TERMS[bits]:
        sums = {s + p for s in sums for p in (0.0, *(2.0**-e for e in exponents))}
    expected = sorted(s / max(sums) for s in sums)
    assert len(expected) == 2**bits
    assert apot_levels(bits).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_weights_go_to_the_nearest_level_of_their_normal_form(bits):
    torch.manual_seed(0)
    weight, quantiser = torch.randn(200) * 3 + 1, APoT(bits, clip=1.5)
    levels = apot_levels(bits - 1)
    normal = (weight - weight.mean()) / weight.std()
    expected = torch.stack(
        [1.5 * w.sign() * levels[(levels - (w.abs() / 1.5).clamp(max=1)).abs().argmin()] for w in normal]
    )
    torch.testing.assert_close(quantiser(weight).detach(), expected)


def test_gradients_are_the_closed_forms():
    torch.manual_seed(0)
    weight, gradient, quantiser = torch.randn(50, requires_grad=True), torch.randn(50), APoT(4, clip=1.2)
    out = quantiser(weight)
    out.backward(gradient)
    with torch.no_grad():
        ratio = (weight - weight.mean()) / weight.std() / 1.2
        slope = torch.where(ratio.abs() > 1, ratio.sign(), out / 1.2 - ratio)
    assert (ratio.abs() > 1).any()
    torch.testing.assert_close(weight.grad, gradient / weight.std().detach())
    torch.testing.assert_close(quantiser.clip.grad, (gradient * slope).sum())


def test_eight_bits_are_255_equal_steps():
    weight = torch.randn(1000, requires_grad=True)
    out = UniformWeight(8)(weight)
    codes = out / weight.abs().max() * 127
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
    assert (out - weight).abs().max() <= weight.abs().max() / 254 * 1.001
    out.sum().backward()
    assert torch.equal(weight.grad, torch.ones(1000))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 64, 5),
    )  # fmt: skip


X = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 5


def test_a_network_trains_and_converts_with_quantised_weights():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    qann = snnconv.prepare(quantise_weights(model.eval(), 3), QuantReLU(7), X, progress=False).train()
    optimiser = torch.optim.SGD(qann.parameters(), 0.05)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(qann(X), Y)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    qann.eval()
    sizes = (qann[3].weight / qann[3].weight.abs().max()).abs().unique()
    assert set(sizes.tolist()) <= {0.0, 0.25, 0.5, 1.0}
    snn = snnconv.convert(qann, methods.ShiftedThreshold(3, thresholds="trained", correction="none"))
    torch.testing.assert_close(snn(X), qann(X), rtol=1e-4, atol=1e-4)
    for layer in (qann[0], qann[3], qann[7]):
        expected = layer.weight.detach().clone()
        parametrize.remove_parametrizations(layer, "weight")
        assert torch.equal(layer.weight, expected)


def test_weights_of_more_bits_are_where_fewer_start():
    first = quantise_weights(network(), 4)
    second = quantise_weights(network(), 3)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second[3].parametrizations.weight.original, first[3].parametrizations.weight.original)


def test_ends_and_names_are_left_alone_on_request():
    model = quantise_weights(network(), 4, ends=None, skip=["3"])
    assert not any(parametrize.is_parametrized(layer) for layer in model.modules())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantise_weights(nn.ReLU()), "no convolution and no linear layer"),
        (lambda: quantise_weights(network(), skip=["1"]), "skip names 1"),
        (lambda: quantise_weights(quantise_weights(network())), "0: its weight has a parametrisation already"),
        (lambda: APoT(1), "bits must be at least 2"),
        (lambda: APoT(3, clip=0.0), "clip must be positive"),
        (lambda: UniformWeight(1), "bits must be at least 2"),
        (lambda: apot_levels(0), "bits must be at least 1"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert issubclass(ConversionError, ValueError)
