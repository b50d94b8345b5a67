"""Rate Norm Layer conversion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from snnconv.methods.base import register
from snnconv.methods.corrections import CORRECTIONS
from snnconv.methods.integrate_fire import IF

__all__ = ["RateNorm"]

_REASON = "the network was trained with its thresholds; use methods.IF for calibrated ones"


@register
@dataclass(frozen=True)
class RateNorm(IF):
    """Conversion of a network trained with rate norm layers (Ding et al., IJCAI 2021, arXiv 2105.11654).

    y = clip(z/θ, 0, 1) becomes an IF neuron with threshold θ = p·r that emits unit spikes, soft reset.

    >>> RateNorm(timesteps=32).thresholds
    'trained'
    """

    name: ClassVar[str] = "rate_norm"
    converts: ClassVar[frozenset[str] | None] = frozenset({"rate_norm", "clip"})
    refused_thresholds: ClassVar[dict[str, str]] = {"mse": _REASON, "max": _REASON, "ltb": _REASON}
    thresholds: str = field(default="trained", kw_only=True)
    correction: str = field(default="none", kw_only=True, metadata={"known": CORRECTIONS})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thresholds != "trained":
            raise ValueError(f"{self._label}: thresholds={self.thresholds!r} makes no sense: {_REASON}")
