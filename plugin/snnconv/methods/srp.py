"""SRP: residual membrane potential."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from snnconv.methods.base import Method, register

__all__ = ["SRP"]


@register
@dataclass(frozen=True)
class SRP(Method):
    """SRP-IF (Hao et al., AAAI 2023, arXiv 2302.02091).

    Phase 1, τ steps: ordinary IF; then m = [v(τ) > ε·θ]. Phase 2, T steps: again from v = θ/2, outputs multiplied by
    m. The latency is τ + T.

    Attributes:
        pre_timesteps: τ, steps before those that are read out, which decide who may fire.
        eps: ε, how far above zero the membrane must end the first phase, as a fraction of the threshold.

    >>> SRP(timesteps=4, pre_timesteps=4).latency
    8
    """

    name: ClassVar[str] = "srp"
    neuron: ClassVar[str] = "srp"
    pre_timesteps: int
    eps: float = field(default=1e-3, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("pre_timesteps", 1)
        self._bounded("pre_timesteps")
        self._fraction("eps")

    @property
    def pre_timesteps_(self) -> int:
        return self.pre_timesteps

    @property
    def neuron_options(self) -> dict[str, Any]:
        return {"pre_timesteps": self.pre_timesteps, "eps": self.eps}
