"""Shifted-threshold integrate-and-fire: T steps carry 2^T - 1 levels, most significant bit first.

With ``signed`` the bits have signs, for values of both; with a ``function`` the bits are those of its value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .function import Function, StandIn, Work, check_function, evaluate
from .neuron import Neuron, Option, register
from .threshold import Surrogate, check_signed, heaviside, membrane_dtype, threshold_like

__all__ = [
    "SHIFTED_THRESHOLD",
    "ShiftedThresholdState",
    "shifted_threshold_amplitudes",
    "shifted_threshold_bit",
    "shifted_threshold_fire",
    "shifted_threshold_initial",
    "shifted_threshold_integrate",
    "shifted_threshold_multistep",
    "shifted_threshold_step",
]


class ShiftedThresholdState(NamedTuple):
    """State of pipelined shifted-threshold neurons.

    Attributes:
        v_in: input of the current window summed so far ``[B, ...]``, without the ``q/2``.
        v_fire: what the previous window still has to emit ``[B, ...]``.
        step: steps run so far.
    """

    v_in: Tensor
    v_fire: Tensor
    step: int


def shifted_threshold_initial(x_like: Tensor) -> ShiftedThresholdState:
    """Return the empty pipeline for one step shaped like ``x_like`` ``[B, ...]``.

    Example:
        >>> shifted_threshold_initial(torch.zeros(1))
        ShiftedThresholdState(v_in=tensor([0.]), v_fire=tensor([0.]), step=0)
    """
    zeros = torch.zeros_like(x_like, dtype=membrane_dtype(x_like))
    return ShiftedThresholdState(zeros, torch.zeros_like(zeros), 0)


def shifted_threshold_amplitudes(lsb: float | Tensor, timesteps: int) -> Tensor:
    """Return threshold and spike weight ``theta_k = q * 2^k`` of every step, in firing order k = T-1 .. 0.

    Args:
        lsb: ``q``, the value of the least significant bit; a float or a tensor of any shape.
        timesteps: ``T``, number of bits.

    Returns:
        ``[T]`` followed by the shape of ``lsb``. Multiply the unit spikes by it to get the neuron's output.

    Raises:
        ValueError: ``timesteps`` is below 1.

    Example:
        >>> shifted_threshold_amplitudes(0.5, 3)
        tensor([2.0000, 1.0000, 0.5000])
    """
    _check_timesteps(timesteps)
    q = lsb if isinstance(lsb, Tensor) else torch.tensor(lsb, dtype=torch.get_default_dtype())
    return torch.stack([q * 2.0**k for k in range(timesteps - 1, -1, -1)])


def shifted_threshold_bit(
    v: Tensor,
    lsb: float | Tensor,
    k: int,
    *,
    signed: bool = False,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor]:
    """Fire one bit: ``theta_k = q * 2^k;  s = H(v - theta_k);  v <- v - theta_k * s``.

    ``signed``: ``s = H(v - theta_k) - [v < q - theta_k]``, which for v >= 0 is the same.

    Args:
        v: membrane potential ``[B, ...]`` in its own dtype, the ``q/2`` included.
        lsb: ``q``, a float or a tensor of ``v``'s dtype that broadcasts against ``v``.
        k: which bit, 0 the least significant.
        signed: whether a bit may be -1.
        surrogate: replaces H in training; must have H's forward value.
        detach_reset: keep the subtraction out of the gradient.

    Returns:
        Unit spikes and the potential after them, both in ``v``'s dtype.

    Example:
        >>> shifted_threshold_bit(torch.tensor([5.5]), lsb=1.0, k=2)
        (tensor([1.]), tensor([1.5000]))
    """
    theta = lsb * 2.0**k
    fires = surrogate or heaviside
    spike = fires(v - theta)
    if signed:
        q = torch.as_tensor(lsb, dtype=v.dtype, device=v.device)
        spike = spike - (1 - fires(v - (q - q * 2.0**k)))
    return spike, v - (spike.detach() if detach_reset else spike) * theta


def shifted_threshold_step(
    x: Tensor,
    state: ShiftedThresholdState | None,
    lsb: float | Tensor,
    timesteps: int,
    signed: bool = False,
    function: Function | None = None,
    channel_axis: int = 1,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, ShiftedThresholdState]:
    """Run one pipelined step: integrate the current window of T inputs while firing the previous one.

    A window's spikes come out ``timesteps`` steps after its inputs; the first window fires nothing. The
    equation is that of `shifted_threshold_fire`.

    Args:
        x: weighted input of one step, ``[B, ...]`` (amplitudes already applied), in units of ``q``.
        state: state before the step; ``None`` starts with an empty pipeline.
        lsb: ``q``, a float or a tensor that broadcasts against ``x`` (see `per_channel`).
        timesteps: ``T``, inputs per window and bits per output.
        signed: whether a bit may be -1, for values of both signs.
        function: f, whose value the bits are of; None: the identity.
        channel_axis: of ``x``, along which parameters of f run.
        surrogate: replaces H in training; must have H's forward value.
        detach_reset: keep the subtraction out of the gradient.

    Returns:
        Unit spikes 0/1 (``signed``: -1/0/1) in ``x``'s dtype; the spike of step ``i`` weighs
        ``q * 2^(T-1 - i mod T)``. And the new state.

    Raises:
        ValueError: ``timesteps`` is below 1.
        RuntimeError: ``lsb`` does not broadcast against ``x``.

    Example:
        >>> state, fired = None, []
        >>> for x in (1.0, 1.0, 0.0, 0.0):
        ...     spike, state = shifted_threshold_step(torch.tensor([x]), state, lsb=1.0, timesteps=2)
        ...     fired.append(spike.item())
        >>> fired
        [0.0, 0.0, 1.0, 0.0]
    """
    _check_timesteps(timesteps)
    if state is None:
        state = shifted_threshold_initial(x)
    phase = state.step % timesteps
    q = threshold_like(lsb, state.v_fire)
    spike, v_fire = shifted_threshold_bit(
        state.v_fire, q, timesteps - 1 - phase, signed=signed, surrogate=surrogate, detach_reset=detach_reset
    )
    v_in = state.v_in + x.to(membrane_dtype(x))
    if phase == timesteps - 1:
        v_fire, v_in = evaluate(function, v_in, channel_axis) + q * 0.5, torch.zeros_like(v_in)
    return spike.to(x.dtype), ShiftedThresholdState(v_in, v_fire, state.step + 1)


def shifted_threshold_fire(
    v: Tensor,
    lsb: float | Tensor,
    timesteps: int,
    signed: bool = False,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor]:
    """Fire an already summed input, most significant bit first.

    ``v <- v + q/2``, then for k = T-1 .. 0 with ``theta_k = q * 2^k``: ``s = H(v - theta_k)``,
    ``v <- v - theta_k * s`` (Datta et al., arXiv 2312.06900). The spikes weighted by
    `shifted_threshold_amplitudes` sum to exactly ``clip(floor(v/q + 1/2), 0, 2^T - 1) * q``.

    ``signed``: ``s = H(v - theta_k) - [v < q - theta_k]``; in exact arithmetic the sum is then
    ``clip(floor(v/q + 1/2), -L, L) * q`` with ``L = 2^T - 1``.

    Args:
        v: summed input ``[B, ...]``, without the ``q/2``, in units of ``q``.
        lsb: ``q``, a float or a tensor that broadcasts against ``v``.
        timesteps: ``T``, number of bits and of output steps.
        signed: whether a bit may be -1, for values of both signs.
        surrogate: replaces H in training; must have H's forward value.
        detach_reset: keep the subtraction out of the gradient.

    Returns:
        Unit spikes ``[T, B, ...]`` in ``v``'s dtype, and the residual potential ``[B, ...]``.

    Raises:
        ValueError: ``timesteps`` is below 1.
        RuntimeError: ``lsb`` does not broadcast against ``v``.

    Example:
        >>> spikes, residual = shifted_threshold_fire(torch.tensor([5.0]), lsb=1.0, timesteps=3)
        >>> spikes.flatten(), residual
        (tensor([1., 0., 1.]), tensor([0.5000]))
        >>> shifted_threshold_fire(torch.tensor([-5.0]), lsb=1.0, timesteps=3, signed=True)[0].flatten()
        tensor([-1.,  0., -1.])
    """
    _check_timesteps(timesteps)
    dtype = v.dtype
    v = v.to(membrane_dtype(v))
    q = threshold_like(lsb, v)
    v = v + q * 0.5
    steps = []
    for k in range(timesteps - 1, -1, -1):
        spike, v = shifted_threshold_bit(v, q, k, signed=signed, surrogate=surrogate, detach_reset=detach_reset)
        steps.append(spike.to(dtype))
    return torch.stack(steps), v


def shifted_threshold_integrate(x_seq: Tensor) -> Tensor:
    """Sum a sequence ``[T, B, ...]`` over time, in time order, in the membrane's dtype.

    ``torch.sum`` may regroup the additions; then pipelined and multi-step runs would differ in the last bit.

    Example:
        >>> shifted_threshold_integrate(torch.ones(3, 2))
        tensor([3., 3.])
    """
    v = shifted_threshold_initial(x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:])).v_in
    for x in x_seq:
        v = v + x.to(v.dtype)
    return v


def shifted_threshold_multistep(
    x_seq: Tensor,
    lsb: float | Tensor,
    timesteps: int | None = None,
    signed: bool = False,
    function: Function | None = None,
    channel_axis: int = 1,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor]:
    """Integrate a whole sequence, then fire it with `shifted_threshold_fire`.

    Args:
        x_seq: weighted inputs ``[T_in, B, ...]`` of any length (amplitudes already applied); may be an
            expanded view. Summed in time order.
        lsb: ``q``, a float or a tensor that broadcasts against one step.
        timesteps: ``T``, output steps; as many as ``x_seq`` has by default.
        signed, function, channel_axis: as in `shifted_threshold_step`.
        surrogate, detach_reset: as in `shifted_threshold_fire`.

    Returns:
        Unit spikes ``[T, B, ...]`` in ``x_seq``'s dtype, and the residual potential ``[B, ...]``.

    Raises:
        ValueError: ``timesteps`` is below 1, or not given with an empty sequence.

    Example:
        >>> spikes, _ = shifted_threshold_multistep(torch.tensor([[4.0], [0.0], [1.0]]), lsb=1.0)
        >>> spikes.flatten()
        tensor([1., 0., 1.])
    """
    timesteps = len(x_seq) if timesteps is None else timesteps
    v = evaluate(function, shifted_threshold_integrate(x_seq), channel_axis)
    spikes, v = shifted_threshold_fire(v, lsb, timesteps, signed, surrogate=surrogate, detach_reset=detach_reset)
    return spikes.to(x_seq.dtype), v


def _check_timesteps(timesteps: int) -> None:
    if timesteps < 1:
        raise ValueError(f"timesteps is {timesteps}: a shifted-threshold neuron needs at least one step (one bit)")


def _check_optional(function: Function | None) -> None:
    if function is not None:
        check_function(function)


def _initial(x_like: Tensor, lsb: float | Tensor, **options: Any) -> ShiftedThresholdState:
    return shifted_threshold_initial(x_like)


def _gather(
    x_seq: Tensor, lsb: float | Tensor, timesteps: int, signed: bool, function: Function | None, channel_axis: int
) -> ShiftedThresholdState:
    v = evaluate(function, shifted_threshold_integrate(x_seq), channel_axis)
    return ShiftedThresholdState(torch.zeros_like(v), v + threshold_like(lsb, v) * 0.5, 0)


def _window(
    x_seq: Tensor, lsb: float | Tensor, state: ShiftedThresholdState | None = None, **how: Any
) -> tuple[Tensor, ShiftedThresholdState]:
    """Integrate and fire one window, whatever was before it."""
    spikes, v = shifted_threshold_multistep(x_seq, lsb, **how)
    return spikes, ShiftedThresholdState(torch.zeros_like(v), v, 0)


def bit_weight(step: int, timesteps: int, **options: Any) -> float:
    """What a spike is worth in least significant bits.

    Example:
        >>> [bit_weight(step, 3) for step in range(3)]
        [4.0, 2.0, 1.0]
    """
    return 2.0 ** (timesteps - 1 - step % timesteps)


def window_latency(timesteps: int, **options: Any) -> int:
    """Steps before the first output that counts: a whole window comes in first.

    Example:
        >>> window_latency(3)
        3
    """
    return timesteps


def _work(steps: int, function: Function | None, **options: Any) -> Work:
    return Work(functions=0 if function is None else 1)


TIMESTEPS = Option("timesteps", check=_check_timesteps, meaning="the number of bits")
SIGNED = Option("signed", False, check_signed, "whether values of both signs come in, so that spikes may be -1")
CHANNEL_AXIS = Option("channel_axis", 1, meaning="the axis of one step along which parameters of the function run")

SHIFTED_THRESHOLD = register(
    Neuron(
        name="shifted_threshold",
        state=ShiftedThresholdState,
        initial=_initial,
        step=shifted_threshold_step,
        multistep=_window,
        options=(
            TIMESTEPS,
            SIGNED,
            Option("function", None, _check_optional, "what is evaluated when the whole input has come in"),
            CHANNEL_AXIS,
        ),
        membrane="v_fire",
        both_signs={"signed": True},
        functions={"ladder": StandIn("ladder"), "function": StandIn("shifted_threshold")},
        gather=_gather,
        quantises=True,
        weight=bit_weight,
        latency=window_latency,
        work=_work,
    )
)
"""Shifted-threshold integrate-and-fire; its threshold is the least significant bit."""
