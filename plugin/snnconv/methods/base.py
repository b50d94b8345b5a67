"""What all methods have in common."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from snnconv.neurons.frameworks import FRAMEWORKS, neuron_class
from snnconv.neurons.frameworks import neuron as make_neuron

__all__ = ["Method"]

Correction = Literal["none", "bias", "reconstruct"]
Delay = Literal["auto"] | int | None
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Method:
    """Base of the conversion methods.

    Attributes:
        timesteps: T, steps that are read out.
        thresholds: where they come from: ``"mse"`` (least squared quantisation error), ``"max"``, a percentile such
            as ``"99.9%"``, ``"ltb"`` (local threshold balancing), ``"trained"`` (the network's own rate norm layers or
            quantised activations).
        per_channel: one threshold per channel, or one per site.
        correction: what follows: ``"none"``; ``"bias"`` shifts each channel's bias by the mean error that is left
            when the converted network feeds itself; ``"reconstruct"`` adjusts weights, biases and thresholds so that
            the converted network's outputs match the source network's on the calibration images (no labels).
        max_pool: a max-pooling acts on currents ``"accumulated"`` so far, or ``"instantaneous"`` ones.
    """

    name: ClassVar[str] = ""
    neuron: ClassVar[str] = ""
    coding: ClassVar[str] = "rate"
    refused_thresholds: ClassVar[dict[str, str]] = {}

    timesteps: int
    thresholds: str = field(default="mse", kw_only=True)
    per_channel: bool = field(default=True, kw_only=True)
    correction: Correction = field(default="bias", kw_only=True)
    max_pool: Literal["accumulated", "instantaneous"] = field(default="accumulated", kw_only=True)

    def __post_init__(self) -> None:
        self._whole("timesteps", 1)
        self._one_of("correction", get_args(Correction))
        self._one_of("max_pool", ("accumulated", "instantaneous"))
        if not isinstance(self.per_channel, bool):
            raise TypeError(f"{self._label}: per_channel must be True or False, got {self.per_channel!r}")
        if self.thresholds in self.refused_thresholds:
            raise ValueError(
                f"{self._label}: thresholds={self.thresholds!r} makes no sense: "
                f"{self.refused_thresholds[self.thresholds]}"
            )
        self.percent  # noqa: B018 - validates the percentile

    # ------------------------------------------------------------------ what a method answers

    @property
    def levels(self) -> int:
        """Levels above zero that one neuron's output can take over the steps that are read out."""
        return self.timesteps

    @property
    def pre_timesteps_(self) -> int:
        """Steps before the ones that are read out."""
        return 0

    @property
    def latency(self) -> int:
        """Every step that the method runs."""
        return self.pre_timesteps_ + self.timesteps

    @property
    def delay_(self) -> Delay:
        """Delay of the readout: steps left out of the mean, ``"auto"``, or ``None``."""
        return None

    @property
    def calibration_samples_(self) -> int | None:
        """Calibration inputs to use at most; ``None``: what :func:`snnconv.convert` takes."""
        return None

    @property
    def percent(self) -> float | None:
        """Percentile of ``thresholds="99.9%"``, else ``None``."""
        if self.thresholds in ("mse", "max", "ltb", "trained"):
            return None
        match = _PERCENT.fullmatch(str(self.thresholds))
        if not match or not 0 < float(match[1]) <= 100:
            raise ValueError(
                f"{self._label}: thresholds must be 'mse', 'max', 'ltb', 'trained' or a percentile such as '99.9%', "
                f"got {self.thresholds!r}"
            )
        return float(match[1])

    @property
    def neuron_options(self) -> dict[str, Any]:
        """Settings of this method's neuron, besides its threshold."""
        return {}

    def node(self, threshold: Tensor, axis: int, kind: str, framework: str) -> nn.Module:
        """The neuron of this method in a framework's class, multi-step, emitting θ·s (rate norm: unit spikes)."""
        return make_neuron(
            self.neuron, framework, threshold, channel_axis=axis, scaled=kind != "rate_norm", **self.neuron_options
        )

    def threshold(self, node: nn.Module) -> Tensor:
        """θ of a neuron that :meth:`node` made, as it stands now, in units of the source network's activations."""
        return torch.as_tensor(node.v_threshold)

    def scan_arguments(self, node: nn.Module) -> dict[str, Any] | None:
        """Arguments of :func:`snnconv.dynamics.scan` that equal ``node``; ``None`` where only the node will do."""
        framework = next((f for f in FRAMEWORKS if type(node).__module__ == FRAMEWORKS[f].module), None)
        if framework is None or type(node) is not neuron_class(self.neuron, framework):
            return None
        settings = {"v_threshold": node.v_threshold, "channel_axis": node.channel_axis, "scaled": node.scaled}
        return {"neuron": self.neuron, **settings, **{k: getattr(node, k) for k in self.neuron_options}}

    def to_dict(self) -> dict[str, Any]:
        """All choices, as plain values; the inverse of :func:`from_dict`.

        >>> from snnconv import methods
        >>> methods.IF(4).to_dict()["name"]
        'if'
        """
        return {"name": self.name, **asdict(self)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Method:
        """Method from the dictionary that :meth:`to_dict` gives.

        >>> from snnconv import methods
        >>> methods.Method.from_dict(methods.SRP(4, 2).to_dict())
        SRP(timesteps=4, ..., pre_timesteps=2, ...)
        """
        from snnconv.methods import METHODS

        values = dict(values)
        name = values.pop("name", None)
        if name not in METHODS:
            raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
        return METHODS[name](**values)

    # ------------------------------------------------------------------ validation

    @property
    def _label(self) -> str:
        return f"methods.{type(self).__name__}"

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{self._label}: {name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{self._label}: {name} must be at least {least}, got {value}")

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"{self._label}: {name} must be one of {choices}, got {getattr(self, name)!r}")

    def _fraction(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value < 0.5:
            raise ValueError(f"{self._label}: {name} must be in [0, 0.5) (a fraction of the threshold), got {value!r}")

    def _check_delay(self, value: Delay) -> None:
        if value is None or value == "auto":
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{self._label}: delay must be 'auto', None or a whole number of steps, got {value!r}")
        if not 0 <= value < self.timesteps:
            raise ValueError(
                f"{self._label}: delay must be in 0 … timesteps − 1 = {self.timesteps - 1}, got {value}: "
                "no step would be left to read"
            )
