"""Integrate-and-fire on the sum, rate coding: spikes that follow a function of the input's mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .function import Function, Work, check_function, evaluate
from .integrate_fire import STARTS, check_start
from .neuron import Neuron, Option, register
from .shifted import CHANNEL_AXIS, SIGNED
from .signed import check_eps_absolute
from .threshold import Surrogate, check_eps, heaviside, membrane_dtype, stack_steps, threshold_like

__all__ = [
    "FUNCTION_IF",
    "FunctionIFState",
    "function_if_fire",
    "function_if_initial",
    "function_if_multistep",
    "function_if_step",
]


class FunctionIFState(NamedTuple):
    """State of integrate-and-fire neurons on the sum.

    Attributes:
        v: input accumulated so far ``[B, ...]``.
        n: positive minus negative spikes so far ``[B, ...]``, whole numbers in ``v``'s dtype.
        step: steps run so far.
    """

    v: Tensor
    n: Tensor
    step: int


def function_if_initial(x_like: Tensor) -> FunctionIFState:
    """Return the empty sum for one step shaped like ``x_like`` ``[B, ...]``.

    Example:
        >>> function_if_initial(torch.zeros(1))
        FunctionIFState(v=tensor([0.]), n=tensor([0.]), step=0)
    """
    v = torch.zeros_like(x_like, dtype=membrane_dtype(x_like))
    return FunctionIFState(v, torch.zeros_like(v), 0)


def function_if_fire(
    y: Tensor,
    n: Tensor,
    v_threshold: float | Tensor,
    eps: float = 1e-3,
    eps_absolute: float | None = None,
    start: str = "half",
    signed: bool = False,
    takes_back: bool = True,
    *,
    surrogate: Surrogate | None = None,
) -> Tensor:
    """Fire one step towards a target: +1 where ``y - theta*n >= theta/2``, -1 where it is ``< -(1/2 + eps)*theta``.

    Args:
        y: the target, what the spikes so far should sum to, ``[B, ...]``.
        n: positive minus negative spikes so far.
        v_threshold: ``theta``, a float or a tensor of ``y``'s dtype that broadcasts against ``y``.
        eps, eps_absolute, start, signed, takes_back, surrogate: as in `function_if_step`.

    Returns:
        Unit spikes in ``y``'s dtype.

    Example:
        >>> function_if_fire(torch.tensor([0.6, 0.4, -0.6]), torch.zeros(3), 1.0, signed=True)
        tensor([ 1.,  0., -1.])
    """
    fires, part = surrogate or heaviside, STARTS[start]
    dead_zone = v_threshold * eps if eps_absolute is None else eps_absolute
    theta = torch.as_tensor(v_threshold, dtype=y.dtype, device=y.device)
    spike = fires(y - theta * (n + (1 - part)))
    if not takes_back:
        return spike
    negative = 1 - fires(y + dead_zone - theta * (n - part))
    return spike - (negative if signed else negative * (n > 0))


def function_if_step(
    x: Tensor,
    state: FunctionIFState | None,
    v_threshold: float | Tensor,
    function: Function,
    eps: float = 1e-3,
    eps_absolute: float | None = None,
    start: str = "half",
    signed: bool = False,
    takes_back: bool = True,
    channel_axis: int = 1,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, FunctionIFState]:
    """Run one step of integrate-and-fire on the sum.

    ``A <- A + x;  Y = t * f(A/t)`` after ``t`` steps, and with ``n`` spikes so far, positive minus negative: +1 where
    ``Y - theta*n >= theta/2``, -1 where ``Y - theta*n < -(1/2 + eps)*theta`` and (unless ``signed``) ``n > 0``. So
    ``theta*n/t`` follows f of the mean input.

    Args:
        x: input current of one step, ``[B, ...]``.
        state: state before the step; ``None`` starts afresh.
        v_threshold: ``theta``, a float or a tensor that broadcasts against ``x``, in units of f's output.
        function: f, elementwise; evaluated in float64.
        eps: dead zone below, as a fraction of ``theta``, so that rounding errors do not fire.
        eps_absolute: the dead zone in units of f's output, in place of ``eps``.
        start: ``"half"``: Y is rounded to spikes; ``"zero"``: it is rounded down.
        signed: whether f takes values below 0: a spike of -1 needs none of +1 before it.
        takes_back: whether there are spikes of -1 at all.
        channel_axis: of ``x``, along which parameters of f run.
        surrogate: replaces H in training, for both signs; must have H's forward value.
        detach_reset: spikes are counted without a gradient in any case; taken for the signature that neurons share.

    Returns:
        Unit spikes in {-1, 0, +1} in ``x``'s dtype, and the new state.

    Example:
        >>> class Negated:
        ...     extrema, signed, linear = (), True, False
        ...     def __call__(self, z, axis=1):
        ...         return -z
        >>> function_if_step(torch.tensor([0.75]), None, 1.0, Negated(), signed=True)[0]
        tensor([-1.])
    """
    if state is None:
        state = function_if_initial(x)
    v, t = state.v + x.to(membrane_dtype(x)), state.step + 1
    y = target(function, v, t, channel_axis)
    theta = threshold_like(v_threshold, v)
    spike = function_if_fire(y, state.n, theta, eps, eps_absolute, start, signed, takes_back, surrogate=surrogate)
    return spike.to(x.dtype), FunctionIFState(v, state.n + spike.detach(), t)


def target(function: Function, v: Tensor, t: int, channel_axis: int = 1) -> Tensor:
    """``Y = t * f(A/t)`` in float64, rounded to the dtype of ``v``, the input accumulated over ``t`` steps.

    Example:
        >>> target(lambda z, axis: z * z, torch.tensor([6.0]), 3)
        tensor([12.])
    """
    return (t * evaluate(function, v.double() / t, channel_axis)).to(v.dtype)


def function_if_multistep(
    x_seq: Tensor, v_threshold: float | Tensor, state: FunctionIFState | None = None, **how: Any
) -> tuple[Tensor, FunctionIFState]:
    """Run `function_if_step` over a sequence ``[T, B, ...]``; the spikes have the same shape.

    Args:
        x_seq: input currents, time first; may be an expanded view.
        v_threshold, state, how: as in `function_if_step`.

    Returns:
        Unit spikes ``[T, B, ...]`` in {-1, 0, +1} in ``x_seq``'s dtype, and the state after the last step.

    Example:
        >>> class Halved:
        ...     extrema, signed, linear = (), True, False
        ...     def __call__(self, z, axis=1):
        ...         return 0.5 * z
        >>> spikes, _ = function_if_multistep(torch.ones(4, 1), 1.0, function=Halved())
        >>> spikes.flatten()
        tensor([1., 0., 1., 0.])
    """
    if state is None:
        state = function_if_initial(x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:]))
    steps = []
    for x in x_seq:
        spike, state = function_if_step(x, state, v_threshold, **how)
        steps.append(spike)
    return stack_steps(steps, x_seq), state


def _initial(x_like: Tensor, v_threshold: float | Tensor, **options: Any) -> FunctionIFState:
    return function_if_initial(x_like)


def _check_takes_back(takes_back: bool) -> None:
    if not isinstance(takes_back, bool):
        raise ValueError(f"takes_back must be True or False, got {takes_back!r}")


def _work(steps: int, **options: Any) -> Work:
    return Work(functions=steps)


FUNCTION_IF = register(
    Neuron(
        name="function_if",
        state=FunctionIFState,
        initial=_initial,
        step=function_if_step,
        multistep=function_if_multistep,
        options=(
            Option("function", check=check_function, meaning="the function of the mean input that it follows"),
            Option("eps", 1e-3, check_eps, "the dead zone below, as a fraction of the threshold"),
            Option("eps_absolute", None, check_eps_absolute, "the dead zone in units of the output, in place of eps"),
            Option("start", "half", check_start, "'half': rounded to spikes, 'zero': rounded down"),
            SIGNED,
            Option("takes_back", True, _check_takes_back, "whether there are spikes of -1"),
            CHANNEL_AXIS,
        ),
        signed=True,
        both_signs={"signed": True},
        work=_work,
    )
)
"""Integrate-and-fire on the sum, for a function of the input."""
