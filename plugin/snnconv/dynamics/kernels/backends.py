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
import torch.nn.functional as F
from torch import Tensor

from ..shifted import shifted_threshold_amplitudes
from . import eager
from .layout import dense_steps, empty_steps, flat, same_layout
from .levels import Levels

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
        levels: its threshold and dead zone.
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
    levels: Levels
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
    codes = backend == "numba" and job.out.dtype == (torch.uint8 if job.bits else torch.int8) and not job.scaled
    if job.x_seq.dtype not in _DTYPES[backend] or not (codes or job.out.dtype in _DTYPES[backend]):
        names = " and ".join(str(d).removeprefix("torch.") for d in _DTYPES[backend])
        return f"{job.x_seq.dtype} in and {job.out.dtype} out; it has {names}"
    if job.bits and backend == "numba" and job.out.dtype not in (torch.float32, torch.uint8):
        return "weighted sums are float32 or uint8 there"
    if job.levels.channels is None:
        return "the threshold varies along more than the channel axis"
    theta = job.levels.theta
    if isinstance(theta, Tensor) and theta.device != device:
        return f"the threshold is on {theta.device}, not on {device}"
    return ""


@functools.cache
def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# --- plain PyTorch -----------------------------------------------------------------------------------------


def _run_eager(job: Job) -> None:
    x_seq, out, theta, dead_zone, scaled = job.x_seq, job.out, job.levels.theta, job.levels.dead_zone, job.scaled
    if job.neuron == "if":
        eager.if_scan(x_seq, out, theta, scaled, job.state, job.resumed)
    elif job.neuron == "signed_if":
        eager.signed_if_scan(x_seq, out, theta, dead_zone, scaled, job.state, job.resumed)
    elif job.mask is not None:
        eager.srp_phase(x_seq, out, job.mask, theta, dead_zone, scaled, job.is_first)
    elif job.neuron == "srp":
        eager.srp_scan(x_seq, out, theta, dead_zone, scaled, job.pre)
    elif job.bits:
        eager.shifted_threshold_total(x_seq, out[0], theta, job.bits, scaled)
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
    """A job as its kernel sees it: every step one block of memory.

    Attributes:
        x, out: sequences; ``out`` is a buffer to copy from where the job's own lies otherwise.
        size: positions of a step.
        x_stride: from step to step of ``x``.
        channels, inner: the channel of a position is ``position // inner % channels``.
    """

    x: Tensor
    out: Tensor
    size: int
    x_stride: int
    channels: int
    inner: int


def flatten(job: Job) -> Flat:
    """Lay a job out."""
    assert job.levels.channels is not None
    x_seq = dense_steps(job.x_seq)
    out = job.out if same_layout(job.out, x_seq) else empty_steps(x_seq, job.out.shape[0], job.out.dtype)
    channels = job.levels.channels.numel()
    inner = x_seq.stride()[1:][job.axis] if channels > 1 else 1
    return Flat(x_seq, out, x_seq.numel() // x_seq.shape[0], x_seq.stride(0), channels, inner)


def tables(job: Job) -> tuple[Tensor, Tensor, Tensor]:
    """Thresholds, amplitudes and dead zones by channel; amplitudes in the output's dtype.

    Those of shifted-threshold IF are the first bit's, as float32.
    """
    theta, dead_zones = job.levels.channels, job.levels.dead_zones
    assert theta is not None
    assert dead_zones is not None
    dtype = job.out.dtype
    amplitude = theta.to(dtype) if job.scaled else torch.ones_like(theta, dtype=dtype)
    if job.neuron == "shifted_threshold":
        bits = job.bits or job.out.shape[0]
        worth = (theta if job.scaled else torch.ones_like(theta)) if job.bits else amplitude
        amplitude = shifted_threshold_amplitudes(worth, bits)[0] if job.scaled or job.bits else amplitude
        amplitude = amplitude.float()
    return theta, amplitude, dead_zones


def _run_triton(job: Job) -> None:
    from . import triton_gpu

    flat_job = flatten(job)
    triton_gpu.run(job, flat_job)
    if flat_job.out is not job.out:
        job.out.copy_(flat_job.out)


def _run_numba(job: Job) -> None:
    from . import numba_cpu

    f = flatten(job)
    steps = job.x_seq.shape[0]
    kept, key = (
        job.levels.kept,
        (job.scaled, job.out.dtype, job.bits, job.out.shape[0] * (job.neuron == "shifted_threshold")),
    )
    if key not in kept:
        kept[key] = tuple(map(_numpy, tables(job)))
    theta, amplitude, dead_zones = kept[key]
    shape = (f.size, f.x_stride, f.channels, f.inner, theta, amplitude)
    states = [_numpy(flat(s.unsqueeze(0))) for s in job.state]
    how = (job.resumed, bool(states))
    kernel: Callable[..., None]
    args: tuple[Any, ...]
    if job.neuron == "if":
        kernel, args = numba_cpu.if_scan, (*(states or _NOTHING[:1]), *how, steps, *shape)
    elif job.neuron == "signed_if":
        kernel, args = numba_cpu.signed_if_scan, (*(states or _NOTHING), *how, steps, *shape, dead_zones)
    elif job.mask is not None:
        kernel = numba_cpu.srp_phase
        args = (_numpy(flat(job.mask.unsqueeze(0))), job.is_first, steps, *shape, dead_zones)
    elif job.neuron == "srp":
        kernel, args = numba_cpu.srp_scan, (steps, *shape, dead_zones, job.pre)
    elif job.bits:
        kernel, args = numba_cpu.shifted_threshold_total(job.bits), (steps, *shape)
    else:
        decay = np.float32(0.5 if job.scaled else 1.0)
        kernel, args = numba_cpu.shifted_threshold_scan, (steps, job.out.shape[0], *shape, decay)
    length, uniform, blocks, threads = _shares(f, job.x_seq.numel())
    _run_blocks(kernel, (_numpy(flat(f.x)), _numpy(flat(f.out)), *args, length, uniform), blocks, threads)
    if f.out is not job.out:
        job.out.copy_(f.out)


def _shares(f: Flat, numel: int) -> tuple[int, bool, int, int]:
    """Positions of a block, whether every block has the same table, blocks, and threads that share them."""
    from . import numba_cpu

    # thresholds repeat from block to block where channels lie side by side: their tables are filled once
    uniform = f.channels == 1 or (f.inner == 1 and f.channels <= numba_cpu.BLOCK)
    length = numba_cpu.BLOCK // f.channels * f.channels if uniform else numba_cpu.BLOCK
    blocks = -(-f.size // length)
    return length, uniform, blocks, max(1, min(torch.get_num_threads(), blocks, numel // MIN_NUMEL_PER_THREAD))


def add_codes(x: Tensor, codes: Tensor, amplitude: Tensor, axis: int, backend: str) -> bool:
    """``x += codes * amplitude`` in one pass by numba; False where it does not apply."""
    fits = x.dtype == amplitude.dtype == torch.float32 and x.device.type == "cpu" and x.numel() >= NUMBA_MIN_NUMEL
    if backend not in ("auto", "numba") or not fits or not same_layout(codes.unsqueeze(0), x.unsqueeze(0)):
        return False
    if not _has("numba"):
        return False
    from . import numba_cpu

    channels = amplitude.numel()
    f = Flat(x, x, x.numel(), 0, channels, x.stride(axis) if channels > 1 else 1)
    length, uniform, blocks, threads = _shares(f, x.numel())
    tables = (f.channels, f.inner, _numpy(amplitude.contiguous()))
    arrays = (_numpy(flat(x.unsqueeze(0))), _numpy(flat(codes.unsqueeze(0))))
    _run_blocks(numba_cpu.add_codes, (*arrays, f.size, *tables, length, uniform), blocks, threads)
    return True


def pool_rows(
    x_seq: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
) -> Tensor | None:
    """`accumulated_max_pool` in one pass by numba; ``None`` where it does not apply."""
    if x_seq.dtype != torch.float32 or x_seq.device.type != "cpu" or x_seq.dim() != 5 or not x_seq.numel():
        return None
    folded = x_seq.flatten(0, 1)
    if x_seq.numel() < NUMBA_MIN_NUMEL or not folded.is_contiguous(memory_format=torch.channels_last):
        return None
    if not _has("numba"):
        return None
    from . import numba_cpu

    like = F.max_pool2d(folded[:1].to("meta"), kernel, stride, padding, dilation, ceil_mode)  # and it checks the window
    steps, batch, channels, height, width = x_seq.shape
    out_height, out_width = like.shape[2:]
    out = torch.empty(steps * batch, *like.shape[1:], memory_format=torch.channels_last)
    sizes = (steps, batch, height, width, channels, out_height, out_width, *kernel, *stride, *padding, *dilation)
    rows = batch * out_height
    threads = max(1, min(torch.get_num_threads(), rows, x_seq.numel() // MIN_NUMEL_PER_THREAD))
    flat_in, flat_out = (v.permute(0, 2, 3, 1).reshape(-1).numpy() for v in (folded.detach(), out))
    _run_blocks(numba_cpu.max_pool_scan, (flat_in, flat_out, *sizes), rows, threads)
    return out.unflatten(0, (steps, batch))


_NOTHING = (np.empty(0, np.float32), np.empty(0, np.float32))
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
    if threads == 1:
        kernel(*args, 0, blocks)
        return
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
