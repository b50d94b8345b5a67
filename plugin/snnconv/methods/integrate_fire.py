"""Plain integrate-and-fire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from snnconv.methods.base import Delay, Method, register

__all__ = ["IF", "RateMethod"]

Start = Literal["half", "zero"]


@dataclass(frozen=True)
class RateMethod(Method):
    """Methods that read a rate: φ(T) = (1/T) Σ_t out[t], from step D + 1 on where a delay D is asked for.

    Attributes:
        delay: D, steps that the readout leaves out, or ``"auto"`` (arXiv 2409.03368, eq. 19): ⌊Σ_l mean_c(θ_c − v₀) /
            max_i ȳ_i⌋, ȳ_i the mean over the calibration data of element i of the layer's activation; where T < D + 4
            the last four steps are read.
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

    Attributes:
        start: where the membrane starts: ``"half"``, θ/2, so that rates are rounded; ``"zero"``, 0, so that they are
            rounded down (as in the rate norm layer's paper).

    >>> IF(timesteps=16).levels
    16
    """

    name: ClassVar[str] = "if"
    neuron: ClassVar[str] = "if"
    start: Start = field(default="half", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("start", get_args(Start))

    @property
    def neuron_options(self) -> dict[str, Any]:
        known = {option.name for option in self.record.options}  # those of a neuron that a subclass names
        return {"start": self.start} if "start" in known else {}
