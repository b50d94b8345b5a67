"""Fast-SNN: signed integrate-and-fire."""

from __future__ import annotations

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

    >>> SignedIF(timesteps=8).latency
    8
    """

    name: ClassVar[str] = "signed_if"
    neuron: ClassVar[str] = "signed_if"
    eps: float = field(default=1e-3, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fraction("eps")

    @property
    def neuron_options(self) -> dict[str, Any]:
        return {"eps": self.eps}
