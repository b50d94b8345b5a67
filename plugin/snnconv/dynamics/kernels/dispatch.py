"""One entry point for running a neuron over a whole sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from ..integrate_fire import IFState
from ..signed import SignedIFState
from ..threshold import broadcast_channels, check_eps, membrane_dtype
from .backends import BACKENDS, Job, add_codes, run
from .layout import empty_steps
from .levels import levels

NEURONS = ("if", "signed_if", "srp", "shifted_threshold")
"""Names that `scan` accepts."""


@torch.no_grad()
def scan(
    neuron: str,
    x_seq: Tensor,
    v_threshold: float | Tensor,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    pre_timesteps: int | None = None,
    eps: float = 1e-3,
    timesteps: int | None = None,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Run one of the neuron equations over a sequence from its start state, without gradient.

    The equations are `if_multistep`, `signed_if_multistep`, `srp_multistep` and
    `shifted_threshold_multistep`, and the spikes equal theirs bit for bit on every backend.

    Args:
        neuron: ``"if"``, ``"signed_if"``, ``"srp"`` or ``"shifted_threshold"``.
        x_seq: input currents ``[T, B, ...]``, for ``"srp"`` ``tau + T`` steps; an expanded view is read in
            place.
        v_threshold: ``theta`` (for ``"shifted_threshold"`` the least significant bit ``q``); a float, one
            value per channel ``[C]``, or a tensor that broadcasts against one step.
        backend: ``"eager"``, ``"numba"`` (CPU, float32 and bfloat16), ``"triton"`` (GPU), ``"inductor"``
            (``torch.compile`` of the equation itself, once a shape), or ``"auto"``: numba or Triton where they
            are installed and apply and the input is large enough to gain, else eager.
        scaled: emit ``theta * s`` (``theta_k * s``), else unit spikes.
        channel_axis: axis of one step ``[B, C, ...]`` that a threshold ``[C]`` runs along.
        pre_timesteps: ``tau``; for ``"srp"`` only.
        eps: dead zone of ``"signed_if"`` and ``"srp"``, as a fraction of ``theta``.
        timesteps: output steps of ``"shifted_threshold"``; as many as ``x_seq`` has by default.
        dtype: dtype of the output; ``x_seq``'s by default. ``torch.int8`` with ``scaled=False`` gives -1, 0, 1.
        out: tensor to write to, of the output's shape; its dtype is the output's.

    Returns:
        ``[T, B, ...]``, steps in the memory format of ``x_seq``'s: where ``x_seq`` with time folded into the
        batch is channels-last, so is the output.

    Raises:
        ValueError: an unknown neuron or backend, an input without steps or of an integer dtype, a threshold
            that does not fit, a missing or too large ``pre_timesteps``, or an ``out`` of another shape.
        ModuleNotFoundError: a backend whose package is not installed.

    Example:
        >>> scan("if", torch.full((4, 1, 2), 0.5), torch.tensor([1.0, 2.0])).sum(0)
        tensor([[2., 2.]])
    """
    _check(neuron, x_seq, backend, pre_timesteps, eps)
    steps = len(x_seq)
    if neuron == "shifted_threshold" and timesteps is not None:
        steps = timesteps
        if steps < 1:
            raise ValueError(f"timesteps is {steps}: a shifted-threshold neuron needs at least one step (one bit)")
    x_seq = x_seq.detach()
    shape = (steps, *x_seq.shape[1:])
    if out is None:
        result = empty_steps(x_seq, steps, dtype or x_seq.dtype)
    elif out.shape != shape:
        raise ValueError(f"out has shape {tuple(out.shape)} but the spikes have shape {shape}")
    elif dtype is not None and out.dtype != dtype:
        raise ValueError(f"out is {out.dtype} but dtype={dtype} was asked for: pass one of the two")
    else:
        result = out
    run(_job(neuron, x_seq, result, v_threshold, channel_axis, eps, scaled, pre=pre_timesteps or 0), backend)
    return result


@torch.no_grad()
def srp_phase(
    x_seq: Tensor,
    v_threshold: float | Tensor,
    mask: Tensor | None = None,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    eps: float = 1e-3,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one of SRP-IF's two phases: a network runs the first in all its layers before the second.

    The spikes of phase 1 and then of phase 2 equal `srp_multistep`'s bit for bit.

    Args:
        x_seq: input currents of the phase, ``[T, B, ...]``.
        v_threshold, backend, scaled, channel_axis, eps, dtype: as in `scan`.
        mask: ``None`` for phase 1; for phase 2 what phase 1 returned.

    Returns:
        Spikes ``[T, B, ...]``, and the neurons ``[B, ...]`` that may fire in phase 2 (bool).

    Raises:
        ValueError: as `scan`, or a mask of another shape than one step.

    Example:
        >>> first, mask = srp_phase(torch.tensor([[1.0, -0.5]]), 1.0)
        >>> srp_phase(torch.ones(2, 2), 1.0, mask)[0]
        tensor([[1., 0.],
                [1., 0.]])
    """
    _check("if", x_seq, backend, None, eps)
    if mask is not None and mask.shape != x_seq.shape[1:]:
        raise ValueError(f"mask has shape {tuple(mask.shape)} but a step has shape {tuple(x_seq.shape[1:])}")
    x_seq = x_seq.detach()
    result = empty_steps(x_seq, len(x_seq), dtype or x_seq.dtype)
    allowed = empty_steps(x_seq, 1, torch.bool)[0]
    if mask is not None:
        allowed.copy_(mask)
    job = _job("srp", x_seq, result, v_threshold, channel_axis, eps, scaled, mask=allowed, is_first=mask is None)
    run(job, backend)
    return result, allowed


@torch.no_grad()
def resume(
    neuron: str,
    x_seq: Tensor,
    v_threshold: float | Tensor,
    state: IFState | SignedIFState | None,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    eps: float = 1e-3,
    dtype: torch.dtype | None = None,
    in_place: bool = False,
) -> tuple[Tensor, IFState | SignedIFState]:
    """Run some steps of a sequence, going on from a state: as `scan`, in pieces.

    Args:
        neuron: ``"if"`` or ``"signed_if"``.
        x_seq, v_threshold, backend, scaled, channel_axis, eps, dtype: as in `scan`.
        state: the state before the first of these steps; ``None`` starts afresh. It is not changed, unless
            ``in_place``.
        in_place: write the state after the last step over ``state``, where that lies in memory as the kernel wants it.

    Returns:
        Spikes ``[T, B, ...]``, and the state after the last step.

    Raises:
        ValueError: as `scan`, another neuron, or a state of another shape than one step.

    Example:
        >>> x_seq = torch.full((4, 1), 0.6)
        >>> first, state = resume("if", x_seq[:2], 1.0, None)
        >>> torch.equal(torch.cat([first, resume("if", x_seq[2:], 1.0, state)[0]]), scan("if", x_seq, 1.0))
        True
    """
    if neuron not in ("if", "signed_if"):
        raise ValueError(f"neuron {neuron!r} does not run in pieces: only 'if' and 'signed_if' do")
    _check(neuron, x_seq, backend, None, eps)
    x_seq = x_seq.detach()
    kept = []
    for index in range(2 if neuron == "signed_if" else 1):
        tensor = empty_steps(x_seq, 1, membrane_dtype(x_seq))[0]
        if state is not None:
            if state[index].shape != tensor.shape:
                raise ValueError(f"a state {tuple(state[index].shape)} for steps {tuple(tensor.shape)}")
            if in_place and state[index].stride() == tensor.stride() and state[index].dtype == tensor.dtype:
                tensor = state[index]
            else:
                tensor.copy_(state[index])
        kept.append(tensor)
    result = empty_steps(x_seq, len(x_seq), dtype or x_seq.dtype)
    resumed = state is not None
    run(_job(neuron, x_seq, result, v_threshold, channel_axis, eps, scaled, state=kept, resumed=resumed), backend)
    return result, IFState(*kept) if neuron == "if" else SignedIFState(*kept)


@torch.no_grad()
def shifted_threshold_total(
    x_seq: Tensor,
    v_threshold: float | Tensor,
    timesteps: int,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Sum of the weighted spikes of shifted-threshold IF, without the spikes: ``sum_k q * 2^k * s_k``.

    The spikes are those of `shifted_threshold_multistep`, added from the most significant bit down.

    Args:
        x_seq: input currents ``[T, B, ...]``.
        v_threshold: the least significant bit ``q``, as in `scan`.
        timesteps: number of bits.
        backend, channel_axis, dtype: as in `scan`.
        scaled: weights ``q * 2^k``, else ``2^k``.

    Returns:
        ``[B, ...]`` in ``x_seq``'s dtype, or in ``dtype``.

    Raises:
        ValueError: as `scan`.

    Example:
        >>> shifted_threshold_total(torch.tensor([[5.2, -1.0, 99.0]]), 1.0, timesteps=3)
        tensor([5., 0., 7.])
    """
    _check("shifted_threshold", x_seq, backend, None, 0.0)
    if timesteps < 1:
        raise ValueError(f"timesteps is {timesteps}: a shifted-threshold neuron needs at least one step (one bit)")
    x_seq = x_seq.detach()
    out = empty_steps(x_seq, 1, dtype or x_seq.dtype)
    run(_job("shifted_threshold", x_seq, out, v_threshold, channel_axis, 0.0, scaled, bits=timesteps), backend)
    return out[0]


@torch.no_grad()
def add_spikes_(x: Tensor, codes: Tensor, amplitude: Tensor, *, backend: str = "auto", channel_axis: int = 1) -> Tensor:
    """``x += codes * amplitude``, in place.

    Args:
        x: currents ``[B, ...]``.
        codes: whole numbers of the same shape, ``int8`` or ``uint8``.
        amplitude: what one of them is worth, ``[1]`` or one value per channel.
        backend, channel_axis: as in `scan`.

    Returns:
        ``x``.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> add_spikes_(torch.zeros(1, 2), torch.tensor([[1, -1]], dtype=torch.int8), torch.tensor([0.5, 2.0]))
        tensor([[ 0.5000, -2.0000]])
    """
    if codes.shape != x.shape:
        raise ValueError(f"codes have shape {tuple(codes.shape)}, the currents {tuple(x.shape)}")
    worth = amplitude.reshape(-1)
    if not add_codes(x, codes, worth, channel_axis, backend):
        fitted = broadcast_channels(worth if len(worth) > 1 else worth[0], x.ndim, channel_axis, x.shape[channel_axis])
        x.add_(codes.to(x.dtype).mul_(fitted))
    return x


def _job(
    neuron: str,
    x_seq: Tensor,
    out: Tensor,
    v_threshold: float | Tensor,
    axis: int,
    eps: float,
    scaled: bool,
    pre: int = 0,
    mask: Tensor | None = None,
    is_first: bool = False,
    state: list[Tensor] | None = None,
    resumed: bool = False,
    bits: int = 0,
) -> Job:
    return Job(
        neuron,
        x_seq,
        out,
        levels(v_threshold, x_seq, axis, eps),
        axis,
        scaled,
        pre,
        mask,
        is_first,
        state or [],
        resumed,
        bits,
    )


def _check(neuron: str, x_seq: Tensor, backend: str, pre_timesteps: int | None, eps: float) -> None:
    if neuron not in NEURONS:
        raise ValueError(f"unknown neuron {neuron!r}: choose one of {', '.join(NEURONS)}")
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    if x_seq.ndim < 2 or len(x_seq) == 0:
        raise ValueError(f"x_seq has shape {tuple(x_seq.shape)}: it needs a time axis with steps, [T, B, ...]")
    if not x_seq.is_floating_point():
        raise ValueError(f"x_seq is {x_seq.dtype}: input currents are floating point")
    check_eps(eps)
    if neuron == "srp":
        if pre_timesteps is None:
            raise ValueError("neuron 'srp' needs pre_timesteps, the length of its first phase")
        if not 0 <= pre_timesteps < len(x_seq):
            raise ValueError(
                f"pre_timesteps is {pre_timesteps} and x_seq has {len(x_seq)} steps: "
                "it must be 0 or more and leave steps for the second phase"
            )
    elif pre_timesteps is not None:
        raise ValueError(f"pre_timesteps is for neuron 'srp' only, not {neuron!r}")
