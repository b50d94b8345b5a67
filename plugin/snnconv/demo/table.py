"""Every method at several numbers of steps on one small network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from snnconv import methods
from snnconv.conversion.convert import convert
from snnconv.demo.digits import Digits, one_thread
from snnconv.dynamics.kernels.backends import auto_is
from snnconv.metrics.evaluating import evaluate
from snnconv.metrics.profiling import profile
from snnconv.network import SpikingNetwork

__all__ = ["Row", "curves", "measure"]

TIMESTEPS = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Row:
    """One conversion: its label, every step that runs, accuracy (percent), energy over the source network's."""

    label: str
    latency: int
    accuracy: float
    energy_ratio: float | None
    network: SpikingNetwork


def _tried() -> list[tuple[str, list[methods.Method]]]:
    return [
        ("IF", [methods.IF(t) for t in TIMESTEPS]),
        ("signed IF", [methods.SignedIF(t) for t in TIMESTEPS]),
        ("SRP, τ = T/2", [methods.SRP(t // 2, t // 2) for t in TIMESTEPS]),
        ("LTB, delayed readout", [methods.LocalThresholdBalancing(t, max_batches=200) for t in TIMESTEPS]),
        ("shifted threshold", [methods.ShiftedThreshold(t) for t in (2, 3, 4, 5)]),
    ]


def measure(model: nn.Module, digits: Digits) -> Iterator[Row]:
    """Convert by every method at every number of steps, and score on the test images."""
    calibration = digits.x_train[:512]
    test = (digits.x_test, digits.y_test)
    for label, tried in _tried():
        for method in tried:
            with one_thread(), auto_is("eager"):  # compiling the kernels would take longer than all of this
                snn = convert(model, method, calibration=calibration, progress=False)
                found = evaluate(snn, test, timesteps=[method.timesteps])
                ratio = profile(model, snn, digits.x_test[:64]).energy_ratio
            yield Row(label, method.latency, found.final, ratio, snn)


def curves(rows: Iterable[Row]) -> dict[str, dict[int, float]]:
    """Label → steps → accuracy.

    >>> curves([])
    {}
    """
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row.label, {})[row.latency] = row.accuracy
    return found
