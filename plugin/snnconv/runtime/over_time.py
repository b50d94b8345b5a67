"""Operators on values over time: on every step by itself, and on what has come in so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only, tree_unflatten

from snnconv.dynamics.captured import captured, traced
from snnconv.dynamics.pooling import running_sum
from snnconv.runtime.values import (
    Accumulated,
    Args,
    Kwargs,
    Pair,
    Temporal,
    Wrapped,
    folded,
    leafwise,
    leaves,
    unfolded,
)

__all__ = ["at_each_step", "at_once", "clock", "each_step", "shares", "so_far"]


def at_once(function: Callable[..., object], args: Args, kwargs: Kwargs, timesteps: int) -> object:
    """Run an operator on time folded into the batch; its tensors come back as `Temporal`."""

    def operand(value: Wrapped) -> object:
        if isinstance(value, Pair):
            return value.static if timesteps == 1 else value.folded
        if isinstance(value, Temporal | Accumulated):
            return value.data.reshape(()) if value.scalar else value.data
        data = value.data
        return data if timesteps == 1 else data.unsqueeze(0).expand(timesteps, *data.shape).flatten(0, 1)

    positional, named = leafwise(operand, (args, kwargs))
    out = function(*positional, **named)
    if timesteps == 1:  # a step may be a single number
        return tree_map_only(Tensor, lambda v: Temporal(v) if v.dim() else Temporal(v.reshape(1), True), out)
    return tree_map_only(Tensor, Temporal, out)


def each_step(
    function: Callable[..., object], args: Args, kwargs: Kwargs, timesteps: int, vectorised: bool = True
) -> object:
    """Run an operator as it is on every step; its tensors come back as `Temporal`.

    Args:
        function, args, kwargs: a call whose wrapped arguments are `Temporal` and `Accumulated` values, one step of
            which is taken at a time, and others, which are the same at every step.
        timesteps: T.
        vectorised: all steps in one call where :func:`torch.func.vmap` knows how.

    Raises:
        ValueError: results whose shapes differ from step to step.
    """
    moving = [unfolded(v, timesteps) for v in leaves((args, kwargs)) if isinstance(v, Temporal | Accumulated)]

    def step(*given: Tensor) -> object:
        values = iter(given)

        def operand(value: Wrapped) -> object:
            if isinstance(value, Pair):
                return value.static
            return next(values) if isinstance(value, Temporal | Accumulated) else value.data

        positional, named = leafwise(operand, (args, kwargs))
        return function(*positional, **named)

    return tree_map_only(Tensor, folded, at_each_step(step, moving, vectorised))


def at_each_step(step: Callable[..., object], moving: Sequence[Tensor], vectorised: bool = True) -> object:
    """What ``step`` gives at each step of sequences ``[T, ...]``; every tensor of it is ``[T, ...]``.

    Raises:
        ValueError: results that have another shape, or that are others than tensors, at each step.

    >>> at_each_step(lambda x: {"largest": x.max()}, [torch.tensor([[1.0, 2.0], [4.0, 3.0]])])
    {'largest': tensor([2., 4.])}
    """
    found: list[object] = []
    nesting: list[TreeSpec] = []

    def flat(*given: Tensor) -> tuple[Tensor, ...]:
        found[:], spec = tree_flatten(step(*given))
        nesting[:] = [spec]
        return tuple(v for v in found if isinstance(v, Tensor))

    if vectorised and not traced():
        try:
            stacked = iter(torch.func.vmap(flat, randomness="different")(*moving))
            return tree_unflatten([next(stacked) if isinstance(v, Tensor) else v for v in found], nesting[0])
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
            pass  # what it cannot do runs step by step, or fails there with its own words
    return _stacked([step(*(seq[t] for seq in moving)) for t in range(len(moving[0]))])


def _stacked(steps: list[object]) -> object:
    flat = [tree_flatten(step) for step in steps]
    columns = []
    for column in zip(*(found for found, _ in flat), strict=True):
        tensors = all(isinstance(v, Tensor) for v in column)
        shapes = sorted({tuple(v.shape) for v in column}) if tensors else []
        if len(shapes) > 1 or not (tensors or all(v == column[0] for v in column)):
            what = f"tensors of shapes {shapes[0]} and {shapes[-1]}" if tensors else f"{column[0]} and {column[-1]}"
            raise ValueError(
                f"it gives {what} at different steps: what it picks depends on what the neurons have sent so far; pick "
                "by a mask (torch.where) instead"
            )
        columns.append(torch.stack(column) if tensors else column[0])
    return tree_unflatten(columns, flat[0][1])


def clock(seq: Tensor, start: int) -> Tensor:
    """Number of the step ``[T, 1, ...]``, from 1 on, ``start`` steps after the first.

    >>> clock(torch.zeros(3), 2)
    tensor([3., 4., 5.])
    """
    dtype = seq.dtype.to_real() if seq.is_complex() else seq.dtype
    steps = torch.arange(start + 1, start + 1 + seq.shape[0], device=seq.device, dtype=dtype)
    return steps.reshape(-1, *[1] * (seq.dim() - 1))


def so_far(seq: Tensor, start: int, before: Tensor | None, coding: str) -> tuple[Tensor, Tensor]:
    """What steps ``[T, ...]`` come to after each of them, and what is to be remembered for those that follow.

    In rate coding the mean of the steps, in sum coding their sum, in differential coding Σ_τ d_τ/τ.

    Args:
        seq: ``[T, ...]``.
        start: steps before these.
        before: what was remembered of them, ``[...]``.
        coding: ``"rate"``, ``"sum"`` or ``"differential"``.

    >>> so_far(torch.tensor([4.0, 2.0]), 0, None, "differential")
    (tensor([4., 5.]), tensor(5.))
    """
    total = running_sum(seq / clock(seq, start) if coding == "differential" else seq, before)
    return total / clock(total, start) if coding == "rate" else total, total[-1]


def shares(seq: Tensor, start: int, before: Tensor | None, coding: str) -> tuple[Tensor, Tensor]:
    """What each step adds, for values ``[T, ...]`` that say what holds so far; and what is to be remembered.

    The inverse of `so_far`: y_t adds t·y_t − (t−1)·y_{t−1} as a mean, y_t − y_{t−1} as a sum, t·(y_t − y_{t−1}) in
    differential coding. A value that is not defined yet (a division by a sum that is still zero) adds nothing, so that
    the next one that is makes up for it.

    Args:
        seq: ``[T, ...]``; whole numbers and truth values count as floating ones.
        start: steps before these.
        before: what was remembered of them, ``[...]``.
        coding: as in `so_far`.

    >>> shares(torch.tensor([torch.nan, 2.0, 3.0]), 0, None, "rate")
    (tensor([0., 4., 5.]), tensor(9.))
    """
    if not (seq.is_floating_point() or seq.is_complex()):
        seq = seq.to(torch.get_default_dtype())
    total = seq * clock(seq, start) if coding == "rate" else seq
    if _undefined(total):
        total = total.clone()
        for t in range(len(total)):
            last = total[t - 1] if t else torch.zeros_like(total[0]) if before is None else before
            total[t] = torch.where(torch.isfinite(total[t]), total[t], last)
    first = total[:1] if before is None else total[:1] - before
    added = torch.cat([first, total[1:] - total[:-1]])
    return added * clock(added, start) if coding == "differential" else added, total[-1]


def _undefined(total: Tensor) -> bool:
    """Whether a value is NaN or infinite; True where values cannot be looked at."""
    if total.device.type == "meta" or captured():
        return True
    return not math.isfinite(abs(total.sum().item()))
