"""Softmax and normalisations by ladders are as close to the functions as their bits allow."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snnconv import dynamics
from snnconv.dynamics import normalisation
from snnconv.dynamics.normalisation import (
    NORMALISATIONS,
    ladder_attention,
    ladder_group_norm,
    ladder_layer_norm,
    ladder_rms_norm,
    ladder_softmax,
)


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def coded(v: Tensor, bits: int) -> Tensor:
    """Values in codes of both signs, of the one step for all that has the least squared error."""
    steps = [clip / (2**bits - 1) for clip in (2.0, 2.5, 3.0, 3.5, 4.0, 4.5)]
    said = [dynamics.total("shifted_threshold", v.unsqueeze(0), q, timesteps=bits, signed=True) for q in steps]
    return min(said, key=lambda codes: float((codes - v).square().mean()))


@pytest.mark.parametrize(("bits", "wanted", "of_weights"), [(4, 0.19, 0.50), (6, 0.038, 0.17), (8, 0.009, 0.030)])
def test_codes_before_the_scaling_lose_less_than_codes_of_the_weights(
    bits: int, wanted: float, of_weights: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, v = torch.randn(8, 197, 197, generator=generator), torch.randn(8, 197, 64, generator=generator)
    exact = x.softmax(-1) @ v
    error = relative(ladder_attention(x, coded(v, bits), bits), exact)
    assert error == pytest.approx(wanted, rel=0.35)
    levels = 2**bits - 1
    weights = (x.softmax(-1) * levels / x.softmax(-1).amax() + 0.5).floor() * x.softmax(-1).amax() / levels
    assert relative(weights @ coded(v, bits), exact) > 1.5 * error


@pytest.mark.parametrize("bits", [3, 6, 10])
def test_the_weights_of_a_softmax_sum_to_about_one(bits: int) -> None:
    e, scale = ladder_softmax(torch.randn(50, 20) * 2, bits)
    levels = 2**bits - 1
    assert torch.equal((e * levels).round() / levels, e)
    assert (e.amax(-1) == 1).all()  # the largest component says all of L
    assert ((e * scale).sum(-1) - 1).abs().max() <= 1 / levels + 1e-6  # r is in (1/2, 1], half a step off


@pytest.mark.parametrize(("bits", "wanted", "of_one_step"), [(4, 0.09, 0.66), (6, 0.022, 0.30), (8, 0.006, 0.08)])
def test_rows_of_different_scales_are_normalised_alike(bits: int, wanted: float, of_one_step: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(-1, 1, 400)[:, None]
    x = torch.randn(400, 192, generator=generator) * scales
    exact = F.layer_norm(x, (192,))
    assert relative(ladder_layer_norm(x, bits), exact) == pytest.approx(wanted, rel=0.25)
    c = x - x.mean(-1, keepdim=True)
    q = float(c.abs().max()) / (2**bits - 1)
    codes = dynamics.total("shifted_threshold", c[None], q, timesteps=bits, signed=True)
    one_step = codes / (codes.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    assert relative(one_step, exact) > 5 * wanted


def test_every_normalisation_comes_close_to_its_function() -> None:
    x, weight, bias = torch.randn(6, 8, 5, 5) * 3 + 1, torch.rand(8) + 0.5, torch.randn(8)
    group = ladder_group_norm(x, 4, 10, weight, bias)
    torch.testing.assert_close(group, F.group_norm(x, 4, weight, bias), rtol=0.01, atol=0.02)
    over_two = ladder_layer_norm(x, 10, shape=(5, 5))
    torch.testing.assert_close(over_two, F.layer_norm(x, (5, 5)), rtol=0.01, atol=0.02)
    rows, gain = torch.randn(40, 16) * 0.01, torch.rand(16)
    wanted = rows / (rows.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain
    torch.testing.assert_close(ladder_rms_norm(rows, 10, gain, eps=1e-6), wanted, rtol=0.01, atol=0.01)


def test_a_row_of_equal_values_is_normalised_to_nothing() -> None:
    assert not ladder_layer_norm(torch.full((2, 5), 3.0), 4).any()
    assert not ladder_rms_norm(torch.zeros(2, 5), 4).any()


@pytest.mark.parametrize("scale", [2.0**-40, 1.0, 2.0**40])
def test_a_power_of_two_changes_no_bit(scale: float) -> None:
    x = torch.randn(30, 24)
    assert torch.equal(ladder_layer_norm(x * scale, 6, eps=0.0), ladder_layer_norm(x, 6, eps=0.0))


def test_comparisons_are_counted_for_a_row() -> None:
    assert NORMALISATIONS["softmax"].work(197, 4) == (196 + 197 * 4 + 4, 0)
    assert NORMALISATIONS["layer_norm"].work(192, 4) == (191 + 4, 0)
    assert set(NORMALISATIONS) == {"softmax", "layer_norm", "rms_norm", "group_norm"}
    assert repr(normalisation.EXP) == "exp(min(u, 0))"


def test_a_row_that_is_masked_in_whole_sends_nothing() -> None:
    x = torch.tensor([[0.0, -torch.inf, 1.0], [-torch.inf, -torch.inf, -torch.inf]])
    e, scale = ladder_softmax(x, 5)
    assert e[0, 1] == 0
    assert not e[1].any()
    assert scale.isfinite().all()
    torch.testing.assert_close((e * scale)[0], x[0].softmax(-1), atol=0.03, rtol=0.0)


@pytest.mark.parametrize("bits", [2, 3, 5, 7, 11])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_have_weights_without_any_error_where_their_number_is_a_power_of_two(
    bits: int, dtype: torch.dtype
) -> None:
    for number in (1, 2, 8, 64):
        e, scale = ladder_softmax(torch.full((3, number), 0.3, dtype=dtype), bits)
        assert torch.equal(e * scale, torch.full((3, number), 1 / number, dtype=dtype))


def test_softmax_along_another_axis() -> None:
    x = torch.randn(4, 5, 6)
    e = normalisation.softmax_codes(x, 1, 6)
    assert torch.equal(e.movedim(1, -1), ladder_softmax(x.movedim(1, -1), 6)[0])
    assert normalisation.softmax_scale(e, 1, 6).shape == (4, 1, 6)


@pytest.mark.parametrize("bits", [3, 6])
def test_what_is_recorded_says_the_same(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(300, 16) * torch.logspace(-3, 3, 300)[:, None]
    x[:, :4] = 2.0 ** torch.arange(-2, 2)  # ties of a logarithm
    ran = ladder_layer_norm(x, bits), *ladder_softmax(x, bits), ladder_rms_norm(x[:, :4], bits)
    monkeypatch.setattr(normalisation, "captured", lambda: True)
    recorded = ladder_layer_norm(x, bits), *ladder_softmax(x, bits), ladder_rms_norm(x[:, :4], bits)
    for got, wanted in zip(recorded, ran, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("own", [True, False])
def test_gradients_are_those_of_the_functions_to_the_codes_error(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not own:  # that of torch.ldexp is wrong in torch 2.11
        ldexp = torch.ldexp
        monkeypatch.setattr(torch, "ldexp", lambda x, k: ldexp(x.detach(), k))
    x = torch.randn(20, 16, requires_grad=True)
    weight = torch.randn(20, 16)
    for ladder, function in (
        (lambda v: ladder_layer_norm(v, 12), lambda v: F.layer_norm(v, (16,))),
        (lambda v: torch.mul(*ladder_softmax(v, 12)), lambda v: v.softmax(-1)),
        (lambda v: ladder_group_norm(v, 4, 12), lambda v: F.group_norm(v, 4)),
    ):
        (got,) = torch.autograd.grad((ladder(x) * weight).sum(), x)
        (wanted,) = torch.autograd.grad((function(x) * weight).sum(), x)
        assert relative(got, wanted) < 0.02


@pytest.mark.parametrize("recorded", [False, True])
def test_nor_where_it_is_recorded_or_has_a_gradient(recorded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalisation, "captured", lambda: recorded)
    x = torch.tensor([[-torch.inf, -torch.inf], [0.0, -torch.inf]], requires_grad=True)
    e = normalisation.softmax_codes(x, -1, 4)
    assert e.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert normalisation.softmax_scale(e, -1, 4).flatten().tolist() == [1.0, 1.0]
    if not recorded:
        e.sum().backward()
        assert bool(x.grad.isfinite().all())
