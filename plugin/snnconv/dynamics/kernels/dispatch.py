"""One entry point for running a neuron over a whole sequence."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..shifted import shifted_threshold_amplitudes
from ..threshold import broadcast_channels, check_eps, membrane_dtype
from . import eager
from .layout import dense_steps, empty_steps, flat, same_layout

NEURONS = ("if", "signed_if", "srp", "shifted_threshold")
"""Names that `scan` accepts."""

BACKENDS = ("auto", "eager", "numba")

NUMBA_MIN_NUMEL = 1 << 14
"""Elements of ``x_seq`` from which ``backend="auto"`` chooses numba on the CPU.

Once loaded numba is no slower at any size; below this it gains too little to be worth loading.
"""

MIN_NUMEL_PER_THREAD = 1 << 17
"""Waking another thread takes about as long as this many elements."""

_KERNEL_DTYPES = (torch.float32, torch.bfloat16)


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
        backend: ``"numba"`` (CPU, float32 and bfloat16), ``"eager"``, or ``"auto"``: numba where it is
            installed, applies and the input is large enough to gain from it.
        scaled: emit ``theta * s`` (``theta_k * s``), else unit spikes.
        channel_axis: axis of one step ``[B, C, ...]`` that a threshold ``[C]`` runs along.
        pre_timesteps: ``tau``; for ``"srp"`` only.
        eps: dead zone of ``"signed_if"`` and ``"srp"``, as a fraction of ``theta``.
        timesteps: output steps of ``"shifted_threshold"``; as many as ``x_seq`` has by default.
        dtype: dtype of the output; ``x_seq``'s by default.
        out: tensor to write to, of the output's shape; its dtype is the output's.

    Returns:
        ``[T, B, ...]``, steps in the memory format of ``x_seq``'s: where ``x_seq`` with time folded into the
        batch is channels-last, so is the output.

    Raises:
        ValueError: an unknown neuron or backend, an input without steps or of an integer dtype, a threshold
            that does not fit, a missing or too large ``pre_timesteps``, or an ``out`` of another shape.
        ModuleNotFoundError: ``backend="numba"`` without numba installed.

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
    theta = _fit(v_threshold, x_seq, channel_axis)
    if x_seq[0].numel() == 0:
        return result
    pre = pre_timesteps or 0
    dead_zone = theta * eps
    channels = _channels(theta, x_seq, channel_axis)
    if _takes_numba(backend, x_seq, result, channels):
        _run_numba(neuron, x_seq, result, channels, dead_zone, channel_axis, scaled, pre)
    else:
        _run_eager(neuron, x_seq, result, theta, dead_zone, scaled, pre)
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
) -> tuple[Tensor, Tensor]:
    """Run one of SRP-IF's two phases: a network runs the first in all its layers before the second.

    The spikes of phase 1 and then of phase 2 equal `srp_multistep`'s bit for bit.

    Args:
        x_seq: input currents of the phase, ``[T, B, ...]``.
        v_threshold, backend, scaled, channel_axis, eps: as in `scan`.
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
    result = empty_steps(x_seq, len(x_seq), x_seq.dtype)
    allowed = empty_steps(x_seq, 1, torch.bool)[0]
    if mask is not None:
        allowed.copy_(mask)
    theta = _fit(v_threshold, x_seq, channel_axis)
    if x_seq[0].numel() == 0:
        return result, allowed
    dead_zone = theta * eps
    channels = _channels(theta, x_seq, channel_axis)
    if _takes_numba(backend, x_seq, result, channels):
        _run_numba("srp", x_seq, result, channels, dead_zone, channel_axis, scaled, 0, (allowed, mask is None))
    else:
        eager.srp_phase(x_seq, result, allowed, theta, dead_zone, scaled, mask is None)
    return result, allowed


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


def _fit(v_threshold: float | Tensor, x_seq: Tensor, axis: int) -> float | Tensor:
    """Shape the threshold to broadcast against one step, in the membrane's dtype."""
    if not isinstance(v_threshold, Tensor):
        return v_threshold
    theta = v_threshold.detach().to(membrane_dtype(x_seq))
    ndim = x_seq.ndim - 1
    if theta.ndim > 1:
        shape = x_seq.shape[1:]
        try:
            fits = torch.broadcast_shapes(theta.shape, shape) == shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(f"v_threshold {tuple(theta.shape)} does not broadcast against a step {tuple(shape)}")
        return theta
    inside = theta.ndim == 1 and -ndim <= axis < ndim
    fitted = broadcast_channels(theta, ndim, axis, x_seq.shape[1:][axis] if inside else None)
    assert isinstance(fitted, Tensor)
    return fitted


def _channels(theta: float | Tensor, x_seq: Tensor, axis: int) -> Tensor | None:
    """Return the threshold as ``[1]`` or ``[C]``, or None where it varies along another axis."""
    if not isinstance(theta, Tensor):
        return torch.tensor([theta], dtype=membrane_dtype(x_seq))
    if theta.numel() == 1:
        return theta.reshape(1)
    along_axis = theta.ndim == x_seq.ndim - 1 and theta.shape[axis] == theta.numel()
    return theta.reshape(-1) if along_axis else None


def _why_not_numba(x_seq: Tensor, out: Tensor, channels: Tensor | None) -> str:
    if x_seq.device.type != "cpu" or out.device.type != "cpu":
        return f"it is on {x_seq.device}, not on the CPU"
    if x_seq.dtype not in _KERNEL_DTYPES or out.dtype not in _KERNEL_DTYPES:
        return f"{x_seq.dtype} in and {out.dtype} out; it has float32 and bfloat16"
    if channels is None:
        return "the threshold varies along more than the channel axis"
    if channels.device.type != "cpu":
        return f"the threshold is on {channels.device}, not on the CPU"
    return ""


def _takes_numba(backend: str, x_seq: Tensor, out: Tensor, channels: Tensor | None) -> bool:
    reason = _why_not_numba(x_seq, out, channels)
    if backend == "numba" and reason:
        raise ValueError(f"backend 'numba' does not run this input: {reason}; use backend='auto'")
    return backend == "numba" or (
        backend == "auto" and not reason and x_seq.numel() >= NUMBA_MIN_NUMEL and _has_numba()
    )


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def _run_eager(
    neuron: str,
    x_seq: Tensor,
    out: Tensor,
    theta: float | Tensor,
    dead_zone: float | Tensor,
    scaled: bool,
    pre: int,
) -> None:
    if neuron == "if":
        eager.if_scan(x_seq, out, theta, scaled)
    elif neuron == "signed_if":
        eager.signed_if_scan(x_seq, out, theta, dead_zone, scaled)
    elif neuron == "srp":
        eager.srp_scan(x_seq, out, theta, dead_zone, scaled, pre)
    else:
        eager.shifted_threshold_scan(x_seq, out, theta, scaled)


def _run_numba(
    neuron: str,
    x_seq: Tensor,
    out: Tensor,
    theta: Tensor | None,
    dead_zone: float | Tensor,
    axis: int,
    scaled: bool,
    pre: int,
    phase: tuple[Tensor, bool] | None = None,
) -> None:
    """``theta`` is ``[1]`` or ``[C]``; ``phase`` is the mask of one phase of SRP, and whether it is the first."""
    dead_zones = _channels(dead_zone, x_seq, axis)
    assert theta is not None
    assert dead_zones is not None
    try:
        from . import numba_cpu
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "backend 'numba' needs the numba package: pip install numba, or use backend='auto'"
        ) from error
    x_seq = dense_steps(x_seq)
    result = out if same_layout(out, x_seq) else empty_steps(x_seq, len(out), out.dtype)
    amplitude = (theta if scaled else torch.ones_like(theta)).to(result.dtype)
    step = x_seq[0]
    size, channels = step.numel(), theta.numel()
    inner = step.stride(axis) if channels > 1 else 1
    shape = (size, x_seq.stride(0), channels, inner, _numpy(theta))
    kernel: Callable[..., None]
    args: tuple[Any, ...]
    if neuron == "if":
        kernel, args = numba_cpu.if_scan, (len(x_seq), *shape, _numpy(amplitude))
    elif neuron == "signed_if":
        kernel = numba_cpu.signed_if_scan
        args = (len(x_seq), *shape, _numpy(amplitude), _numpy(dead_zones))
    elif phase is not None:
        kernel = numba_cpu.srp_phase
        mask = _numpy(flat(phase[0].unsqueeze(0)))
        args = (mask, phase[1], len(x_seq), *shape, _numpy(amplitude), _numpy(dead_zones))
    elif neuron == "srp":
        kernel = numba_cpu.srp_scan
        args = (len(x_seq), *shape, _numpy(amplitude), _numpy(dead_zones), pre)
    else:
        weights = shifted_threshold_amplitudes(amplitude, len(out))[0] if scaled else amplitude
        decay = np.float32(0.5 if scaled else 1.0)
        kernel = numba_cpu.shifted_threshold_scan
        args = (len(x_seq), len(out), *shape, _numpy(weights.float()), decay)
    blocks = -(-size // numba_cpu.BLOCK)
    threads = max(1, min(torch.get_num_threads(), blocks, x_seq.numel() // MIN_NUMEL_PER_THREAD))
    _run_blocks(kernel, (_numpy(flat(x_seq)), _numpy(flat(result)), *args), blocks, threads)
    if result is not out:
        out.copy_(result)


def _numpy(values: Tensor) -> Any:
    """Share memory with numpy; bfloat16 as its 16 bits."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.uint16).numpy()
    return values.numpy()


def _run_blocks(kernel: Callable[..., None], args: tuple[Any, ...], blocks: int, threads: int) -> None:
    """Share the blocks among threads, this one included.

    Plain threads, since the kernels release the GIL: a second OpenMP runtime beside PyTorch's busy-waits for
    the cores that PyTorch's own busy-waits for.
    """
    bounds = [blocks * i // threads for i in range(threads + 1)]
    pending = [_pool(threads - 1).submit(kernel, *args, *bounds[i : i + 2]) for i in range(1, threads)]
    try:
        kernel(*args, *bounds[:2])
    finally:
        for future in pending:
            future.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="snnconv-scan")


# Threads do not survive a fork: a child process starts its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
