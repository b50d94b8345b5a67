"""Histograms of activations in one pass, and the thresholds that are read off them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError
from snnconv.conversion import histogram, thresholds
from snnconv.conversion.bias import Target
from snnconv.conversion.histogram import BINS, Histogram, histograms
from snnconv.conversion.thresholds import mse_threshold, percentile_threshold, power_threshold
from snnconv.dynamics import multi_threshold_step
from snnconv.graph.capture.fx import source_graph
from snnconv.methods import Method, ShiftedThreshold, SignedIF
from snnconv.runtime.program import GraphProgram

LEVELS = (1, 2, 3, 7, 15, 255)


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def added(batches: list[Tensor], axis: int = 1) -> Histogram:
    found = Histogram.empty(batches[0], batches[0].shape[axis])
    for y in batches:
        found.add(y, axis)
    return found


def program() -> GraphProgram:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    return GraphProgram(source_graph(model.eval()))


class TestHistogram:
    def test_bins_are_even_up_to_a_power_of_two(self) -> None:
        y = values(64, 3, 5).relu() * torch.tensor([0.01, 1.0, 30.0])[:, None]
        found = added([y])
        assert torch.equal(found.peak, y.amax((0, 2)))
        assert bool((found.scale >= found.peak).all())
        assert bool((found.scale < 2 * found.peak).all())
        assert torch.equal(found.scale.log2(), found.scale.log2().round())
        for c in range(3):
            edges = torch.arange(1, BINS + 1, dtype=torch.float64) / BINS * found.scale[c].double()
            expected = torch.searchsorted(edges, y[:, c][y[:, c] > 0].double()).bincount(minlength=BINS)
            assert torch.equal(found.magnitudes(False)[c].long(), expected)
        assert found.total == 64 * 5

    def test_neither_the_order_nor_the_sizes_of_batches_tell(self) -> None:
        growing = values(90, 4, 6).relu() * torch.logspace(-4, 2, 90)[:, None, None]  # doubles again and again
        whole = added([growing])
        for batches in (growing.split(7), growing.flip(0).split(13), [growing[:1], growing[1:]]):
            parts = added(list(batches))
            assert torch.equal(parts.bins, whole.bins)
            assert torch.equal(parts.scale, whole.scale)

    @pytest.mark.parametrize("axis", [1, -1])
    def test_the_layout_does_not_tell(self, axis: int) -> None:
        y = values(8, 4, 6, 4).relu()
        other = y.contiguous(memory_format=torch.channels_last)
        assert torch.equal(added([y], axis).bins, added([other], axis).bins)

    def test_values_of_both_signs(self) -> None:
        y = values(50, 2, 9)
        found = added([y.relu(), y])  # negative ones come later
        assert found.signed
        assert found.total == 2 * 450
        assert torch.equal(found.peak, y.abs().amax((0, 2)))
        below, above = added([(-y).relu() * 1.0]), added([y.relu()])
        for one, other in ((found.magnitudes(False), above), (found.magnitudes(True) - found.magnitudes(False), below)):
            assert one.sum(1).tolist() == [2 * n if other is above else n for n in other.magnitudes(False).sum(1)]

    def test_a_channel_counts_evenly_spaced_values_where_there_are_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(histogram, "VALUES", 100)
        y = torch.arange(1.0, 1 + 16 * 16).reshape(1, 1, 16, 16).repeat(4, 1, 1, 1)
        rows = histogram._sampled(histogram._rows(y, 1, True))
        assert 4 * 40 < rows.numel() <= 4 * 100  # of each of the four inputs
        assert len((rows.flatten() - 1).remainder(16).unique()) == 16  # every column of the map
        assert float(added([y]).peak) == 256  # of all of them

    def test_which_values_are_counted_does_not_depend_on_the_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(histogram, "VALUES", 100)
        y = values(12, 3, 16, 16)
        whole = added([y])
        for size in (1, 5):
            assert torch.equal(added(list(y.split(size))).bins, whole.bins)

    def test_the_network_runs_once_for_each_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ann, x, seen = program(), values(20, 3, 8, 8), []
        static = ann.static
        monkeypatch.setattr(ann, "static", lambda *given: (seen.append(len(given[0])), static(*given))[1])
        found = histograms(ann, x.split(8), per_channel=True)
        assert seen == [8, 8, 4]
        assert [(h.bins.shape[0], h.total) for h in found.values()] == [(4, 20 * 36), (6, 20 * 16)]

    @pytest.mark.parametrize("bad", [torch.inf, torch.nan])
    def test_what_is_not_finite_is_refused_by_name(self, bad: float) -> None:
        x = values(4, 3, 8, 8)
        x[2] = bad
        with pytest.raises(ConversionError, match=r"^1: its activation is NaN or infinite on the calibration data"):
            histograms(program(), [x], per_channel=True)


def brute_force(y: Tensor, levels: int, cap: float = 1e9, signed: bool = False) -> Tensor:
    """The candidate of the least squared error, value by value."""
    best, theta = torch.full((y.shape[1],), torch.inf, dtype=torch.float64), torch.zeros(y.shape[1])
    peak = y.abs().amax(0)
    for fraction in torch.linspace(1.1, 0.02, thresholds.GRID).tolist():
        candidate = (peak * fraction).clamp(max=cap)
        q = candidate.double() / levels
        code = (y.abs() / q + 0.5).floor().clamp(0, levels) * (y.sign() if signed else 1)
        error = (y - code * q).square().sum(0)
        theta = torch.where(error < best, candidate, theta)
        best = torch.minimum(error, best)
    return theta


def at_centers(y: Tensor) -> Tensor:
    """Values moved to the centres of their bins, so that a histogram says all about them."""
    width = Histogram.of(y).width.double()
    moved = y.double()
    moved = torch.where(moved == 0, 0, moved.sign() * ((moved.abs() / width).ceil() - 0.5) * width)
    return torch.where(y.abs() == y.abs().amax(0), y.double(), moved)  # the peak is what it is


class TestMSE:
    @pytest.mark.parametrize("levels", LEVELS)
    @pytest.mark.parametrize("cap", [1e9, 2.0])
    def test_the_closed_form_is_the_search_over_values(self, levels: int, cap: float) -> None:
        y = at_centers(values(3000, 5).relu().clamp(max=cap) * torch.linspace(0.2, 1, 5))
        found = mse_threshold(Histogram.of(y.float()), levels, cap=cap)
        torch.testing.assert_close(found, brute_force(y, levels, cap).float(), rtol=0.02, atol=0)

    @pytest.mark.parametrize("levels", [1, 3, 15])
    def test_signed_levels(self, levels: int) -> None:
        y = at_centers(values(3000, 4) + torch.linspace(-1, 1, 4))
        found = mse_threshold(Histogram.of(y.float()), levels, signed=True)
        torch.testing.assert_close(found, brute_force(y, levels, signed=True).float(), rtol=0.02, atol=0)

    @pytest.mark.parametrize("levels", LEVELS)
    def test_levels_by_level_and_by_bin_err_alike(self, levels: int) -> None:
        counts = torch.randint(0, 50, (3, BINS), generator=torch.Generator().manual_seed(0)).double()
        centers = torch.arange(BINS).double() + 0.5
        steps = torch.linspace(1.1, 0.02, 30).double().expand(3, -1) * BINS / levels + 1e-3
        one = thresholds._errors_by_level(counts, centers, steps, levels)
        other = thresholds._errors_by_bin(counts, centers, steps, levels)
        torch.testing.assert_close(one.where(one.isfinite(), other), other)
        assert torch.equal(one.argmin(1), other.argmin(1))  # what is cut off says that it is not looked at

    def test_more_levels_than_bins(self) -> None:
        y = values(5000, 2).relu()
        assert bool((mse_threshold(Histogram.of(y), 2**16 - 1) > 0.99 * y.amax(0)).all())

    @pytest.mark.parametrize("n", [1, 2, 4])
    @pytest.mark.parametrize("cap", [1e9, 1.5])
    def test_powers_of_two_are_the_search_over_the_neurons_own_first_step(self, n: int, cap: float) -> None:
        y = at_centers(values(3000, 5).relu().clamp(max=2 * cap) * torch.linspace(0.2, 1, 5))
        best, theta = torch.full((5,), torch.inf, dtype=torch.float64), torch.zeros(5)
        for fraction in torch.linspace(1.1, 0.02, thresholds.GRID).tolist():
            candidate = (y.amax(0) * fraction).float().clamp(max=cap)
            smallest = candidate.double() / 2 ** (n - 1)
            said = multi_threshold_step(y, None, smallest, n)[0] * smallest
            error = (y - said).square().sum(0)
            theta, best = torch.where(error < best, candidate, theta), torch.minimum(error, best)
        found = power_threshold(Histogram.of(y.float()), n, cap=cap)
        torch.testing.assert_close(found, theta, rtol=0.02, atol=0)

    def test_silent_channels_get_the_others_mean(self) -> None:
        y = values(500, 3).relu() * torch.tensor([1.0, 0.0, 1.0])
        theta = mse_threshold(Histogram.of(y), 7)
        assert float(theta[1]) == pytest.approx(float(theta[0] + theta[2]) / 2)


def test_percentiles_count_zeros_and_know_signs() -> None:
    y = torch.cat([torch.zeros(900), torch.linspace(0, 1, 101)[1:]])[:, None]
    assert float(percentile_threshold(Histogram.of(y), 95.0)) == pytest.approx(0.5, abs=2e-3)
    assert float(percentile_threshold(Histogram.of(-y), 95.0, signed=True)) == pytest.approx(0.5, abs=2e-3)
    assert float(percentile_threshold(Histogram.of(y), 100.0)) == 1.0


def test_bias_correction_keeps_a_byte_for_an_activation() -> None:
    y = values(6, 3, 4, 4).relu()
    target = Target.of(y, 1)
    assert target.active.dtype == torch.bool
    assert target.active.numel() == y.numel()
    torch.testing.assert_close(target.mean, y.mean((0, 2, 3)))


@pytest.mark.parametrize("method", [ShiftedThreshold(3), SignedIF(4)], ids=lambda m: m.name)
def test_equalising_channels_between_layers_changes_nothing(method: Method) -> None:
    """Cross-layer equalisation (arXiv 1906.04721) scales a channel; a threshold a channel scales with it."""
    torch.manual_seed(0)
    one, two, x = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), torch.randn(32, 3, 8, 8)
    scale = 2.0 ** torch.arange(-3, 3)

    def outputs() -> Tensor:
        model = nn.Sequential(one, nn.ReLU(), two, nn.Flatten()).eval()
        return snnconv.convert(model, method, x, progress=False)(x)

    plain = outputs()
    with torch.no_grad():
        one.weight.mul_(scale[:, None, None, None])
        one.bias.mul_(scale)
        two.weight.div_(scale[:, None, None])
    torch.testing.assert_close(outputs(), plain)
