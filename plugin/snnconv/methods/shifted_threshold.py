"""Shifted-threshold integrate-and-fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from snnconv.graph.activation import Activation
from snnconv.methods.base import Method, register

__all__ = ["ShiftedThreshold"]


@register
@dataclass(frozen=True)
class ShiftedThreshold(Method):
    """Shifted-threshold IF (Datta et al., arXiv 2312.06900): T weighted spikes carry 2^T − 1 levels.

    v = Σ_t W·x[t] + b + q/2;  for k = T−1 … 0:  s = H(v − q·2^k);  v ← v − q·2^k·s;  out = q·2^k·s,  q = λ/(2^T − 1).

    Lossless: the sum of a layer's outputs is the quantised activation clip(⌊z/q + 1/2⌋, 0, L)·q. Values of both signs
    have bits of both, s = H(v − q·2^k) − [v < q − q·2^k]; at other activations f the bits are those of f(v), by a
    ladder of comparisons or by evaluating f.

    >>> ShiftedThreshold(timesteps=4).levels
    15
    """

    name: ClassVar[str] = "shifted_threshold"
    neuron: ClassVar[str] = "shifted_threshold"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timesteps > 16:
            raise ValueError(
                f"{self._label}: timesteps={self.timesteps} would carry 2^{self.timesteps} levels, more than float32 "
                "resolves; T = 3 … 6 is usual"
            )
        if self.max_pool != "accumulated":
            raise ValueError(
                f"{self._label}: max_pool={self.max_pool!r} makes no sense: a layer sees its whole input before it "
                "fires, so the maximum is that of the accumulated currents"
            )

    @property
    def levels(self) -> int:
        return (1 << self.timesteps) - 1

    @property
    def neuron_options(self) -> dict[str, Any]:
        return {"timesteps": self.timesteps}

    def node(self, threshold: Tensor, axis: int, function: Activation, framework: str) -> nn.Module:
        return super().node(threshold / self.levels, axis, function, framework)  # the least significant bit

    def threshold(self, node: nn.Module) -> Tensor:
        return super().threshold(node) * self.levels
