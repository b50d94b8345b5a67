"""Trained activations: exact forward, straight-through and LSQ gradients, and their sites."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snnconv.activations import QuantReLU, RateNorm
from torch import nn


@given(levels=st.integers(1, 15), numerator=st.integers(-64, 192), clip=st.sampled_from([0.5, 1.0, 4.0]))
def test_quant_relu_forward(levels, numerator, clip):
    z = clip * numerator / 64
    expected = min(max(int((z * levels / clip + 0.5) // 1), 0), levels) * clip / levels
    assert QuantReLU(levels, clip)(torch.tensor([z])).item() == pytest.approx(expected, abs=1e-6)


def test_quant_relu_passes_gradient_inside_the_clip_only():
    z = torch.tensor([-1.0, 0.3, 0.9, 1.5], requires_grad=True)
    QuantReLU(3, 1.0)(z).sum().backward()
    assert z.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_quant_relu_clip_gradient_is_lsqs():
    layer = QuantReLU(2, 1.0)
    z = torch.tensor([[-1.0, 0.3, 0.9, 1.5]])
    layer(z).sum().backward()
    closed_form = 0 + (0.5 - 0.3) + (1.0 - 0.9) + 1
    scale = (1 / 4 / 2) ** 0.5
    assert layer.clip.grad.item() == pytest.approx(closed_form * scale, rel=1e-5)


def test_quant_relu_per_channel_clips():
    layer = QuantReLU(1, torch.tensor([1.0, 2.0]))
    assert layer(torch.tensor([[0.9, 0.9], [3.0, 3.0]])).tolist() == [[1.0, 0.0], [1.0, 2.0]]


def test_rate_norm_running_maximum_moves_in_training_only():
    layer = RateNorm(momentum=0.5)
    layer.train()(torch.tensor([2.0]))
    assert layer.running_max == 2
    layer(torch.tensor([4.0]))
    assert layer.running_max == 3
    layer.eval()(torch.tensor([100.0]))
    assert layer.running_max == 3


def test_rate_norm_forward_and_gradient_of_p():
    layer = RateNorm(scale="abs").double()
    layer.train()(torch.tensor([2.0], dtype=torch.float64))
    layer.eval()
    with torch.no_grad():
        layer.p.fill_(0.5)
    z = torch.tensor([-1.0, 0.25, 0.5, 3.0], dtype=torch.float64)
    assert layer(z).tolist() == [0.0, 0.25, 0.5, 1.0]

    def loss(p):
        return (z / (p.abs() * 2)).clamp(0, 1).sum()

    layer(z).sum().backward()
    step = 1e-6
    finite = (loss(layer.p + step) - loss(layer.p - step)) / (2 * step)
    assert layer.p.grad.item() == pytest.approx(finite.item(), rel=1e-3)


def test_shared_p_is_one_parameter():
    p = nn.Parameter(torch.tensor(0.0))
    network = nn.Sequential(RateNorm(shared=p), RateNorm(shared=p))
    assert len(list(network.parameters())) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuantReLU(0),
        lambda: QuantReLU(3, -1.0),
        lambda: RateNorm(momentum=0),
        lambda: RateNorm(scale="tanh"),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_rate_norm_without_data_has_no_threshold():
    with pytest.raises(ValueError, match="has seen no data"):
        RateNorm().site("act")
