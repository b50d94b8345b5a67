"""Inference-scale conversion: local threshold balancing with delayed evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from snnconv.methods.base import Delay, register
from snnconv.methods.corrections import CORRECTIONS
from snnconv.methods.integrate_fire import IF

__all__ = ["LocalThresholdBalancing"]


@register
@dataclass(frozen=True)
class LocalThresholdBalancing(IF):
    """Local threshold balancing (Bu et al., arXiv 2409.03368): training-free, plain IF neurons, delayed evaluation.

    θ_c ← θ_c + 2k·mean(max(z_c − θ_c, 0)) from θ = 0, batch after batch, until the updates settle. Without end θ would
    go to the largest input: the number of batches decides (1,000 to 5,000 of 100 images in section 5.3 of the paper).

    Attributes:
        k: step size of the update.
        tolerance: settled when no site's relative update exceeds this; 0: all of ``max_batches``.
        max_batches: bound on the number of batches; the calibration data is gone through again and again.
        calibration_samples: inputs to take from the calibration data at most; they are held in memory.

    >>> LocalThresholdBalancing(timesteps=64).delay
    'auto'
    """

    name: ClassVar[str] = "ltb"
    thresholds: str = field(default="ltb", kw_only=True)
    correction: str = field(default="none", kw_only=True, metadata={"known": CORRECTIONS})
    delay: Delay = field(default="auto", kw_only=True)
    k: float = field(default=1.0, kw_only=True)
    tolerance: float = field(default=1e-3, kw_only=True)
    max_batches: int = field(default=2000, kw_only=True)
    calibration_samples: int = field(default=1024, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("max_batches", 1)
        self._whole("calibration_samples", 1)
        for name in ("k", "tolerance"):
            value = getattr(self, name)
            if (
                not isinstance(value, (int, float))
                or not math.isfinite(value)
                or value < 0
                or (name, value) == ("k", 0)
            ):
                wanted = "positive" if name == "k" else "at least 0"
                raise ValueError(f"{self._label}: {name} must be {wanted}, got {value!r}")
        if self.thresholds != "ltb":
            raise ValueError(
                f"{self._label}: thresholds={self.thresholds!r} makes no sense: balancing is what this method does; "
                "use methods.IF(timesteps, thresholds=..., delay='auto') for other thresholds"
            )

    @property
    def calibration_samples_(self) -> int:
        return self.calibration_samples
