"""What a converted network may cost, and the methods that could stay within it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from snnconv import methods
from snnconv.methods import Method

__all__ = ["Budget", "candidates"]

_FORM = "write T=8, energy=0.3 or drop=1.0, or several with commas"


@dataclass(frozen=True)
class Budget:
    """Bounds; ``None`` leaves one open.

    Attributes:
        latency: steps at most, τ + T of a layer, or as ``recommend(..., latency=...)`` counts them.
        energy: energy at most, as a ratio to the source network's.
        drop: score at most below the source network's: percentage points of accuracy or agreement.

    >>> Budget.parse("T=8,drop=1")
    Budget(latency=8, energy=None, drop=1.0)
    >>> print(Budget(energy=0.3))
    energy=0.3
    """

    latency: int | None = None
    energy: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        if self.latency is None and self.energy is None and self.drop is None:
            raise ValueError(f"the budget is empty: {_FORM}")
        if self.latency is not None and self.latency < 1:
            raise ValueError(f"a budget of T={self.latency} leaves no step: T is at least 1")
        for name, least in (("energy", 0.0), ("drop", -100.0)):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > least - (name == "drop")):
                raise ValueError(f"a budget of {name}={value} makes no sense: it is a number above {least:g}")

    @staticmethod
    def parse(text: str) -> Budget:
        """The budget in a text such as ``T=8,energy=0.3,drop=1.0``.

        Raises:
            ValueError: a text of another form.
        """
        found: dict[str, float] = {}
        names = {"T": "latency", "t": "latency", "energy": "energy", "drop": "drop"}
        for part in text.split(","):
            key, _, number = (piece.strip() for piece in part.partition("="))
            if key not in names or names[key] in found:
                raise ValueError(f"{part.strip()!r} is no part of a budget: {_FORM}")
            try:
                found[names[key]] = int(number) if names[key] == "latency" else float(number)
            except ValueError as error:
                kind = "a whole number" if names[key] == "latency" else "a number"
                raise ValueError(f"{part.strip()!r}: {key} is {kind}") from error
        return Budget(**found)  # type: ignore[arg-type]

    def __str__(self) -> str:
        named = (("T", self.latency), ("energy", self.energy), ("drop", self.drop))
        return ",".join(f"{name}={value:g}" for name, value in named if value is not None)


def candidates(budget: Budget, trained: bool = False, longest: int = 32) -> list[Method]:
    """Methods worth trying, fewest steps first, none with more steps than the budget allows.

    Args:
        budget: the budget.
        trained: whether the network has trained thresholds (rate norm layers, quantised activations).
        longest: most steps, where the budget leaves them open.

    >>> [m.latency for m in candidates(Budget(latency=4))]
    [1, 2, 2, 3, 4, 4, 4, 4, 4, 4]
    """
    most = budget.latency or longest
    found: list[Method] = []
    rate = _steps(most, (4, 8, 16, 32))
    source = {"thresholds": "trained"} if trained else {}
    found += [methods.ShiftedThreshold(t, **source) for t in _steps(min(most, 6), (3, 4, 5, 6))]  # type: ignore[arg-type]
    found += [methods.SignedIF(t, **source) for t in rate]  # type: ignore[arg-type]
    if not trained:
        found += [methods.HierarchicalMultiThreshold(t) for t in _steps(min(most, 4), (1, 2, 4))]
        found += [methods.MultiThreshold(t) for t in _steps(min(most, 8), (2, 4, 8))]
    found += [methods.IF(t, **source) for t in rate]  # type: ignore[arg-type]
    found += [methods.SRP(t - t // 2, t // 2, **source) for t in rate if t >= 4]  # type: ignore[arg-type]
    if trained:
        found += [methods.RateNorm(t) for t in rate]
    else:
        found += [methods.LocalThresholdBalancing(t) for t in rate if t >= 16]
    return sorted((m for m in found if m.latency <= most), key=lambda m: m.latency)


def _steps(most: int, usual: Sequence[int]) -> list[int]:
    """The usual numbers of steps up to ``most``, and ``most`` itself."""
    found = [t for t in usual if t <= most]
    return found if most in found or most > usual[-1] else [*found, most]
