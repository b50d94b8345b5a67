"""Thresholds, and fractions of them, as kernels take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..threshold import broadcast_channels, membrane_dtype

__all__ = ["Fraction", "Thresholds", "thresholds"]


class Fraction(NamedTuple):
    """A fraction of a threshold, such as a dead zone.

    Attributes:
        value: a float, or a tensor that broadcasts against one step.
        channels: the same as ``[1]`` or ``[C]``; None where it varies along another axis.
    """

    value: float | Tensor
    channels: Tensor | None


@dataclass
class Thresholds:
    """A neuron's threshold for one shape of step.

    Attributes:
        theta: a float, or a tensor that broadcasts against one step.
        channels: the same as ``[1]`` or ``[C]``; None where it varies along another axis.
        dtype: of the membrane.
        kept: what was made of them.
    """

    theta: float | Tensor
    channels: Tensor | None
    dtype: torch.dtype
    kept: dict[Any, Any] = field(default_factory=dict)

    def fraction(self, part: float) -> Fraction:
        """``theta * part``, made once.

        Example:
            >>> thresholds(torch.tensor([1.0, 2.0]), torch.zeros(4, 1, 2), 1).fraction(0.5).channels
            tensor([0.5000, 1.0000])
        """
        key = ("fraction", part)
        if key not in self.kept:
            value, channels = self.theta * part, None
            if isinstance(value, float):
                channels = torch.tensor([value], dtype=self.dtype)
            elif self.channels is not None:
                channels = value.reshape(-1)
            self.kept[key] = Fraction(value, channels)
        found: Fraction = self.kept[key]
        return found

    def constant(self, value: float) -> Fraction:
        """``value`` whatever the threshold, made once.

        Example:
            >>> thresholds(torch.tensor([1.0, 2.0]), torch.zeros(4, 1, 2), 1).constant(0.5).channels
            tensor([0.5000, 0.5000])
        """
        key = ("constant", value)
        if key not in self.kept:
            channels = None if self.channels is None else torch.full_like(self.channels, value)
            self.kept[key] = Fraction(float(value), channels)
        found: Fraction = self.kept[key]
        return found


_KNOWN: Any = WeakTensorKeyDictionary()
"""Threshold → its values when they were looked at, and what was made of them for each shape of step."""


def thresholds(v_threshold: float | Tensor, x_seq: Tensor, axis: int) -> Thresholds:
    """Fit a threshold to one step of ``x_seq``; on the CPU the answer is remembered while its values stay.

    Example:
        >>> thresholds(torch.tensor([1.0, 2.0]), torch.zeros(4, 1, 2), 1).channels
        tensor([1., 2.])
    """
    if not isinstance(v_threshold, Tensor) or v_threshold.device.type != "cpu":
        return _make(v_threshold, x_seq, axis)
    key = (x_seq.shape[1:] if v_threshold.ndim > 1 else _seen_by_channels(x_seq, axis), axis, x_seq.dtype)
    values, found = _KNOWN.get(v_threshold, (None, {}))
    if values is None or values.dtype != v_threshold.dtype or not torch.equal(values, v_threshold):
        values, found = v_threshold.detach().clone(), {}
        _KNOWN[v_threshold] = values, found
    if key not in found:
        found[key] = _make(values, x_seq, axis)
    result: Thresholds = found[key]
    return result


def _seen_by_channels(x_seq: Tensor, axis: int) -> tuple[int, int | None]:
    ndim = x_seq.ndim - 1
    return ndim, x_seq.shape[1:][axis] if -ndim <= axis < ndim else None


def _make(v_threshold: float | Tensor, x_seq: Tensor, axis: int) -> Thresholds:
    theta = _fit(v_threshold, x_seq, axis)
    return Thresholds(theta, _channels(theta, x_seq, axis), membrane_dtype(x_seq))


def _fit(v_threshold: float | Tensor, x_seq: Tensor, axis: int) -> float | Tensor:
    """Shape the threshold to broadcast against one step, in the membrane's dtype."""
    if not isinstance(v_threshold, Tensor):
        return float(v_threshold)
    theta = v_threshold.detach().to(membrane_dtype(x_seq))
    ndim = x_seq.ndim - 1
    if theta.ndim > 1:
        shape = x_seq.shape[1:]
        try:
            fits = torch.broadcast_shapes(theta.shape, shape) == shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(f"v_threshold {tuple(theta.shape)} does not broadcast against a step {tuple(shape)}")
        return theta
    inside = theta.ndim == 1 and -ndim <= axis < ndim
    fitted = broadcast_channels(theta, ndim, axis, x_seq.shape[1:][axis] if inside else None)
    assert isinstance(fitted, Tensor)
    return fitted


def _channels(theta: float | Tensor, x_seq: Tensor, axis: int) -> Tensor | None:
    """Return the threshold as ``[1]`` or ``[C]``, or None where it varies along another axis."""
    if not isinstance(theta, Tensor):
        return torch.tensor([theta], dtype=membrane_dtype(x_seq))
    if theta.numel() == 1:
        return theta.reshape(1)
    along_axis = theta.ndim == x_seq.ndim - 1 and theta.shape[axis] == theta.numel()
    return theta.reshape(-1) if along_axis else None
