"""Fast-SNN: signed integrate-and-fire."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from snnconv.methods.base import register
from snnconv.methods.integrate_fire import RateMethod

__all__ = ["SignedIF"]


@register
@dataclass(frozen=True)
class SignedIF(RateMethod):
    """Signed IF (Hu et al., Fast-SNN, TPAMI 2023, arXiv 2305.19868).

    After the positive spike: if v < −ε·θ and n > 0, emit −1, v ← v + θ, n ← n − 1 (n: positive minus negative spikes).

    Attributes:
        eps: ε, dead zone below zero as a fraction of the threshold.
        eps_absolute: the dead zone in units of the membrane, whatever the threshold, in place of ε·θ: what the authors'
            code has.

    >>> SignedIF(timesteps=8).latency
    8
    """

    name: ClassVar[str] = "signed_if"
    neuron: ClassVar[str] = "signed_if"
    eps: float = field(default=1e-3, kw_only=True)
    eps_absolute: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fraction("eps")
        width = self.eps_absolute
        if width is not None and (not isinstance(width, (int, float)) or not math.isfinite(width) or width < 0):
            raise ValueError(f"{self._label}: eps_absolute must be 0 or more and finite, or None, got {width!r}")

    @property
    def neuron_options(self) -> dict[str, Any]:
        return {"eps": self.eps, "eps_absolute": self.eps_absolute}
