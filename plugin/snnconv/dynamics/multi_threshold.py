"""Multi-threshold neurons with differential coding: a spike says what is new, in one of several sizes.

All layers step together. The value that a neuron stands for after t steps is the sum of its spikes, each divided by the
number of its step; whoever reads it keeps the same sum. Two neurons: one sends a single power of two a step (DCGS,
ICML 2025, arXiv 2503.00301), the other every power of two at once (hierarchical).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .neuron import Neuron, Option, register
from .threshold import Surrogate, heaviside, membrane_dtype, threshold_like

__all__ = [
    "BORDER", "HIERARCHICAL", "MULTI_THRESHOLD", "SLACK", "MultiThresholdState", "hierarchical_multi_threshold_step",
    "multi_threshold_initial", "multi_threshold_step",
]  # fmt: skip

BORDER = 0.75
"""Part of a threshold at which it fires: the middle between it and the next smaller one, half of it."""

SLACK = 2.0**-10
"""Part of the smallest threshold that a hierarchical neuron may take back too much: whole ones that rounding left a
little below are whole."""

MOST = 8
"""Thresholds that a neuron may have: bfloat16 holds codes of eight bits."""


class MultiThresholdState(NamedTuple):
    """State of multi-threshold neurons.

    Attributes:
        v: membrane potential ``[B, ...]``, in units of the threshold's.
        expected_input: what the input comes to so far, ``m``; the bias enters it with the first step's current.
        expected_output: what the spikes come to so far, ``r``: the value that the neuron stands for.
        step: steps run so far.
    """

    v: Tensor
    expected_input: Tensor
    expected_output: Tensor
    step: int


def multi_threshold_initial(x_like: Tensor) -> MultiThresholdState:
    """Return the start state, all zero, for one step shaped like ``x_like`` ``[B, ...]``.

    Example:
        >>> multi_threshold_initial(torch.zeros(1)).expected_output
        tensor([0.])
    """
    zeros = torch.zeros_like(x_like, dtype=membrane_dtype(x_like))
    return MultiThresholdState(zeros, torch.zeros_like(zeros), torch.zeros_like(zeros), 0)


def multi_threshold_step(
    x: Tensor,
    state: MultiThresholdState | None,
    v_threshold: float | Tensor,
    thresholds: int = 4,
    signed: bool = False,
    ceiling: float | None = None,
    ceiling_absolute: float | None = None,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, MultiThresholdState]:
    """Run one step of a neuron with ``n`` thresholds ``theta_k = q * 2^k`` of both signs, of which one fires at most.

    With the current ``c`` of step ``t``: ``v <- v + m + c``, ``m <- m + c/t``, ``u = v - r``; then
    ``s = sign(u) * theta_k`` for the largest ``theta_k`` with ``|u| >= 3/4 * theta_k``, else 0; 0 too where
    not ``signed`` and ``r + s/t < 0``; ``v <- v - (r + s)``, ``r <- r + s/t``
    (DCGS, ICML 2025, arXiv 2503.00301).

    Args:
        x: input current of one step, ``[B, ...]``: the weights times the spikes of that step, with the bias in the
            first step alone.
        state: state before the step; ``None`` starts afresh.
        v_threshold: ``q``, the smallest threshold; a float or a tensor that broadcasts against ``x``.
        thresholds: ``n``.
        signed: the output takes both signs; else it stays at or above zero, as ReLU's does.
        ceiling: the largest output, in units of ``q``; ``None``: there is none.
        ceiling_absolute: the same in units of the membrane, in place of ``ceiling``.
        surrogate: replaces H in training; must have H's forward value. ``None``: no gradient.
        detach_reset: keep the subtraction out of the gradient.

    Returns:
        Spikes in units of ``q``, 0 or a power of two of either sign, in ``x``'s dtype; and the new state.

    Raises:
        RuntimeError: ``v_threshold`` does not broadcast against ``x``.

    Example:
        >>> state, fired = None, []
        >>> for x in (5.0, 0.0, 0.0):  # 5 = 4 + 2/2
        ...     spike, state = multi_threshold_step(torch.tensor([x]), state, 1.0)
        ...     fired.append(spike.item())
        >>> fired, state.expected_output
        ([4.0, 2.0, 0.0], tensor([5.]))
    """
    state, t, u, v, expected = _integrated(x, state, v_threshold, ceiling, ceiling_absolute)
    q, fires = threshold_like(v_threshold, u), surrogate or heaviside
    border = q * BORDER
    spike = torch.zeros_like(u)
    for k in range(thresholds):
        at = border * 2.0**k
        more = 2.0 ** (k - 1) if k else 1.0  # what theta_k has more than theta_(k-1)
        spike = spike + (fires(u - at) - fires(-u - at)) * more
    if not signed:
        spike = spike * (state.expected_output + (spike * q).detach() / t >= 0)
    return _sent(x, spike, q, state, t, v, expected, detach_reset)


def hierarchical_multi_threshold_step(
    x: Tensor,
    state: MultiThresholdState | None,
    v_threshold: float | Tensor,
    thresholds: int = 4,
    signed: bool = False,
    ceiling: float | None = None,
    ceiling_absolute: float | None = None,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, MultiThresholdState]:
    """Run one step of a neuron whose ``n`` thresholds may all fire: what it sends is a number of n bits and a sign.

    As `multi_threshold_step` with ``s = clip(floor(u/q + 1/2), -L, L) * q``, ``L = 2^n - 1``; where not ``signed`` at
    least ``-r*t``, in whole ``q``. The first step is a quantiser of L levels (hierarchical multi-threshold neurons,
    AAAI 2026).

    Args:
        x, state, v_threshold, thresholds, signed, ceiling, ceiling_absolute: as in `multi_threshold_step`.
        surrogate: replaces H at the border that ``u`` is next to.
        detach_reset: keep the subtraction out of the gradient.

    Returns:
        Spikes in units of ``q``, whole numbers from -L to L, in ``x``'s dtype; and the new state.

    Raises:
        RuntimeError: ``v_threshold`` does not broadcast against ``x``.

    Example:
        >>> hierarchical_multi_threshold_step(torch.tensor([5.2, -3.0, 99.0]), None, 1.0)[0].int()
        tensor([ 5,  0, 15], dtype=torch.int32)
    """
    state, t, u, v, expected = _integrated(x, state, v_threshold, ceiling, ceiling_absolute)
    q, most = threshold_like(v_threshold, u), 2.0**thresholds - 1
    divisor = q if isinstance(q, Tensor) else _divisor(q, u)
    places = u / divisor + 0.5
    spike = places.floor()
    if surrogate is not None:  # the slope of the nearest border, where a border is
        beside = surrogate(places - places.detach().round())
        spike = torch.where(places.detach().round().abs() <= most, spike.detach() + beside - beside.detach(), spike)
    spike = spike.clamp(-most, most)
    if not signed:
        spike = torch.maximum(spike, -(state.expected_output.detach() * t / divisor + SLACK).floor().clamp(min=0))
    return _sent(x, spike, q, state, t, v, expected, detach_reset)


def _divisor(value: float, like: Tensor) -> Tensor:
    """A number that a GPU divides by, where it would multiply by the inverse of one that is not a tensor."""
    return torch.full((), value, dtype=like.dtype, device=like.device)


def _integrated(
    x: Tensor,
    state: MultiThresholdState | None,
    v_threshold: float | Tensor,
    ceiling: float | None,
    ceiling_absolute: float | None,
) -> tuple[MultiThresholdState, Tensor, Tensor, Tensor, Tensor]:
    """The state before a step, the step's number, ``u``, and ``v`` and ``m`` with the step's current."""
    if state is None:
        state = multi_threshold_initial(x)
    current = x.to(membrane_dtype(x))
    t = _divisor(float(state.step + 1), current)
    v = state.v + (state.expected_input + current)
    u = v - state.expected_output
    upper = threshold_like(v_threshold, v) * ceiling if ceiling is not None else None
    if ceiling_absolute is not None:
        upper = ceiling_absolute
    if upper is not None:
        u = torch.minimum(u, (upper - state.expected_output) * t)
    return state, t, u, v, state.expected_input + current / t


def _sent(
    x: Tensor,
    spike: Tensor,
    q: float | Tensor,
    state: MultiThresholdState,
    t: Tensor,
    v: Tensor,
    expected: Tensor,
    detach_reset: bool,
) -> tuple[Tensor, MultiThresholdState]:
    """The spikes, and the state after them."""
    value, r = (spike.detach() if detach_reset else spike) * q, state.expected_output
    return spike.to(x.dtype), MultiThresholdState(v - (r + value), expected, r + value / t, state.step + 1)


# --- the records -------------------------------------------------------------------------------------------


def _check_thresholds(thresholds: int) -> None:
    if isinstance(thresholds, bool) or not isinstance(thresholds, int) or not 1 <= thresholds <= MOST:
        raise ValueError(f"thresholds is {thresholds!r}: a neuron has 1 to {MOST} of them, usually 4")


def _check_signed(signed: bool) -> None:
    if not isinstance(signed, bool):
        raise ValueError(f"signed must be True or False, got {signed!r}")


def _check_ceiling(ceiling: float | None) -> None:
    if ceiling is not None and not (0 < ceiling < math.inf):
        raise ValueError(f"a ceiling is positive and finite, or None, got {ceiling!r}")


def _initial(x_like: Tensor, v_threshold: float | Tensor, **options: Any) -> MultiThresholdState:
    return multi_threshold_initial(x_like)


def _powers(thresholds: int, **options: Any) -> tuple[float, ...]:
    return tuple(2.0**k for k in range(thresholds))


def _codes(thresholds: int, **options: Any) -> tuple[float, ...]:
    return tuple(float(code) for code in range(1, 2**thresholds))


def ones(spikes: Tensor) -> Tensor:
    """Powers of two in whole numbers, whatever their sign, in the same dtype.

    Example:
        >>> ones(torch.tensor([0.0, 5.0, -7.0]))
        tensor([0., 2., 3.])
    """
    left, found = spikes.abs().to(torch.int32), torch.zeros_like(spikes, dtype=torch.int32)
    for _ in range(MOST):
        found += left & 1
        left = left >> 1
    return found.to(spikes.dtype)


_OPTIONS = (
    Option("thresholds", 4, _check_thresholds, "how many thresholds it has, each twice the one before"),
    Option("signed", False, _check_signed, "whether its output takes both signs"),
    Option("ceiling", None, _check_ceiling, "its largest output, in units of the smallest threshold"),
    Option("ceiling_absolute", None, _check_ceiling, "its largest output in the membrane's units, in place of ceiling"),
)

MULTI_THRESHOLD = register(
    Neuron(
        name="multi_threshold",
        state=MultiThresholdState,
        initial=_initial,
        step=multi_threshold_step,
        options=_OPTIONS,
        signed=True,
        both_signs={"signed": True},
        amplitudes=_powers,
        differential=True,
    )
)
"""Multi-threshold neuron; its threshold is the smallest one."""

HIERARCHICAL = register(
    Neuron(
        name="hierarchical_multi_threshold",
        state=MultiThresholdState,
        initial=_initial,
        step=hierarchical_multi_threshold_step,
        options=_OPTIONS,
        signed=True,
        both_signs={"signed": True},
        amplitudes=_codes,
        differential=True,
        pulses=ones,
    )
)
"""Hierarchical multi-threshold neuron; its threshold is the smallest one."""
