"""What may run a neuron: one record each, and which kernels they have."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from snnconv.tables import add, unknown

from .job import KINDS, Job, Kind

__all__ = [
    "BACKENDS", "Backend", "Kernel", "auto_is", "available", "check_backend", "kernel_of", "numba_runs",
    "register_backend", "register_kernel", "resolved",
]  # fmt: skip

Kernel = Callable[[Job], None]
"""Writes ``job.out``, and the state or mask of a job that has one."""

NUMBA_MIN_NUMEL = 1 << 14
"""Elements of ``x_seq`` from which ``backend="auto"`` chooses numba on the CPU.

Once loaded numba is no slower at any size; below this it gains too little to be worth loading.
"""


def _fits(job: Job) -> str:
    return ""


def _call(kernel: Kernel, job: Job) -> None:
    kernel(job)


@dataclass(frozen=True)
class Backend:
    """One way to run kernels.

    Attributes:
        name: the word for it.
        devices: types of the devices it runs on; empty: any.
        dtypes: of input and output; empty: any.
        package: what must be installed for it; empty: nothing.
        smallest: elements of ``x_seq`` from which ``"auto"`` takes it; None: only where it is asked for.
        why_not: why it does not run a job, in a few words; empty where it does.
        run: ``run(kernel, job)``.
        kernels: the backend whose kernels it runs; empty: its own.
        runs_equations: it runs a neuron that it has no kernel for by the neuron's equation.
    """

    name: str
    devices: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()
    package: str = ""
    smallest: int | None = None
    why_not: Callable[[Job], str] = _fits
    run: Callable[[Kernel, Job], None] = _call
    kernels: str = ""
    runs_equations: bool = False

    def refusal(self, job: Job) -> str:
        """Why it does not run a job; empty where it does."""
        device, here = job.x_seq.device, self.devices
        if here and not (device.type in here and job.out.device.type in here):
            return f"it is on {device}, not on {' or '.join(map(_place, here))}"
        if self.dtypes and not (job.x_seq.dtype in self.dtypes and job.out.dtype in self.dtypes):
            names = ", ".join(str(d).removeprefix("torch.") for d in self.dtypes)
            return f"{job.x_seq.dtype} in and {job.out.dtype} out; it has {names}"
        return self.why_not(job)


def _place(device: str) -> str:
    return {"cpu": "the CPU", "cuda": "a GPU"}.get(device, device)


# --- the tables --------------------------------------------------------------------------------------------

BACKENDS: dict[str, Backend] = {}
"""Every backend by its name; ``"auto"`` asks the last one first."""

_KERNELS: dict[tuple[str, str, Kind], Kernel | str] = {}
"""Neuron, backend and what is asked → its kernel, or where that is: imported when it is first wanted."""


def register_backend(backend: Backend, *, replace: bool = False) -> Backend:
    """Make a backend known by its name; returns it.

    Args:
        replace: take the place of another backend of this name.

    Raises:
        ValueError: the name is another backend's, or ``"auto"``.
    """
    if backend.name == "auto":
        raise ValueError("'auto' stands for the backend that gains most: choose another name")
    return add(BACKENDS, backend.name, backend, "backend", replace=replace)


def register_kernel(
    neuron: str, backend: str, kernel: Kernel | str, kinds: Sequence[Kind] = ("scan",), *, replace: bool = False
) -> None:
    """Let a backend run a neuron by a kernel.

    What the kernel is not registered for runs by the neuron's equation.

    Args:
        neuron, backend: their names; either may be registered later.
        kernel: a function of a `Job`, or where it is, ``"package.module:function"``. It writes what the equation
            gives, bit for bit.
        kinds: what it answers: ``"scan"``, ``"resume"``, ``"phase"``, ``"total"``.
        replace: take the place of another kernel.

    Raises:
        ValueError: an unknown kind, or there is a kernel already.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"a kernel does not answer {kind!r}; it answers {', '.join(KINDS)}")
        key = (neuron, backend, kind)
        if not replace and _KERNELS.get(key, kernel) != kernel:
            raise ValueError(f"there is a {backend} kernel for {neuron!r} already: pass replace=True")
        _KERNELS[key] = kernel


def kernel_of(neuron: str, backend: Backend, kind: Kind) -> Kernel | None:
    """The kernel of a backend, imported where it was only named; None where it has none."""
    key = (neuron, backend.kernels or backend.name, kind)
    found = _KERNELS.get(key)
    if isinstance(found, str):
        module, _, name = found.partition(":")
        found = getattr(importlib.import_module(module), name)
        _KERNELS[key] = found
    return found


def has_kernel(neuron: str, backend: Backend, kind: Kind) -> bool:
    """Whether a backend has a kernel for a neuron and what is asked, without importing it."""
    return (neuron, backend.kernels or backend.name, kind) in _KERNELS


def check_backend(name: str) -> None:
    """Refuse an unknown backend.

    Raises:
        ValueError: lists the known ones.

    Example:
        >>> check_backend("cuda")
        Traceback (most recent call last):
        ...
        ValueError: unknown backend 'cuda'; known: auto, eager, ...
    """
    if name != "auto" and name not in BACKENDS:
        raise unknown(name, ("auto", *BACKENDS), "backend")


_AUTO: ContextVar[str] = ContextVar("auto", default="auto")


@contextmanager
def auto_is(name: str) -> Iterator[None]:
    """Let ``backend="auto"`` stand for one backend in a block, in the thread that runs it.

    Where little is computed, compiling a backend's kernels for the first time takes longer than all the work.

    Raises:
        ValueError: an unknown backend.

    Example:
        >>> with auto_is("eager"):
        ...     resolved("auto"), resolved("numba")
        ('eager', 'numba')
    """
    check_backend(name)
    token = _AUTO.set(name)
    try:
        yield
    finally:
        _AUTO.reset(token)


def resolved(name: str) -> str:
    """A backend's name, or what ``"auto"`` stands for here: itself, unless a block of `auto_is` names one."""
    return _AUTO.get() if name == "auto" else name


def numba_runs(backend: str, numel: int) -> bool:
    """Whether numba computes so many elements: it is asked for or may be chosen, gains by it, and is installed."""
    return numel >= NUMBA_MIN_NUMEL and resolved(backend) in ("auto", "numba") and available("numba")


@functools.cache
def available(package: str) -> bool:
    """Whether a package is installed; "" always is."""
    return not package or importlib.util.find_spec(package) is not None


# --- the records -------------------------------------------------------------------------------------------


def _not_by_channel(job: Job) -> str:
    if job.thresholds.channels is None:
        return "the threshold varies along more than the channel axis"
    theta = job.thresholds.theta
    if isinstance(theta, Tensor) and theta.device != job.x_seq.device:
        return f"the threshold is on {theta.device}, not on {job.x_seq.device}"
    return ""


def _not_by_numba(job: Job) -> str:
    if job.kind == "total" and job.out.dtype not in (torch.float32, torch.uint8, torch.int8):
        return "weighted sums are float32 or bytes there"
    if not job.out.dtype.is_floating_point:
        if job.scaled:
            return "whole numbers come out unscaled only"
        if job.out.dtype != (torch.uint8 if job.kind == "total" and not job.negative else torch.int8):
            return "spikes and sums of both signs are int8 there, sums of one sign uint8"
    return _not_by_channel(job)


def _not_by_inductor(job: Job) -> str:
    if job.options.get("function") is not None:
        return "a function at the neuron is float64, whose last bit a compiler may change"
    return ""


@functools.cache
def _compiled(kernel: Kernel) -> Kernel:
    compiled: Kernel = torch.compile(kernel, dynamic=False)
    return compiled


def _run_compiled(kernel: Kernel, job: Job) -> None:
    """Compile the kernel: once a shape, which takes seconds to a minute."""
    target = torch.empty_like(job.out)
    compiled = Job(**{**vars(job), "out": target})
    _compiled(kernel)(compiled)
    job.state = compiled.state
    job.out.copy_(target)


_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton's own switch: kernels run on the CPU, slowly, to be tested there."""

register_backend(Backend("eager", smallest=0, runs_equations=True))
register_backend(
    Backend(
        "numba",
        devices=("cpu",),
        dtypes=(torch.float32, torch.bfloat16, torch.int8, torch.uint8),
        package="numba",
        smallest=NUMBA_MIN_NUMEL,
        why_not=_not_by_numba,
    )
)
register_backend(Backend("inductor", why_not=_not_by_inductor, run=_run_compiled, kernels="eager", runs_equations=True))
register_backend(
    Backend(
        "triton",
        devices=("cpu", "cuda") if _INTERPRETED else ("cuda",),
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
        package="triton",
        smallest=None if _INTERPRETED else 0,
        why_not=_not_by_channel,
    )
)

_FILES: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "if": ("integrate_fire", ("scan", "resume")),
    "signed_if": ("signed", ("scan", "resume")),
    "srp": ("srp", ("scan", "phase")),
    "shifted_threshold": ("shifted", ("scan", "total")),
    "ladder": ("ladder", ("scan", "total")),
    "function_if": ("function_if", ("scan", "resume")),
    "multi_threshold": ("multi_threshold", ("scan", "resume")),
    "hierarchical_multi_threshold": ("hierarchical_multi_threshold", ("scan", "resume")),
}
for _backend, _package in (("numba", "numba_cpu"), ("triton", "triton_gpu")):
    for _neuron, (_file, _kinds) in _FILES.items():
        for _kind in _kinds:
            register_kernel(_neuron, _backend, f"{__package__}.{_package}.{_file}:{_kind}", (_kind,))
