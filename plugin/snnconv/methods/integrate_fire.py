"""Plain integrate-and-fire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from snnconv.methods.base import Delay, Method, register

__all__ = ["IF", "RateMethod"]


@dataclass(frozen=True)
class RateMethod(Method):
    """Methods that read a rate: φ(T) = (1/T) Σ_t out[t], from step D + 1 on where a delay D is asked for.

    Attributes:
        delay: D, or ``"auto"`` (arXiv 2409.03368, eq. 19): ⌊Σ_l mean_c(θ_c − v₀) / max_i ȳ_i⌋, ȳ_i the mean over the
            calibration data of element i of the layer's activation; where T < D + 4 the last four steps are read.
    """

    delay: Delay = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_delay(self.delay)

    @property
    def delay_(self) -> Delay:
        return self.delay


@register
@dataclass(frozen=True)
class IF(RateMethod):
    """Integrate-and-fire with soft reset, started at θ/2: the plain baseline.

    v ← v + W·x[t] + b;  s[t] = H(v − θ);  v ← v − θ·s[t];  out[t] = θ·s[t].

    >>> IF(timesteps=16).levels
    16
    """

    name: ClassVar[str] = "if"
    neuron: ClassVar[str] = "if"
