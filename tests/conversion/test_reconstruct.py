"""Reconstruction without labels: what it sees, how long it takes, what it is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.conversion import reconstruct
from snnconv.conversion.reconstruct import Reconstruction, output_loss, passes_of


def network() -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16 * 49, 10)).eval()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Reconstruction, Tensor]]:
    """Every step of the conversions of a test: who made it, and the inputs after augmentation."""
    seen: list[tuple[Reconstruction, Tensor]] = []
    whole = Reconstruction._augment

    def noted(self: Reconstruction, x: Any) -> Any:
        out = whole(self, x)
        seen.append((self, out))
        return out

    monkeypatch.setattr(Reconstruction, "_augment", noted)
    monkeypatch.setattr(reconstruct, "MIN_STEPS", 8)
    return seen


def test_few_levels_take_more_passes_and_few_inputs_too() -> None:
    assert passes_of(1, 32) > passes_of(3, 32) > passes_of(15, 32)
    assert passes_of(15, 2) > passes_of(15, 32)


def test_images_are_mixed_within_the_range_of_the_batch(steps: list[tuple[Reconstruction, Tensor]]) -> None:
    x = torch.rand(32, 3, 16, 16)
    x[:16] = 0  # black images beside others: a mixture is neither
    snnconv.convert(network(), methods.ShiftedThreshold(2, correction="reconstruct"), x, progress=False)
    assert all(seen.shape == x.shape and 0 <= float(seen.min()) <= float(seen.max()) <= 1 for _, seen in steps)
    brightness = torch.cat([seen.flatten(1).mean(1) for _, seen in steps])
    assert bool(((brightness > 0.05) & (brightness < 0.2)).any())


def test_inputs_that_are_no_images_stay_as_they_are(steps: list[tuple[Reconstruction, Tensor]]) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(32, 8)
    snnconv.convert(model, methods.ShiftedThreshold(2, correction="reconstruct"), x, progress=False)
    rows = {tuple(row) for row in x.tolist()}
    assert steps
    assert all(tuple(row) in rows for _, seen in steps for row in seen.tolist())


def test_the_share_of_values_that_are_not_quantised_falls_to_none(
    steps: list[tuple[Reconstruction, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    whole = Tensor.lt_

    def noted(self: Tensor, share: Any) -> Tensor:
        shares.append(float(share))
        return whole(self, share)

    monkeypatch.setattr(Tensor, "lt_", noted)
    method = methods.ShiftedThreshold(2, correction="reconstruct")
    snnconv.convert(network(), method, torch.rand(32, 3, 16, 16), progress=False)
    assert shares[0] == reconstruct.DROP
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] <= 1.5 * reconstruct.DROP / len(steps)


def test_what_all_outputs_have_too_much_is_an_error_too() -> None:
    actions = torch.randn(8, 3)  # the outputs of a policy are no class scores: a softmax alone would not see this
    assert float(output_loss(actions + 1, actions)) > 0.1


@pytest.mark.parametrize("method", [methods.ShiftedThreshold(2), methods.SignedIF(4)], ids=lambda m: m.name)
def test_outputs_come_nearer_to_the_source_on_other_inputs(method: methods.Method) -> None:
    model = network()
    with torch.no_grad():
        model[-1].weight.mul_(20)  # class scores that differ from picture to picture
        x, other = (nn.functional.interpolate(torch.rand(64, 3, 4, 4), scale_factor=4, mode="bilinear") for _ in "ab")
        target = model(other)
        snns = [
            snnconv.convert(model, replace(method, correction=c), x, progress=False) for c in ("bias", "reconstruct")
        ]
        errors = [float(output_loss(snn(other), target)) for snn in snns]
    assert errors[1] < errors[0]
