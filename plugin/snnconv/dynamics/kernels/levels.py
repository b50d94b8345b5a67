"""Thresholds and dead zones as kernels take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..threshold import broadcast_channels, membrane_dtype

__all__ = ["Levels", "levels"]


@dataclass
class Levels:
    """A neuron's threshold for one shape of step.

    Attributes:
        theta, dead_zone: a float, or a tensor that broadcasts against one step.
        channels, dead_zones: the same as ``[1]`` or ``[C]``; None where they vary along another axis.
        kept: what a backend has made of them.
    """

    theta: float | Tensor
    dead_zone: float | Tensor
    channels: Tensor | None
    dead_zones: Tensor | None
    kept: dict[Any, Any] = field(default_factory=dict)


_KNOWN: Any = WeakTensorKeyDictionary()
"""Threshold → its values when they were looked at, and the levels of each shape of step."""


def levels(v_threshold: float | Tensor, x_seq: Tensor, axis: int, eps: float) -> Levels:
    """Fit a threshold to one step of ``x_seq``; on the CPU the answer is remembered while its values stay.

    Example:
        >>> levels(torch.tensor([1.0, 2.0]), torch.zeros(4, 1, 2), 1, 1e-3).channels
        tensor([1., 2.])
    """
    if not isinstance(v_threshold, Tensor) or v_threshold.device.type != "cpu":
        return _make(v_threshold, x_seq, axis, eps)
    key = (x_seq.shape[1:] if v_threshold.ndim > 1 else _seen_by_channels(x_seq, axis), axis, eps, x_seq.dtype)
    values, found = _KNOWN.get(v_threshold, (None, {}))
    if values is None or values.dtype != v_threshold.dtype or not torch.equal(values, v_threshold):
        values, found = v_threshold.detach().clone(), {}
        _KNOWN[v_threshold] = values, found
    if key not in found:
        found[key] = _make(values, x_seq, axis, eps)
    result: Levels = found[key]
    return result


def _seen_by_channels(x_seq: Tensor, axis: int) -> tuple[int, int | None]:
    ndim = x_seq.ndim - 1
    return ndim, x_seq.shape[1:][axis] if -ndim <= axis < ndim else None


def _make(v_threshold: float | Tensor, x_seq: Tensor, axis: int, eps: float) -> Levels:
    theta = _fit(v_threshold, x_seq, axis)
    dead_zone = theta * eps
    return Levels(theta, dead_zone, _channels(theta, x_seq, axis), _channels(dead_zone, x_seq, axis))


def _fit(v_threshold: float | Tensor, x_seq: Tensor, axis: int) -> float | Tensor:
    """Shape the threshold to broadcast against one step, in the membrane's dtype."""
    if not isinstance(v_threshold, Tensor):
        return v_threshold
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
