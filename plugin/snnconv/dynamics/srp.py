"""SRP-IF: integrate-and-fire in two phases, silenced by the residual potential of the first."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .integrate_fire import IF, IFState, if_step
from .neuron import Neuron, Option, PrePhase, register
from .threshold import Surrogate, check_eps, half_threshold, stack_steps, threshold_like

__all__ = ["SRP", "SRPState", "srp_initial", "srp_multistep", "srp_step"]


class SRPState(NamedTuple):
    """State of SRP-IF neurons.

    Attributes:
        v: membrane potential ``[B, ...]``, in units of the threshold's.
        mask: neurons allowed to fire in phase 2 ``[B, ...]``, bool; all true during phase 1.
        step: steps run so far.
    """

    v: Tensor
    mask: Tensor
    step: int


def srp_initial(x_like: Tensor, v_threshold: float | Tensor) -> SRPState:
    """Return the start of phase 1, ``v = theta/2``, for one step shaped like ``x_like`` ``[B, ...]``.

    Example:
        >>> srp_initial(torch.zeros(1, 1), 1.0)
        SRPState(v=tensor([[0.5000]]), mask=tensor([[True]]), step=0)
    """
    v = half_threshold(x_like, v_threshold)
    return SRPState(v, torch.ones_like(v, dtype=torch.bool), 0)


def srp_step(
    x: Tensor,
    state: SRPState | None,
    v_threshold: float | Tensor,
    pre_timesteps: int,
    eps: float = 1e-3,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, SRPState]:
    """Run one step of SRP-IF.

    Phase 1, ``tau`` steps: integrate-and-fire from ``v = theta/2``; at its end ``m = [v > eps*theta]`` and
    ``v <- theta/2``. Phase 2: integrate-and-fire, every output multiplied by ``m``
    (Hao et al., AAAI 2023, arXiv 2302.02091). A residual potential that is not positive means that the source
    network's activation is zero, so the neuron is silenced.

    The spikes of phase 1 are returned unmasked: they drive phase 1 of the next layer. The result of the
    network is read from phase 2 only, so the first meaningful output comes after ``tau`` steps.

    Args:
        x: input current of one step, ``[B, ...]``, in units of ``theta``.
        state: state before the step; ``None`` starts phase 1.
        v_threshold: ``theta``, a float or a tensor that broadcasts against ``x`` (see `per_channel`).
        pre_timesteps: ``tau``, length of phase 1; 0 leaves plain integrate-and-fire.
        eps: residual potentials up to ``eps*theta`` count as zero.
        surrogate: replaces H in training; must have H's forward value.
        detach_reset: keep the reset out of the gradient.

    Returns:
        Unit spikes 0/1 in ``x``'s dtype, and the new state.

    Raises:
        ValueError: ``pre_timesteps`` is negative.
        RuntimeError: ``v_threshold`` does not broadcast against ``x``.

    Example:
        >>> x = torch.tensor([0.5, -0.5])
        >>> spikes, state = srp_step(x, None, 1.0, pre_timesteps=1)
        >>> state
        SRPState(v=tensor([0.5000, 0.5000]), mask=tensor([False, False]), step=1)
    """
    _check_pre_timesteps(pre_timesteps)
    if state is None:
        state = srp_initial(x, v_threshold)
    spike, (v,) = if_step(x, IFState(state.v), v_threshold, surrogate=surrogate, detach_reset=detach_reset)
    step, mask = state.step + 1, state.mask
    if step > pre_timesteps:
        return spike * mask, SRPState(v, mask, step)
    if step == pre_timesteps:
        mask = v > threshold_like(v_threshold, v) * eps
        v = half_threshold(x, v_threshold)
    return spike, SRPState(v, mask, step)


def srp_multistep(
    x_seq: Tensor,
    v_threshold: float | Tensor,
    pre_timesteps: int,
    state: SRPState | None = None,
    eps: float = 1e-3,
    *,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
) -> tuple[Tensor, SRPState]:
    """Run `srp_step` over a sequence ``[tau + T, B, ...]``; the spikes have the same shape.

    The first ``tau`` outputs are phase 1, unmasked; the remaining ``T`` are phase 2, masked.

    Args:
        x_seq: input currents, time first; may be an expanded view.
        v_threshold, pre_timesteps, state, eps, surrogate, detach_reset: as in `srp_step`.

    Returns:
        Unit spikes ``[tau + T, B, ...]`` in ``x_seq``'s dtype, and the state after the last step.

    Example:
        >>> x_seq = torch.tensor([[1.0], [-1.25], [1.0], [1.0]])
        >>> spikes, _ = srp_multistep(x_seq, 1.0, pre_timesteps=2)
        >>> spikes.flatten()
        tensor([1., 0., 0., 0.])
    """
    if state is None:
        state = srp_initial(x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:]), v_threshold)
    steps = []
    for x in x_seq:
        spike, state = srp_step(
            x, state, v_threshold, pre_timesteps, eps, surrogate=surrogate, detach_reset=detach_reset
        )
        steps.append(spike)
    return stack_steps(steps, x_seq), state


def _check_pre_timesteps(pre_timesteps: int) -> None:
    if pre_timesteps < 0:
        raise ValueError(f"pre_timesteps is {pre_timesteps}: phase 1 takes zero steps or more")


def _initial(x_like: Tensor, v_threshold: float | Tensor, pre_timesteps: int, eps: float) -> SRPState:
    return srp_initial(x_like, v_threshold)


def _latency(pre_timesteps: int, eps: float) -> int:
    return pre_timesteps


def _allowed(state: IFState, v_threshold: float | Tensor, pre_timesteps: int, eps: float) -> Tensor:
    return state.v > threshold_like(v_threshold, state.v) * eps


SRP = register(
    Neuron(
        name="srp",
        state=SRPState,
        initial=_initial,
        step=srp_step,
        multistep=srp_multistep,
        options=(
            Option("pre_timesteps", check=_check_pre_timesteps, meaning="the length of its first phase"),
            Option("eps", 1e-3, check_eps, "residual potentials that count as zero, as a fraction of the threshold"),
        ),
        latency=_latency,
        pre_phase=PrePhase(IF, "pre_timesteps", _allowed),
    )
)
"""SRP-IF, in two phases."""
