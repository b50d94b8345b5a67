"""What runs a scan: numba on the CPU, Triton on a GPU, torch.compile, or plain PyTorch."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..shifted import shifted_threshold_amplitudes
from . import eager
from .layout import dense_steps, empty_steps, flat, same_layout

BACKENDS = ("auto", "eager", "numba", "inductor", "triton")

NUMBA_MIN_NUMEL = 1 << 14
"""Elements of ``x_seq`` from which ``backend="auto"`` chooses numba on the CPU.

Once loaded numba is no slower at any size; below this it gains too little to be worth loading.
"""

MIN_NUMEL_PER_THREAD = 1 << 17
"""Waking another thread takes about as long as this many elements."""

_DTYPES = {"numba": (torch.float32, torch.bfloat16), "triton": (torch.float32, torch.bfloat16, torch.float16)}


@dataclass
class Job:
    """One scan.

    Attributes:
        neuron: name of the equation.
        x_seq, out: currents and spikes ``[T, B, ...]``.
        theta, dead_zone: a float, or a tensor that broadcasts against one step.
        channels, dead_zones: the same as ``[1]`` or ``[C]``; None where they vary along another axis.
        axis: channel axis of one step.
        scaled: spikes are worth ``theta``.
        pre: steps of SRP's phase 1, where both phases are in the sequence.
        mask, is_first: SRP's phases on their own: the first writes the mask, the second reads it.
        state: membrane (and count) of a run in pieces, written in place.
        resumed: the run goes on from ``state``.
        bits: of shifted-threshold IF whose weighted spikes are summed, ``out`` being ``[1, B, ...]``; 0 writes spikes.
    """

    neuron: str
    x_seq: Tensor
    out: Tensor
    theta: float | Tensor
    dead_zone: float | Tensor
    channels: Tensor | None
    dead_zones: Tensor | None
    axis: int
    scaled: bool
    pre: int = 0
    mask: Tensor | None = None
    is_first: bool = False
    state: list[Tensor] = field(default_factory=list)
    resumed: bool = False
    bits: int = 0


def run(job: Job, backend: str) -> None:
    """Write ``job.out``, by ``backend`` or by the one that ``"auto"`` stands for."""
    if not job.out.numel():
        return
    if backend == "auto":
        backend = _best(job)
    elif backend in _DTYPES:
        reason = _why_not(backend, job)
        if reason:
            raise ValueError(f"backend {backend!r} does not run this input: {reason}; use backend='auto'")
        if not _has(backend):
            raise ModuleNotFoundError(
                f"backend {backend!r} needs the {backend} package: pip install {backend}, or use backend='auto'"
            )
    _RUN[backend](job)


def _best(job: Job) -> str:
    if job.x_seq.is_cuda:
        return "triton" if _has("triton") and not _why_not("triton", job) else "eager"
    large = job.x_seq.numel() >= NUMBA_MIN_NUMEL
    return "numba" if large and not _why_not("numba", job) and _has("numba") else "eager"


def _why_not(backend: str, job: Job) -> str:
    """Why a kernel does not run a job; empty where it does."""
    device, kind = job.x_seq.device, "cpu" if backend == "numba" else "cuda"
    where = "the CPU" if backend == "numba" else "a GPU"
    interpreted = backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if not interpreted and {device.type, job.out.device.type} != {kind}:
        return f"it is on {device}, not on {where}"
    if job.x_seq.dtype not in _DTYPES[backend] or job.out.dtype not in _DTYPES[backend]:
        names = " and ".join(str(d).removeprefix("torch.") for d in _DTYPES[backend])
        return f"{job.x_seq.dtype} in and {job.out.dtype} out; it has {names}"
    if job.bits and backend == "numba" and job.out.dtype != torch.float32:
        return "weighted sums are float32 there"
    if job.channels is None:
        return "the threshold varies along more than the channel axis"
    if isinstance(job.theta, Tensor) and job.theta.device != device:
        return f"the threshold is on {job.theta.device}, not on {device}"
    return ""


@functools.cache
def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# --- plain PyTorch -----------------------------------------------------------------------------------------


def _run_eager(job: Job) -> None:
    x_seq, out, theta, scaled = job.x_seq, job.out, job.theta, job.scaled
    if job.neuron == "if":
        eager.if_scan(x_seq, out, theta, scaled, job.state, job.resumed)
    elif job.neuron == "signed_if":
        eager.signed_if_scan(x_seq, out, theta, job.dead_zone, scaled, job.state, job.resumed)
    elif job.mask is not None:
        eager.srp_phase(x_seq, out, job.mask, theta, job.dead_zone, scaled, job.is_first)
    elif job.neuron == "srp":
        eager.srp_scan(x_seq, out, theta, job.dead_zone, scaled, job.pre)
    elif job.bits:
        eager.shifted_threshold_total(x_seq, out[0], theta, job.bits)
    else:
        eager.shifted_threshold_scan(x_seq, out, theta, scaled)


def _run_inductor(job: Job) -> None:
    """The eager scan, compiled: once a shape, which takes seconds to a minute."""
    target = torch.empty_like(job.out)
    _compiled()(Job(**{**vars(job), "out": target}))
    job.out.copy_(target)


@functools.cache
def _compiled() -> Callable[[Job], None]:
    compiled: Callable[[Job], None] = torch.compile(_run_eager, dynamic=False)
    return compiled


# --- kernels on flat memory --------------------------------------------------------------------------------


@dataclass
class Flat:
    """A job as its kernel sees it: every step one block of memory, thresholds a table."""

    x: Tensor
    out: Tensor
    theta: Tensor
    amplitude: Tensor
    dead_zones: Tensor
    size: int
    x_stride: int
    inner: int


def flatten(job: Job) -> Flat:
    """Lay a job out; where its output lies otherwise, ``Flat.out`` is a buffer to copy from."""
    assert job.channels is not None
    assert job.dead_zones is not None
    x_seq = dense_steps(job.x_seq)
    out = job.out if same_layout(job.out, x_seq) else empty_steps(x_seq, len(job.out), job.out.dtype)
    theta = job.channels
    amplitude = theta if job.scaled else torch.ones_like(theta)
    amplitude = amplitude if amplitude.dtype == out.dtype else amplitude.to(out.dtype)
    inner = x_seq.stride()[1:][job.axis] if theta.numel() > 1 else 1
    dead_zones = job.dead_zones
    size = x_seq.numel() // len(x_seq)
    return Flat(x_seq, out, theta, amplitude, dead_zones, size, x_seq.stride(0), inner)


def _run_triton(job: Job) -> None:
    from . import triton_gpu

    flat_job = flatten(job)
    triton_gpu.run(job, flat_job)
    if flat_job.out is not job.out:
        job.out.copy_(flat_job.out)


def _run_numba(job: Job) -> None:
    from . import numba_cpu

    f = flatten(job)
    steps = len(job.x_seq)
    shape = (f.size, f.x_stride, f.theta.numel(), f.inner, _numpy(f.theta))
    amplitude, dead_zones = _numpy(f.amplitude), _numpy(f.dead_zones)
    states = [_numpy(flat(s.unsqueeze(0))) for s in job.state]
    how = (job.resumed, bool(states))
    nothing = np.empty(0, np.float32)
    kernel: Callable[..., None]
    args: tuple[Any, ...]
    if job.neuron == "if":
        kernel, args = numba_cpu.if_scan, (*(states or [nothing]), *how, steps, *shape, amplitude)
    elif job.neuron == "signed_if":
        kernel = numba_cpu.signed_if_scan
        args = (*(states or [nothing, nothing]), *how, steps, *shape, amplitude, dead_zones)
    elif job.mask is not None:
        kernel = numba_cpu.srp_phase
        args = (_numpy(flat(job.mask.unsqueeze(0))), job.is_first, steps, *shape, amplitude, dead_zones)
    elif job.neuron == "srp":
        kernel, args = numba_cpu.srp_scan, (steps, *shape, amplitude, dead_zones, job.pre)
    elif job.bits:
        weights = shifted_threshold_amplitudes(f.amplitude, job.bits)[0]
        kernel, args = numba_cpu.shifted_threshold_total, (steps, job.bits, *shape, _numpy(weights.float()))
    else:
        weights = shifted_threshold_amplitudes(f.amplitude, len(job.out))[0] if job.scaled else f.amplitude
        decay = np.float32(0.5 if job.scaled else 1.0)
        kernel = numba_cpu.shifted_threshold_scan
        args = (steps, len(job.out), *shape, _numpy(weights.float()), decay)
    # thresholds repeat from block to block where channels lie side by side: their tables are filled once
    channels = f.theta.numel()
    uniform = channels == 1 or (f.inner == 1 and channels <= numba_cpu.BLOCK)
    length = numba_cpu.BLOCK // channels * channels if uniform else numba_cpu.BLOCK
    blocks = -(-f.size // length)
    threads = max(1, min(torch.get_num_threads(), blocks, job.x_seq.numel() // MIN_NUMEL_PER_THREAD))
    _run_blocks(kernel, (_numpy(flat(f.x)), _numpy(flat(f.out)), *args, length, uniform), blocks, threads)
    if f.out is not job.out:
        job.out.copy_(f.out)


_RUN: dict[str, Callable[[Job], None]] = {
    "eager": _run_eager,
    "numba": _run_numba,
    "inductor": _run_inductor,
    "triton": _run_triton,
}


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
