"""Multi-threshold neurons with differential coding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from snnconv.dynamics.neuron import Neuron
from snnconv.graph.activation import Activation
from snnconv.methods import corrections
from snnconv.methods.base import Method, register

__all__ = ["HierarchicalMultiThreshold", "MultiThreshold"]


@register
@dataclass(frozen=True)
class MultiThreshold(Method):
    """Multi-threshold neurons, of whose n thresholds θ/2^k of both signs one fires a step (DCGS, arXiv 2503.00301).

    All layers step together, so that T is the latency of the whole network. A spike d[t] says what is new: its
    receiver's estimate is r[t] = r[t−1] + d[t]/t. With the current c = W·d[t] (and the bias at t = 1):
    v ← v + m + c;  m ← m + c/t;  u = v − r;  s = sign(u)·θ/2^k for the largest θ/2^k with |u| ≥ ¾·θ/2^k;  0 where
    r + s/t < 0;  v ← v − (r + s);  r ← r + s/t.

    Attributes:
        n: thresholds of a neuron.
        coding: only ``"differential"``.
        thresholds: as for every method; a whole number is taken for ``n``.

    >>> MultiThreshold(timesteps=4, thresholds=4).bits_per_step
    3.17
    """

    name: ClassVar[str] = "multi_threshold"
    neuron: ClassVar[str] = "multi_threshold"
    thresholds: str | int = field(default="mse", kw_only=True)  # type: ignore[assignment]
    n: int = field(default=4, kw_only=True)
    coding: str = field(default="differential", kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.thresholds, int) and not isinstance(self.thresholds, bool):
            object.__setattr__(self, "n", self.thresholds)
            object.__setattr__(self, "thresholds", "mse")
        super().__post_init__()
        self._whole("n", 1)
        if self.n > 8:
            raise ValueError(f"{self._label}: n is {self.n}; a neuron has up to 8 thresholds, 4 are usual")
        self._one_of("coding", ("differential",))
        if corrections.get(self.correction).fits_quantiser and self.powers is not None:
            raise ValueError(
                f"{self._label}: correction={self.correction!r} fits a quantiser of even levels, which one power of "
                "two a step is not; use correction='bias', or methods.HierarchicalMultiThreshold"
            )
        if self.max_pool != "accumulated":
            raise ValueError(
                f"{self._label}: max_pool={self.max_pool!r} makes no sense: a spike says what is new, so the maximum "
                "is that of what has come in so far"
            )

    @property
    def levels(self) -> int:
        """Levels above zero of one step; the steps after it come between them, and beyond the largest."""
        return self.n

    @property
    def powers(self) -> int | None:
        return self.n

    @property
    def span(self) -> int:
        """The largest threshold in units of the smallest."""
        return int(2 ** (self.n - 1))

    @property
    def neuron_options(self) -> dict[str, Any]:
        return {"thresholds": self.n}

    def neuron_at(self, function: Activation) -> tuple[Neuron, dict[str, Any]]:
        """As every method's; where the activation ends at a largest value, the neurons' outputs do."""
        record, options = super().neuron_at(function)
        most = getattr(function, "cap", None)
        trained = getattr(function, "threshold", None)
        if trained is not None and trained.numel() == 1:
            most = float(trained)
        if most is not None:
            options = {**options, "ceiling_absolute": most}
        elif trained is not None:
            options = {**options, "ceiling": float(self.span)}
        return record, options

    def node(self, threshold: Tensor, axis: int, function: Activation, framework: str) -> nn.Module:
        return super().node(threshold / self.span, axis, function, framework)  # the smallest threshold

    def threshold(self, node: nn.Module) -> Tensor:
        return super().threshold(node) * self.span


@register
@dataclass(frozen=True)
class HierarchicalMultiThreshold(MultiThreshold):
    """Hierarchical multi-threshold neurons: all n powers of two may fire in one step, which has 2^n − 1 levels.

    As `MultiThreshold` with s = clip(⌊u/q + 1/2⌋, −L, L)·q, L = 2^n − 1, q = θ/L, and s at least −r·t. One step is the
    quantised activation of L levels.

    >>> HierarchicalMultiThreshold(timesteps=1).levels
    15
    """

    name: ClassVar[str] = "hierarchical_multi_threshold"
    neuron: ClassVar[str] = "hierarchical_multi_threshold"

    @property
    def levels(self) -> int:
        return int(2**self.n - 1)

    @property
    def powers(self) -> int | None:
        return None

    @property
    def span(self) -> int:
        return self.levels
