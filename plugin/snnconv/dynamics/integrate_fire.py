"""Integrate-and-fire with soft reset: the neuron every conversion method starts from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .function import StandIn
from .neuron import Neuron, Option, register
from .threshold import Surrogate, half_threshold, heaviside, membrane_dtype, stack_steps, threshold_like

__all__ = ["IF", "STARTS", "IFState", "check_start", "if_initial", "if_multistep", "if_step"]


class IFState(NamedTuple):
    """State of integrate-and-fire neurons.

    Attributes:
        v: membrane potential ``[B, ...]``, in units of the threshold's.
    """

    v: Tensor


STARTS = {"half": 0.5, "zero": 0.0}
"""Names of the membrane's start, as fractions of the threshold."""


def check_start(start: str) -> None:
    """Refuse a start of another name.

    Raises:
        ValueError: lists the known ones.

    Example:
        >>> check_start("full")
        Traceback (most recent call last):
        ...
        ValueError: start must be one of ('half', 'zero'), got 'full'
    """
    if start not in STARTS:
        raise ValueError(f"start must be one of {tuple(STARTS)}, got {start!r}")


def if_initial(x_like: Tensor, v_threshold: float | Tensor, start: str = "half") -> IFState:
    """Return the start state for one step shaped like ``x_like`` ``[B, ...]``: ``v = theta/2``, or 0 (``"zero"``).

    Example:
        >>> import torch
        >>> if_initial(torch.zeros(1, 2), 1.0)
        IFState(v=tensor([[0.5000, 0.5000]]))
    """
    check_start(start)
    v = half_threshold(x_like, v_threshold)
    return IFState(v if start == "half" else torch.zeros_like(v))


def if_step(
    x: Tensor,
    state: IFState | None,
    v_threshold: float | Tensor,
    start: str = "half",
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, IFState]:
    """Run one step of integrate-and-fire with soft reset.

    ``v <- v + x;  s = H(v - theta);  v <- v - theta * s``, from ``v = theta/2``
    (Rueckauer et al. 2017, Frontiers in Neuroscience 11:682, reset by subtraction).

    Args:
        x: input current of one step, ``[B, ...]``, in units of ``theta``.
        state: potential before the step; ``None`` starts afresh.
        v_threshold: ``theta``, a float or a tensor that broadcasts against ``x`` (see `per_channel`).
        start: ``"half"``: at ``theta/2``, so that the spikes of a constant input are rounded; ``"zero"``: at 0, so that
            they are rounded down.
        surrogate: replaces H in training; must have H's forward value. ``None``: no gradient.
        detach_reset: keep the reset out of the gradient.

    Returns:
        Unit spikes 0/1 in ``x``'s dtype, and the new state (float32 for half-precision inputs).

    Raises:
        RuntimeError: ``v_threshold`` does not broadcast against ``x``.

    Example:
        >>> import torch
        >>> spikes, state = if_step(torch.tensor([[0.25, 0.75]]), None, 1.0)
        >>> spikes, state.v
        (tensor([[0., 1.]]), tensor([[0.7500, 0.2500]]))
    """
    if state is None:
        state = if_initial(x, v_threshold, start)
    v = state.v + x.to(membrane_dtype(x))
    theta = threshold_like(v_threshold, v)
    spike = (surrogate or heaviside)(v - theta)
    v = v - (spike.detach() if detach_reset else spike) * theta
    return spike.to(x.dtype), IFState(v)


def if_multistep(
    x_seq: Tensor,
    v_threshold: float | Tensor,
    state: IFState | None = None,
    start: str = "half",
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, IFState]:
    """Run `if_step` over a sequence ``[T, B, ...]``; the spikes have the same shape.

    A constant input ``z`` fires exactly ``clip(floor(T*z/theta + 1/2), 0, T)`` times (in exact arithmetic).

    Args:
        x_seq: input currents, time first; may be an expanded view.
        v_threshold, state, start, surrogate, detach_reset: as in `if_step`.

    Returns:
        Unit spikes ``[T, B, ...]`` in ``x_seq``'s dtype, and the state after the last step.

    Example:
        >>> import torch
        >>> spikes, _ = if_multistep(torch.full((4, 1), 0.5), 1.0)
        >>> spikes.sum(0)
        tensor([2.])
    """
    if state is None:
        state = if_initial(x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:]), v_threshold, start)
    steps = []
    for x in x_seq:
        spike, state = if_step(x, state, v_threshold, surrogate=surrogate, detach_reset=detach_reset)
        steps.append(spike)
    return stack_steps(steps, x_seq), state


IF = register(
    Neuron(
        name="if",
        state=IFState,
        initial=if_initial,
        step=if_step,
        multistep=if_multistep,
        options=(Option("start", "half", check_start, "where the membrane starts, 'half' the threshold or 'zero'"),),
        functions={"function": StandIn("function_if", {"takes_back": False})},
        nir="IF",
    )
)
"""Integrate-and-fire with soft reset."""
