"""Thresholds and membrane start values shared by every neuron equation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "broadcast_channels",
    "check_eps",
    "check_threshold",
    "half_threshold",
    "heaviside",
    "membrane_dtype",
    "per_channel",
    "stack_steps",
    "threshold_like",
]

Surrogate = Callable[[Tensor], Tensor]
"""A stand-in for H: forward value ``H(x)`` with ``H(0) = 1``, any derivative."""


def per_channel(v_threshold: float | Tensor, ndim: int, axis: int, size: int | None = None) -> float | Tensor:
    """Shape a threshold so that it broadcasts against one step of an activation.

    Args:
        v_threshold: a float, a 0-d tensor, or one value per channel ``[C]``; in the membrane's units.
        ndim: number of dimensions of one step ``[B, ...]``, the batch included.
        axis: channel axis of that step; negative counts from the end.
        size: number of channels expected there, when known.

    Returns:
        Floats and 0-d tensors unchanged; ``[C]`` as a view ``[1, .., C, .., 1]`` of ``ndim`` dimensions.

    Raises:
        ValueError: a threshold that is not positive and finite, more than one dimension, an axis outside
            ``ndim``, or a length other than ``size``.

    Example:
        >>> per_channel(torch.tensor([1.0, 2.0]), ndim=4, axis=1).shape
        torch.Size([1, 2, 1, 1])
        >>> per_channel(0.5, ndim=4, axis=1)
        0.5
    """
    check_threshold(v_threshold)
    return broadcast_channels(v_threshold, ndim, axis, size)


def broadcast_channels(v_threshold: float | Tensor, ndim: int, axis: int, size: int | None = None) -> float | Tensor:
    """Do what `per_channel` does without looking at the values, which on a GPU would wait for the device.

    Raises:
        ValueError: a threshold of more than one axis, an axis that a step does not have, another number of channels.

    Example:
        >>> broadcast_channels(torch.ones(3), ndim=2, axis=-1).shape
        torch.Size([1, 3])
    """
    if not isinstance(v_threshold, Tensor) or v_threshold.ndim == 0:
        return v_threshold
    if v_threshold.ndim != 1:
        raise ValueError(f"v_threshold has shape {tuple(v_threshold.shape)}: pass a float or one value per channel [C]")
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"channel axis {axis} is outside a {ndim}-d step: choose one from {-ndim} to {ndim - 1} "
            "(the time axis does not count)"
        )
    if size is not None and v_threshold.numel() != size:
        raise ValueError(
            f"v_threshold has {v_threshold.numel()} values but axis {axis} has {size} channels: "
            "pass one value per channel"
        )
    shape = [1] * ndim
    shape[axis] = v_threshold.numel()
    return v_threshold.reshape(shape)


def check_threshold(v_threshold: float | Tensor, name: str = "v_threshold") -> None:
    """Refuse a threshold that is not positive and finite.

    Raises:
        ValueError: names the offending value and, for a tensor, its first position.

    Example:
        >>> check_threshold(-1.0)
        Traceback (most recent call last):
        ...
        ValueError: v_threshold is -1.0: it must be positive and finite
    """
    if isinstance(v_threshold, Tensor):
        values = v_threshold.detach()
        if values.numel() and values.is_floating_point():
            lowest, highest = map(float, values.aminmax())
            if lowest > 0 and highest < math.inf:  # false where one is NaN
                return
        good = torch.isfinite(values) & (values > 0)
        if not bool(good.all()):
            at = tuple((~good).nonzero()[0].tolist())
            where = f" at {list(at)}" if at else ""
            raise ValueError(f"{name}{where} is {values[at].item()}: it must be positive and finite")
    elif not (math.isfinite(v_threshold) and v_threshold > 0):
        raise ValueError(f"{name} is {v_threshold}: it must be positive and finite")


def membrane_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype a membrane potential is kept in: float32 for half-precision inputs, else the input's.

    Example:
        >>> membrane_dtype(torch.zeros(1, dtype=torch.bfloat16))
        torch.float32
        >>> membrane_dtype(torch.zeros(1, dtype=torch.float64))
        torch.float64
    """
    return torch.promote_types(x.dtype, torch.float32)


def threshold_like(v_threshold: float | Tensor, v: Tensor) -> float | Tensor:
    """Give a tensor threshold the membrane's dtype, so that it never promotes the membrane; floats pass.

    Example:
        >>> threshold_like(torch.ones(2, dtype=torch.float64), torch.zeros(3, 2)).dtype
        torch.float32
    """
    return v_threshold.to(v.dtype) if isinstance(v_threshold, Tensor) else v_threshold


def half_threshold(x: Tensor, v_threshold: float | Tensor) -> Tensor:
    """Return the start potential ``v = theta/2`` for one step of input.

    Starting at half a threshold makes an integrate-and-fire neuron round where it would otherwise floor.

    Args:
        x: one step ``[B, ...]``; only shape, dtype, device and memory format are read.
        v_threshold: float, or a tensor that broadcasts against ``x``.

    Example:
        >>> half_threshold(torch.zeros(1, 3), 1.0)
        tensor([[0.5000, 0.5000, 0.5000]])
    """
    v = torch.zeros_like(x, dtype=membrane_dtype(x))
    return v + threshold_like(v_threshold, v) * 0.5


def heaviside(x: Tensor) -> Tensor:
    """H(x) in the dtype of ``x``, with ``H(0) = 1``; no gradient.

    Example:
        >>> heaviside(torch.tensor([-1.0, 0.0, 2.0]))
        tensor([0., 1., 1.])
    """
    return (x >= 0).to(x.dtype)


def stack_steps(steps: list[Tensor], x_seq: Tensor) -> Tensor:
    """Stack per-step outputs along a leading time axis; an empty sequence gives an empty one.

    Example:
        >>> stack_steps([torch.ones(2), torch.zeros(2)], torch.zeros(2, 2)).shape
        torch.Size([2, 2])
    """
    return torch.stack(steps) if steps else torch.empty_like(x_seq)


def check_eps(eps: float) -> None:
    """Refuse a negative or non-finite dead zone.

    Raises:
        ValueError: ``eps`` is negative, NaN or infinite.

    Example:
        >>> check_eps(1e-3)
    """
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps is {eps}: it must be a small number, zero or above (the papers use 1e-3)")


def check_signed(signed: bool) -> None:
    """Refuse what is neither True nor False.

    Example:
        >>> check_signed("both")
        Traceback (most recent call last):
        ...
        ValueError: signed must be True or False, got 'both'
    """
    if not isinstance(signed, bool):
        raise ValueError(f"signed must be True or False, got {signed!r}")
