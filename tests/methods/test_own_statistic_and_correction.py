"""A threshold statistic and a correction of a user's own: known by their names wherever a method is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.methods import corrections, statistics

X = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _only_here() -> Iterator[None]:
    before = dict(statistics.STATISTICS), dict(corrections.CORRECTIONS)
    yield
    for table, kept in zip((statistics.STATISTICS, corrections.CORRECTIONS), before, strict=True):
        table.clear()
        table.update(kept)  # type: ignore[arg-type]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


def converted(**settings: Any) -> snnconv.SpikingNetwork:
    return snnconv.convert(network(), methods.IF(timesteps=8, **settings), X, progress=False)


def half() -> statistics.Statistic:
    return statistics.register(statistics.Statistic("half", lambda seen, method: seen.largest() / 2))


def test_a_statistic_gives_the_thresholds() -> None:
    half()
    expected = converted(thresholds="max", correction="none").thresholds["1"] / 2
    snn = converted(thresholds="half", correction="none")
    assert torch.equal(snn.thresholds["1"], expected)
    assert snn.report.method["thresholds"] == "half"


def test_a_statistic_may_be_that_of_one_layer() -> None:
    half()
    overrides = {"1": {"thresholds": "half"}}
    method = methods.IF(timesteps=8, thresholds="max", correction="none")
    snn = snnconv.convert(network(), method, X, overrides=overrides, progress=False)
    assert torch.equal(snn.thresholds["1"], converted(thresholds="half", correction="none").thresholds["1"])


def test_a_correction_is_given_the_conversion_and_what_it_sets_is_converted() -> None:
    given: list[Any] = []

    def double(work: Any) -> None:
        given.append(work)
        work.thresholds = {site: 2 * theta for site, theta in work.thresholds.items()}

    corrections.register(corrections.Correction("double", double))
    snn = converted(correction="double")
    assert torch.equal(snn.thresholds["1"], 2 * converted(correction="none").thresholds["1"])
    (work,) = given
    assert set(work.ann.sites) == set(work.snn.sites) == {"1"}
    assert sum(map(len, work.batches)) == len(X)


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    half()
    snn = converted(thresholds="half")
    snnconv.save(snn, tmp_path / "own.snn.safetensors")
    loaded = snnconv.load(tmp_path / "own.snn.safetensors")
    assert loaded.method == snn.method
    assert torch.equal(loaded(X), snn(X))


@pytest.mark.parametrize(
    ("field", "sentence"), [("thresholds", "thresholds must be 'mse', 'max'"), ("correction", "known: none, bias")]
)
def test_where_it_is_not_registered_a_file_is_refused_by_its_name(field: str, sentence: str, tmp_path: Path) -> None:
    half()
    corrections.register(corrections.Correction("half", None))
    snnconv.save(converted(**{field: "half"}), tmp_path / "own.snn.safetensors")
    del statistics.STATISTICS["half"], corrections.CORRECTIONS["half"]
    with pytest.raises(snnconv.ConversionError, match=sentence):
        snnconv.load(tmp_path / "own.snn.safetensors")


def test_one_that_fits_the_quantiser_does_not_go_with_trained_thresholds_or_powers_of_two() -> None:
    corrections.register(corrections.Correction("fit", lambda work: None, fits_quantiser=True))
    with pytest.raises(ValueError, match="correction='fit' fits a quantiser of even levels"):
        methods.MultiThreshold(timesteps=4, correction="fit")
    trained = snnconv.prepare(network(), snnconv.activations.QuantReLU(levels=8), X, progress=False).eval()
    method = methods.ShiftedThreshold(timesteps=3, thresholds="trained", correction="fit")
    with pytest.raises(snnconv.ConversionError, match="correction='fit' changes thresholds"):
        snnconv.convert(trained, method, X, progress=False)


def test_a_name_that_is_taken_is_refused_and_an_unknown_one_lists_the_known() -> None:
    with pytest.raises(ValueError, match="there is a correction 'bias' already"):
        corrections.register(corrections.Correction("bias", None))
    with pytest.raises(ValueError, match="there is a threshold statistic 'max' already"):
        statistics.register(statistics.Statistic("max", lambda seen, method: seen.largest()))
    with pytest.raises(ValueError, match="unknown correction 'baas'; known: none, bias, reconstruct"):
        methods.IF(timesteps=8, correction="baas")
