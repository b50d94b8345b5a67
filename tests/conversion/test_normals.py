"""Calibration without data: thresholds from what BatchNorms have learned."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods


def _normed(layer: nn.Module, norm: nn.Module, seed: int = 0) -> nn.Sequential:
    """A layer and its BatchNorm, with statistics and parameters of its own."""
    generator = torch.Generator().manual_seed(seed)
    for name, low, high in (("weight", 0.5, 1.5), ("bias", -1, 1), ("running_mean", -1, 1), ("running_var", 0.5, 2)):
        value = getattr(norm, name)
        value.data.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))
    return nn.Sequential(layer, norm)


def _squared_error(mean: float, deviation: float, theta: float, levels: int) -> float:
    """E[(max(z, 0) − clip(⌊zL/θ + 1/2⌋, 0, L)·θ/L)²] of a normal z, interval by interval, by the error function."""

    def density(x: float) -> float:
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def below(x: float) -> float:
        return (1 + math.erf(x / math.sqrt(2))) / 2

    step, error = theta / levels, 0.0
    for k in range(levels + 1):
        low = max(0.0, (k - 0.5) * step)
        a = (low - mean) / deviation
        b = math.inf if k == levels else ((k + 0.5) * step - mean) / deviation
        upper = 0.0 if b == math.inf else density(b)
        share = (1.0 if b == math.inf else below(b)) - below(a)
        away = mean - k * step  # E[(z − kq)²; a < (z − β)/γ < b]
        second = share + a * density(a) - (0.0 if b == math.inf else b * upper)
        error += deviation**2 * second + 2 * deviation * away * (density(a) - upper) + away**2 * share
    return error


@pytest.mark.parametrize("levels", [1, 3, 15])
def test_thresholds_have_the_least_squared_error_of_the_normal_distribution(levels: int) -> None:
    layer = _normed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    model = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(6, 2, 3)).eval()
    seen = snnconv.calibrate(model, torch.zeros(1, 3, 16, 16), statistics="batch_norm")
    method = methods.IF(levels, correction="none")
    found = snnconv.convert(model, method, seen).thresholds["1"]
    norm = layer[1]
    scale = norm.weight.abs() * (norm.running_var / (norm.running_var + norm.eps)).sqrt()
    for theta, mean, deviation in zip(found.tolist(), norm.bias.tolist(), scale.tolist(), strict=True):
        errors = {s: _squared_error(mean, deviation, s * theta, levels) for s in [0.8 + 0.01 * i for i in range(60)]}
        least = min(errors.values())
        assert _squared_error(mean, deviation, theta, levels) < 1.02 * least + 1e-6 * deviation**2


class Residual(nn.Module):
    """Two branches, each with a BatchNorm, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.left = _normed(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), 1)
        self.right = _normed(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), 2)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.left(x) + self.right(x)))


def test_a_sum_of_two_has_the_sum_of_means_and_variances() -> None:
    model = Residual().eval()
    seen = snnconv.calibrate(model, torch.zeros(1, 3, 16, 16), statistics="batch_norm")
    (histogram,) = seen.histograms.values()
    norms = model.left[1], model.right[1]
    mean = sum(norm.bias for norm in norms)
    deviation = sum(n.weight**2 * n.running_var / (n.running_var + n.eps) for n in norms).sqrt()
    share = 0.5 * (1 + torch.erf(mean / deviation / math.sqrt(2)))  # of what is above zero
    counted = histogram.magnitudes(False).sum(1) / histogram.total
    torch.testing.assert_close(counted, share, atol=0.02, rtol=0)


def test_a_norm_in_front_of_its_layer_says_what_comes_too() -> None:
    first = nn.Conv2d(3, 4, 3)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), first, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    seen = snnconv.calibrate(model.eval(), torch.zeros(1, 3, 8, 8), statistics="batch_norm")
    assert list(seen.histograms) == ["1", "4"]


def test_what_no_norm_says_is_refused_by_name() -> None:
    block = _normed(nn.Linear(6, 8), nn.BatchNorm1d(8))
    model = nn.Sequential(block, nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    with pytest.raises(snnconv.ConversionError, match="no BatchNorm says what comes to 3, which lies behind a layer"):
        snnconv.calibrate(model, torch.zeros(1, 6), statistics="batch_norm")
    with pytest.raises(ValueError, match="'data' or 'batch_norm', got 'guess'"):
        snnconv.calibrate(model, torch.zeros(1, 6), statistics="guess")  # type: ignore[arg-type]


def test_the_network_and_the_random_numbers_of_the_caller_stay_as_they_are() -> None:
    model = nn.Sequential(_normed(nn.Linear(6, 8), nn.BatchNorm1d(8)), nn.ReLU(), nn.Linear(8, 2)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    one = snnconv.calibrate(model, torch.zeros(1, 6), statistics="batch_norm")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    two = snnconv.calibrate(model, torch.ones(4, 6), statistics="batch_norm")
    assert torch.equal(one.histograms["1"].bins, two.histograms["1"].bins)  # nor do the values matter
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_was_found_without_data_is_kept_in_a_file(tmp_path: Path) -> None:
    model = nn.Sequential(_normed(nn.Linear(6, 8), nn.BatchNorm1d(8)), nn.ReLU(), nn.Linear(8, 2)).eval()
    seen = snnconv.calibrate(model, torch.zeros(1, 6), statistics="batch_norm")
    seen.save(tmp_path / "net.calibration.safetensors")
    again = snnconv.Calibration.load(tmp_path / "net.calibration.safetensors")
    method = methods.IF(8, correction="none")
    assert again.count == 0
    one, two = (snnconv.convert(model, method, known).thresholds["1"] for known in (seen, again))
    assert torch.equal(one, two)


def test_a_network_is_converted_without_data() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    x = torch.randn(64, 3, 8, 8)
    for _ in range(60):  # the statistics of its norms are those of its data
        model(x)
    model.eval()
    seen = snnconv.calibrate(model, torch.zeros(1, 3, 8, 8), statistics="batch_norm")
    snn = snnconv.convert(model, methods.ShiftedThreshold(6, correction="none"), seen)
    assert snn.report.calibration_samples == 0
    out, wanted = snn(x), model(x)
    assert (out - wanted).norm() < 0.05 * wanted.norm()
    with pytest.raises(snnconv.ConversionError, match="and this calibration keeps none: take correction='none'"):
        snnconv.convert(model, methods.ShiftedThreshold(6), seen)
