"""What is checked at the end of a conversion, and what the report says first."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import activations, methods
from snnconv.network import SpikingNetwork
from snnconv.report import ConversionReport
from snnconv.runtime.population import Population

X = torch.randn(48, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def network(activation: Any = nn.ReLU) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), activation(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), activation(), nn.Flatten(), nn.Linear(288, 5),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(3):
            model.train()(X)
    return model.eval()


HEALTHY = [
    methods.IF(timesteps=1), methods.IF(timesteps=4), methods.IF(timesteps=64, correction="none"),
    methods.IF(timesteps=16, thresholds="max"), methods.SignedIF(timesteps=2), methods.SignedIF(timesteps=32),
    methods.SRP(timesteps=2, pre_timesteps=2), methods.SRP(timesteps=16, pre_timesteps=8),
    methods.LocalThresholdBalancing(timesteps=8, max_batches=40), methods.IF(timesteps=16, delay=12),
    methods.ShiftedThreshold(timesteps=2), methods.ShiftedThreshold(timesteps=16),
    methods.ShiftedThreshold(timesteps=4, per_channel=False),
]  # fmt: skip


@pytest.mark.parametrize("method", HEALTHY, ids=str)
def test_a_healthy_network_does_not_warn_however_few_its_steps(method: methods.Method) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", snnconv.ConversionWarning)
        snn = snnconv.convert(network(), method, X, progress=False)
    agreement = snn.report.agreement
    assert agreement is not None
    assert agreement.error < 2
    if method.coding == "sum":
        assert agreement.error == pytest.approx(agreement.quantised, rel=1e-2, abs=1e-4)


def test_a_network_trained_with_a_rate_norm_does_not_warn() -> None:
    model = network(activations.RateNorm)
    with warnings.catch_warnings():
        warnings.simplefilter("error", snnconv.ConversionWarning)
        snn = snnconv.convert(model, methods.RateNorm(timesteps=32), X, progress=False)
    assert snn.report.agreement is not None


def test_neurons_that_fire_too_little_are_a_warning_that_says_by_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    fire_all = Population.fire_all
    monkeypatch.setattr(Population, "fire_all", lambda self, site, x: fire_all(self, site, x) * 0.5)
    with pytest.warns(snnconv.ConversionWarning, match=r"are \d[\d.]* % off the source network's on 2 inputs") as seen:
        snnconv.convert(network(), methods.IF(timesteps=256, correction="none"), X, progress=False)
    assert [w.filename for w in seen if w.category is snnconv.ConversionWarning] == [__file__]


def test_the_warning_can_be_made_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fire_all = Population.fire_all
    monkeypatch.setattr(Population, "fire_all", lambda self, site, x: fire_all(self, site, x) * 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", snnconv.ConversionWarning)
        with pytest.raises(snnconv.ConversionWarning, match="compare"):
            snnconv.convert(network(), methods.IF(timesteps=256, correction="none"), X, progress=False)


def test_sums_that_are_not_the_quantised_networks_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fire_total = Population.fire_total
    monkeypatch.setattr(Population, "fire_total", lambda self, site, z: fire_total(self, site, z) * 1.01)
    with pytest.raises(snnconv.ConversionError, match="2: its neurons' sums differ from the quantised"):
        snnconv.convert(network(), methods.ShiftedThreshold(timesteps=6, correction="none"), X, progress=False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda y: y[None], r"output of the converted network has shape \[1, 2, 5\], where the model's has \[2, 5\]"),
        (lambda y: y.double(), "output of the converted network has dtype torch.float64"),
        (lambda y: (y, y), r"returns output\[0\], output\[1\], where the model returns output"),
        (lambda y: y / 0, "output of the converted network is NaN or infinite"),
    ],
    ids=["shape", "dtype", "structure", "infinite"],
)
def test_outputs_of_another_form_are_an_error_that_names_them(monkeypatch: Any, change: Any, sentence: str) -> None:
    forward = SpikingNetwork.forward
    monkeypatch.setattr(SpikingNetwork, "forward", lambda self, *x: change(forward(self, *x)))
    with pytest.raises(snnconv.ConversionError, match=sentence):
        snnconv.convert(network(), methods.SignedIF(timesteps=8, correction="none"), X, progress=False)


class Inverse(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": x, "inverse": 1 / F.relu(x)}


def test_an_output_that_is_infinite_without_spikes_is_named() -> None:
    x = torch.full((16, 1), 1.0)
    x[:2] = 0.01
    with pytest.raises(snnconv.ConversionError, match=r"output\['inverse'\] of the converted network is NaN or inf"):
        snnconv.convert(Inverse(), methods.IF(timesteps=4, correction="none"), x, progress=False)


def test_without_calibration_the_check_takes_the_example_or_says_that_there_was_none() -> None:
    model = network(lambda: activations.QuantReLU(levels=7))
    method = methods.ShiftedThreshold(timesteps=3, thresholds="trained")
    snn = snnconv.convert(model, method, progress=False)
    assert snn.report.agreement is None
    assert any("not checked against the model" in note for note in snn.report.notes)
    with_example = snnconv.convert(model, method, example=X[:4], progress=False)
    assert with_example.report.agreement.error < 1e-4
    assert not any("not checked" in note for note in with_example.report.notes)
    assert with_example.input_spec["shape"] == [3, 12, 12]
    assert torch.equal(with_example(X), snn(X))


def test_the_example_is_checked_like_calibration_data() -> None:
    model = network(lambda: activations.QuantReLU(levels=7))
    method = methods.ShiftedThreshold(timesteps=3, thresholds="trained")
    with pytest.raises(snnconv.ConversionError, match="fails on calibration data of shape"):
        snnconv.convert(model, method, example=torch.randn(2, 4, 12, 12), progress=False)


class Selecting(nn.Module):
    """A part that acts on the inputs that are chosen: none of those it is calibrated on."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        chosen = F.relu(self.b(x[x[:, 0] > 5]))
        return self.c(F.relu(self.a(x)) + chosen.sum(0))


def test_a_site_that_calibration_did_not_come_to_has_the_mean_of_the_others_thresholds() -> None:
    torch.manual_seed(0)
    x = torch.rand(32, 4)
    snn = snnconv.convert(Selecting().eval(), methods.ShiftedThreshold(timesteps=6), x, progress=False)
    reached, absent = snn.thresholds["relu:2"], snn.thresholds["relu"]
    torch.testing.assert_close(absent.reshape(()), reached.mean())
    assert any("did not come to relu:" in note for note in snn.report.notes)


# --- the report --------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """A convolution that reads a convolution, as in MobileNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.narrow = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.wide(self.narrow(F.relu(self.first(x))))))


def test_the_report_begins_with_the_layers_that_read_currents_and_their_share() -> None:
    report = snnconv.convert(Bottleneck().eval(), methods.SignedIF(timesteps=4), X, progress=False).report
    macs = {"first": 216 * 100, "narrow": 32 * 100, "wide": 32 * 100, "last": 16 * 100}
    assert report.macs == macs
    share = macs["wide"] / sum(macs.values())
    assert report.share_of("currents") == pytest.approx(share)
    line = str(report).splitlines()[2]
    assert line.startswith(f"1 layer with weights, {100 * share:.3g} % of the operations, reads the currents")
    assert line.endswith(": wide")
    assert "nothing stays analog" not in str(report)


def test_a_network_without_such_layers_has_no_such_line() -> None:
    report = snnconv.convert(network(), methods.SignedIF(timesteps=4), X, progress=False).report
    assert "currents" not in str(report)
    assert "nothing stays analog" in str(report)
    assert report.macs == {}


def test_the_report_keeps_its_agreement_through_plain_values() -> None:
    report = snnconv.convert(network(), methods.SignedIF(timesteps=4), X, progress=False).report
    again = ConversionReport.from_dict(report.to_dict())
    assert again.agreement == report.agreement
    assert f"outputs on calibration inputs: {100 * report.agreement.error:.3g} % off" in str(again)


# --- weights that are masks --------------------------------------------------------------------------------


class Masked(nn.Module):
    def __init__(self, mask: Tensor, parameter: bool) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(3, 4), nn.Linear(4, 2)
        if parameter:
            self.mask = nn.Parameter(mask)
        else:
            self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.softmax(F.relu(self.a(x)) + self.mask, -1))


INF = float("inf")


def test_a_mask_of_minus_infinity_is_no_broken_weight() -> None:
    torch.manual_seed(0)
    model = Masked(torch.tensor([0.0, 0.0, -INF, 0.0]), False).eval()
    x = torch.randn(32, 3)
    snn = snnconv.convert(model, methods.ShiftedThreshold(timesteps=8), x, progress=False)
    torch.testing.assert_close(snn(x), model(x).detach(), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("value", "parameter"), [(float("nan"), False), (INF, False), (-INF, True), (INF, True), (float("nan"), True)]
)
def test_other_values_that_are_not_finite_are(value: float, parameter: bool) -> None:
    model = Masked(torch.tensor([0.0, 0.0, value, 0.0]), parameter).eval()
    with pytest.raises(snnconv.ConversionError, match="weight 'mask' has 1 NaN or infinite value"):
        snnconv.convert(model, methods.SignedIF(timesteps=8), torch.randn(32, 3), progress=False)


def test_statistics_of_minus_infinity_are_broken_though_they_are_no_parameters() -> None:
    model = network()
    model[1].running_mean[0] = -INF
    with pytest.raises(snnconv.ConversionError, match="running_mean"):
        snnconv.convert(model, methods.SignedIF(timesteps=8), X, progress=False)
