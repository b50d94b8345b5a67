"""Signed integrate-and-fire: negative spikes take back spikes that came too early."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .function import StandIn
from .integrate_fire import IFState, if_step
from .neuron import Neuron, Option, register
from .threshold import Surrogate, check_eps, check_signed, half_threshold, heaviside, stack_steps, threshold_like

__all__ = ["SIGNED_IF", "SignedIFState", "signed_if_initial", "signed_if_multistep", "signed_if_step"]


class SignedIFState(NamedTuple):
    """State of signed integrate-and-fire neurons.

    Attributes:
        v: membrane potential ``[B, ...]``, in units of the threshold's.
        n: positive minus negative spikes so far ``[B, ...]``, whole numbers in ``v``'s dtype; never below 0, unless
            values of both signs come in.
    """

    v: Tensor
    n: Tensor


def signed_if_initial(x_like: Tensor, v_threshold: float | Tensor) -> SignedIFState:
    """Return the start state ``v = theta/2, n = 0`` for one step shaped like ``x_like`` ``[B, ...]``.

    Example:
        >>> signed_if_initial(torch.zeros(1, 1), 1.0)
        SignedIFState(v=tensor([[0.5000]]), n=tensor([[0.]]))
    """
    v = half_threshold(x_like, v_threshold)
    return SignedIFState(v, torch.zeros_like(v))


def signed_if_step(
    x: Tensor,
    state: SignedIFState | None,
    v_threshold: float | Tensor,
    eps: float = 1e-3,
    eps_absolute: float | None = None,
    signed: bool = False,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, SignedIFState]:
    """Run one step of signed integrate-and-fire.

    The integrate-and-fire step, then: if ``v < -eps*theta`` and ``n > 0``, emit -1, ``v <- v + theta``,
    ``n <- n - 1`` (Hu et al., TPAMI 2023, arXiv 2305.19868). A neuron emits at most one spike a step: a
    positive spike leaves ``v >= 0``. ``signed``: the same without the condition on ``n``, for values of both signs.

    Args:
        x: input current of one step, ``[B, ...]``, in units of ``theta``.
        state: state before the step; ``None`` starts at ``v = theta/2, n = 0``.
        v_threshold: ``theta``, a float or a tensor that broadcasts against ``x`` (see `per_channel`).
        eps: dead zone below zero as a fraction of ``theta``, so that rounding errors do not fire.
        eps_absolute: the dead zone in units of the membrane, whatever ``theta``, in place of ``eps``, as the authors
            have it.
        signed: whether values of both signs come in: a spike of -1 needs none of +1 before it.
        surrogate: replaces H in training, for both signs; must have H's forward value.
        detach_reset: keep both resets out of the gradient.

    Returns:
        Unit spikes in {-1, 0, +1} in ``x``'s dtype, and the new state.

    Raises:
        RuntimeError: ``v_threshold`` does not broadcast against ``x``.

    Example:
        >>> spikes, state = signed_if_step(torch.tensor([0.75]), None, 1.0)
        >>> signed_if_step(torch.tensor([-0.75]), state, 1.0)
        (tensor([-1.]), SignedIFState(v=tensor([0.5000]), n=tensor([0.])))
    """
    if state is None:
        state = signed_if_initial(x, v_threshold)
    spike, (v,) = if_step(x, IFState(state.v), v_threshold, surrogate=surrogate, detach_reset=detach_reset)
    spike = spike.to(v.dtype)
    theta = threshold_like(v_threshold, v)
    n = state.n + spike.detach()
    # 1 - H(v + eps*theta) is [v < -eps*theta], strict as the rule asks.
    dead_zone = theta * eps if eps_absolute is None else eps_absolute
    negative = 1 - (surrogate or heaviside)(v + dead_zone)
    if not signed:
        negative = negative * (n > 0)
    v = v + (negative.detach() if detach_reset else negative) * theta
    return (spike - negative).to(x.dtype), SignedIFState(v, n - negative.detach())


def signed_if_multistep(
    x_seq: Tensor,
    v_threshold: float | Tensor,
    state: SignedIFState | None = None,
    eps: float = 1e-3,
    eps_absolute: float | None = None,
    signed: bool = False,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, SignedIFState]:
    """Run `signed_if_step` over a sequence ``[T, B, ...]``; the spikes have the same shape.

    Args:
        x_seq: input currents, time first; may be an expanded view.
        v_threshold, state, eps, eps_absolute, signed, surrogate, detach_reset: as in `signed_if_step`.

    Returns:
        Unit spikes ``[T, B, ...]`` in {-1, 0, +1} in ``x_seq``'s dtype, and the state after the last step.

    Example:
        >>> spikes, _ = signed_if_multistep(torch.tensor([[0.75], [-0.75], [0.0]]), 1.0)
        >>> spikes.flatten()
        tensor([ 1., -1.,  0.])
    """
    if state is None:
        state = signed_if_initial(x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:]), v_threshold)
    steps = []
    for x in x_seq:
        spike, state = signed_if_step(
            x, state, v_threshold, eps, eps_absolute, signed, surrogate=surrogate, detach_reset=detach_reset
        )
        steps.append(spike)
    return stack_steps(steps, x_seq), state


def check_eps_absolute(eps_absolute: float | None) -> None:
    """Refuse a dead zone that is no width.

    Example:
        >>> check_eps_absolute(None)
        >>> check_eps_absolute(-1.0)
        Traceback (most recent call last):
        ...
        ValueError: eps_absolute must be 0 or more and finite, or None, got -1.0
    """
    if eps_absolute is not None and not (0 <= eps_absolute < math.inf):
        raise ValueError(f"eps_absolute must be 0 or more and finite, or None, got {eps_absolute}")


def _initial(x_like: Tensor, v_threshold: float | Tensor, **options: Any) -> SignedIFState:
    return signed_if_initial(x_like, v_threshold)


SIGNED_IF = register(
    Neuron(
        name="signed_if",
        state=SignedIFState,
        initial=_initial,
        step=signed_if_step,
        multistep=signed_if_multistep,
        options=(
            Option("eps", 1e-3, check_eps, "the dead zone below zero, as a fraction of the threshold"),
            Option("eps_absolute", None, check_eps_absolute, "the dead zone in units of the membrane, in place of eps"),
            Option("signed", False, check_signed, "whether values of both signs come in"),
        ),
        signed=True,
        both_signs={"signed": True},
        functions={"function": StandIn("function_if")},
    )
)
"""Signed integrate-and-fire."""
