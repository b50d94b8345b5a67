"""Ladder neurons, sum coding: the bits of a function's value by comparisons of the input alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .function import Function, Work, check_function, evaluate
from .ladder_thresholds import Ladder, ladder_thresholds
from .neuron import Neuron, Option, register
from .shifted import (
    CHANNEL_AXIS,
    SIGNED,
    TIMESTEPS,
    bit_weight,
    shifted_threshold_bit,
    shifted_threshold_integrate,
    window_latency,
)
from .threshold import Surrogate, membrane_dtype, threshold_like

__all__ = ["LADDER", "LadderState", "ladder_fire", "ladder_initial", "ladder_multistep", "ladder_step"]


class LadderState(NamedTuple):
    """State of pipelined ladder neurons.

    Attributes:
        v_in: input of the current window summed so far ``[B, ...]``.
        v_fire: whole input of the window before, whose bits are being sent ``[B, ...]``; it stays as it is.
        code: the bits sent so far, a whole number in ``v_fire``'s dtype ``[B, ...]``.
        step: steps run so far; before a whole window has come in, nothing fires.
    """

    v_in: Tensor
    v_fire: Tensor
    code: Tensor
    step: int


def ladder_initial(x_like: Tensor) -> LadderState:
    """Return the empty pipeline for one step shaped like ``x_like`` ``[B, ...]``.

    Example:
        >>> ladder_initial(torch.zeros(1))
        LadderState(v_in=tensor([0.]), v_fire=tensor([0.]), code=tensor([0.]), step=0)
    """
    zeros = torch.zeros_like(x_like, dtype=membrane_dtype(x_like))
    return LadderState(zeros, torch.zeros_like(zeros), torch.zeros_like(zeros), 0)


def ladder_step(
    x: Tensor,
    state: LadderState | None,
    lsb: float | Tensor,
    timesteps: int,
    function: Function,
    signed: bool = False,
    channel_axis: int = 1,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
    ladder: Ladder | None = None,
) -> tuple[Tensor, LadderState]:
    """Run one pipelined step: integrate the current window of T inputs while sending the bits of the previous one.

    The code of ``f(z)``, ``clip(floor(f(z)/q + 1/2), -L or 0, L)``, is constant between finitely many values of z
    (`snnconv.dynamics.ladder_thresholds`). With the prefix of bits sent so far, one comparison of z gives the next bit;
    one more gives the sign, and one more for each extremum of f the piece on which z lies. The spikes are those of
    `snnconv.dynamics.shifted_threshold_step` with ``function``.

    Args:
        x: weighted input of one step, ``[B, ...]``.
        state: state before the step; ``None`` starts with an empty pipeline.
        lsb: ``q``, a float or a tensor that broadcasts against ``x``, in units of f's output.
        timesteps: ``T``, inputs per window and bits per output.
        function: f, elementwise, monotone between its ``extrema``.
        signed: whether f takes values below 0, so that bits may be -1.
        channel_axis: of ``x``, along which parameters of f run.
        surrogate: gives the gradient of H in training, through f; the spikes stay the ladder's.
        detach_reset: keep the bits sent so far out of the gradient; they are in any case.
        ladder: the thresholds of these settings, where they were found before; None: they are looked up.

    Returns:
        Unit spikes in ``x``'s dtype; the spike of step ``i`` weighs ``q * 2^(T-1 - i mod T)``. And the new state.

    Raises:
        ValueError: a function that is not monotone between its extrema, or too many thresholds.

    Example:
        >>> class Squared:
        ...     extrema, signed, linear = (0.0,), False, False
        ...     def __call__(self, z, axis=1):
        ...         return z * z
        >>> state, fired = None, []
        >>> for x in (-1.0, -1.0, 0.0, 0.0, 0.0, 0.0):
        ...     spike, state = ladder_step(torch.tensor([x]), state, 1.0, timesteps=3, function=Squared())
        ...     fired.append(spike.item())
        >>> fired  # 4 is 100
        [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """
    if state is None:
        state = ladder_initial(x)
    k = timesteps - 1 - state.step % timesteps
    v_in, v_fire, code = state.v_in + x.to(membrane_dtype(x)), state.v_fire, state.code
    soft = torch.zeros_like(v_fire)
    if state.step >= timesteps:
        if ladder is None:
            ladder = _ladder(v_fire, lsb, timesteps, function, signed, channel_axis)
        spike = soft = ladder.bit(v_fire, code, k)
        code = code + spike * 2.0**k
        if surrogate is not None:
            soft = spike + _gradient(state, lsb, function, signed, channel_axis, k, surrogate)
    if k == 0:
        v_fire, v_in, code = v_in, torch.zeros_like(v_in), torch.zeros_like(code)
    return soft.to(x.dtype), LadderState(v_in, v_fire, code, state.step + 1)


def _gradient(
    state: LadderState, lsb: float | Tensor, function: Function, signed: bool, axis: int, k: int, surrogate: Surrogate
) -> Tensor:
    """0, with the gradient of the bit of ``f(z)``."""
    q = threshold_like(lsb, state.v_fire)
    v = evaluate(function, state.v_fire, axis) + q * 0.5 - state.code * q
    bit, _ = shifted_threshold_bit(v, q, k, signed=signed, surrogate=surrogate)
    return bit - bit.detach()


def _ladder(
    v: Tensor, lsb: float | Tensor, timesteps: int, function: Function, signed: bool, channel_axis: int
) -> Ladder:
    return ladder_thresholds(function, lsb, timesteps, signed, v.dtype, v.dim(), channel_axis).to(v.device)


def ladder_fire(
    v: Tensor,
    lsb: float | Tensor,
    timesteps: int,
    function: Function,
    signed: bool = False,
    channel_axis: int = 1,
    *,
    surrogate: Surrogate | None = None,
    ladder: Ladder | None = None,
) -> tuple[Tensor, Tensor]:
    """Send the bits of f of an already summed input, most significant bit first.

    Args:
        v: summed input ``[B, ...]``.
        lsb, timesteps, function, signed, channel_axis, surrogate, ladder: as in `ladder_step`.

    Returns:
        Unit spikes ``[T, B, ...]`` in ``v``'s dtype, and the code that they say ``[B, ...]``, a whole number.

    Example:
        >>> class Halved:
        ...     extrema, signed, linear = (), True, False
        ...     def __call__(self, z, axis=1):
        ...         return 0.5 * z
        >>> spikes, code = ladder_fire(torch.tensor([-10.0]), 1.0, 3, Halved(), signed=True)
        >>> spikes.flatten(), code
        (tensor([-1.,  0., -1.]), tensor([-5.]))
    """
    wide = v.to(membrane_dtype(v))
    state = LadderState(torch.zeros_like(wide), wide, torch.zeros_like(wide), 0)
    if ladder is None:
        ladder = _ladder(wide, lsb, timesteps, function, signed, channel_axis)
    steps = []
    for k, spike in zip(range(timesteps - 1, -1, -1), ladder.bits(wide, timesteps), strict=True):
        soft = spike
        if surrogate is not None:
            soft = spike + _gradient(state, lsb, function, signed, channel_axis, k, surrogate)
        state = state._replace(code=state.code + spike * 2.0**k)
        steps.append(soft.to(v.dtype))
    return torch.stack(steps), state.code


def ladder_multistep(
    x_seq: Tensor,
    lsb: float | Tensor,
    timesteps: int | None = None,
    *,
    function: Function,
    signed: bool = False,
    channel_axis: int = 1,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
    ladder: Ladder | None = None,
) -> tuple[Tensor, Tensor]:
    """Integrate a whole sequence, then send the bits of f of it with `ladder_fire`.

    Args:
        x_seq: weighted inputs ``[T_in, B, ...]`` of any length, summed in time order.
        lsb, function, signed, channel_axis, surrogate, detach_reset, ladder: as in `ladder_step`.
        timesteps: ``T``, output steps; as many as ``x_seq`` has by default.

    Returns:
        Unit spikes ``[T, B, ...]`` in ``x_seq``'s dtype, and the summed input ``[B, ...]``.

    Example:
        >>> class Halved:
        ...     extrema, signed, linear = (), True, False
        ...     def __call__(self, z, axis=1):
        ...         return 0.5 * z
        >>> spikes, _ = ladder_multistep(torch.tensor([[4.0], [2.0]]), 1.0, function=Halved())
        >>> spikes.flatten()
        tensor([1., 1.])
    """
    timesteps = len(x_seq) if timesteps is None else timesteps
    v = shifted_threshold_integrate(x_seq)
    spikes, _ = ladder_fire(v, lsb, timesteps, function, signed, channel_axis, surrogate=surrogate, ladder=ladder)
    return spikes.to(x_seq.dtype), v


def _initial(x_like: Tensor, lsb: float | Tensor, **options: Any) -> LadderState:
    return ladder_initial(x_like)


def _gather(x_seq: Tensor, lsb: float | Tensor, timesteps: int, **options: Any) -> LadderState:
    v = shifted_threshold_integrate(x_seq)
    return LadderState(torch.zeros_like(v), v, torch.zeros_like(v), timesteps)


def _window(
    x_seq: Tensor, lsb: float | Tensor, state: LadderState | None = None, **how: Any
) -> tuple[Tensor, LadderState]:
    """Integrate and fire one window, whatever was before it."""
    spikes, v = ladder_multistep(x_seq, lsb, **how)
    return spikes, LadderState(torch.zeros_like(v), v, torch.zeros_like(v), 0)


def _lookup(
    x_like: Tensor, lsb: float | Tensor, timesteps: int, function: Function, signed: bool, channel_axis: int
) -> dict[str, Any]:
    membrane = torch.empty_like(x_like, dtype=membrane_dtype(x_like))
    return {"ladder": _ladder(membrane, lsb, timesteps, function, signed, channel_axis)}


def _work(steps: int, timesteps: int, function: Function, signed: bool, channel_axis: int) -> Work:
    return Work(comparisons=timesteps + signed + len(function.extrema or ()))


LADDER = register(
    Neuron(
        name="ladder",
        state=LadderState,
        initial=_initial,
        step=ladder_step,
        multistep=_window,
        options=(
            TIMESTEPS,
            Option("function", check=check_function, meaning="the function of the input whose bits are sent"),
            SIGNED,
            CHANNEL_AXIS,
        ),
        membrane="v_fire",
        both_signs={"signed": True},
        gather=_gather,
        lookup=_lookup,
        quantises=True,
        weight=bit_weight,
        latency=window_latency,
        work=_work,
    )
)
"""The bits of a function by comparisons of the input alone; its threshold is the least significant bit."""
