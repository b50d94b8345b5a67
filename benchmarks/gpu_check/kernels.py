"""Part 1: every kernel gives the spikes of the reference, bit for bit, and the same ones every time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from snnconv import dynamics
from snnconv.dynamics.kernels.backends import BACKENDS, available, has_kernel
from snnconv.dynamics.kernels.job import KINDS
from snnconv.dynamics.neuron import NEURONS, REQUIRED, Neuron

from .record import Case, Failed, Setting

__all__ = ["cases"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES: tuple[tuple[int, tuple[int, ...], int | None, str], ...] = (
    # steps, one step, axis of the thresholds (None: one for all), how it lies in memory
    (4, (3, 5), None, "contiguous"),
    (1, (2, 1500), 1, "contiguous"),
    (16, (2, 16, 8, 8), 1, "channels last"),
    (7, (2, 7, 5, 3), -1, "contiguous"),
    (5, (3, 33, 4), 1, "constant"),
    (9, (2, 7, 11, 13), 2, "strided"),
)
LARGE = (17, 2**27)
"""Steps and positions of a sequence with more values than 32 bits count."""
LARGE_SMALL = (3, 2**10)
RACES = ((8, (8, 64, 56, 56)), (4, (2, 6, 5, 5)))
"""Steps and shape of the runs that are repeated; in small."""


def cases(setting: Setting) -> list[Case]:
    """Every neuron that is registered, what may be asked of it, every dtype."""
    found = []
    for dtype in DTYPES:
        for name, neuron in NEURONS.items():
            for kind in KINDS:
                if _answers(neuron, kind) and not _truncated(setting, neuron, kind, dtype):
                    label = f"{name}, {kind}, {str(dtype).removeprefix('torch.')}"
                    found.append(Case(label, partial(_compare, setting, neuron, kind, dtype)))
    found += [Case(f"{name}, three runs", partial(_repeat, setting, neuron)) for name, neuron in NEURONS.items()]
    found.append(Case("more values than 32 bits count", partial(_large, setting)))
    return found


def _answers(neuron: Neuron, kind: str) -> bool:
    return {
        "scan": True,
        "resume": neuron.resumable,
        "phase": neuron.pre_phase is not None,
        "total": neuron.coding == "sum",
    }[kind]


def _truncated(setting: Setting, neuron: Neuron, kind: str, dtype: torch.dtype) -> bool:
    """Triton's interpreter cuts to bfloat16 what the GPU rounds: a sum, or a spike of several powers of two."""
    several = kind == "total" or neuron.pulses is not None
    return not setting.device.cuda and several and dtype == torch.bfloat16


def backend_of(setting: Setting, neuron: Neuron, kind: Any) -> str:
    """Triton where it runs and the neuron has such a kernel, else what ``"auto"`` takes there."""
    triton = BACKENDS["triton"]
    runs = setting.device.kind in triton.devices and available(triton.package)
    return triton.name if runs and has_kernel(neuron.name, triton, kind) else "auto"


class Turning:
    """z² + z: a function at a neuron, with one extremum and values of both signs."""

    extrema, signed, linear = (-0.5,), True, False

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        return z * (z + 1)


def options_of(neuron: Neuron, steps: int) -> dict[str, Any]:
    """Settings of a neuron for a sequence of ``steps``.

    Raises:
        Failed: it needs one that is not known here.
    """
    known: dict[str, Any] = {"timesteps": min(steps, 8)}
    if any(option.name == "function" and option.default is REQUIRED for option in neuron.options):
        known |= {"function": Turning(), "signed": True}
    if neuron.pre_phase is not None:
        known[neuron.pre_phase.steps] = steps // 3
    names = {option.name for option in neuron.options}
    for option in neuron.options:
        if option.default is REQUIRED and option.name not in known:
            raise Failed(f"neuron {neuron.name!r} needs {option.name}: give it a value in options_of")
    return {name: value for name, value in known.items() if name in names}


def sequence(steps: int, shape: tuple[int, ...], layout: str, ties: bool, seed: int) -> Tensor:
    """Currents ``[T, B, ...]`` on the CPU; ``ties``: coarse ones, so that potentials often equal a threshold."""
    generator = torch.Generator().manual_seed(seed)
    x_seq = torch.randn(steps, *shape, generator=generator)
    if ties:
        x_seq = (x_seq * 4).round() / 8
    return x_seq[:1].expand(x_seq.shape) if layout == "constant" else x_seq


def laid_out(x_seq: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "channels last":
        return x_seq.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x_seq.shape[:2])
    return torch.stack([x_seq, x_seq], dim=-1)[..., 0] if layout == "strided" else x_seq


def _compare(setting: Setting, neuron: Neuron, kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """Against the plain PyTorch kernel on the CPU, which the tests hold to the equations."""
    values = 0
    ask, backend = ASK[kind], backend_of(setting, neuron, kind)
    for number, (steps, shape, axis, layout) in enumerate(SHAPES):
        if neuron.pre_phase is not None and kind == "phase" and steps < 2:
            continue
        ties = number % 2 == 0
        x_seq = sequence(steps, shape, layout, ties, number).to(dtype)
        if layout == "constant":
            x_seq = x_seq[:1].expand(x_seq.shape)
        theta: Tensor | float = 0.25
        if axis is not None:
            theta = torch.rand(shape[axis], generator=torch.Generator().manual_seed(number)) + 0.1
            theta = (theta * 4).ceil() / 4 if ties else theta
        if neuron.coding == "sum":
            theta = theta / 2 ** min(steps, 8)
        how = {"channel_axis": 1 if axis is None else axis, "scaled": number % 3 != 0, **options_of(neuron, steps)}
        expected = ask(neuron, x_seq, theta, backend="eager", **how)
        x_there = laid_out(x_seq.to(setting.device.kind), layout)
        if layout == "constant":
            x_there = x_there[:1].expand(x_there.shape)
        theta_there = theta.to(setting.device.kind) if isinstance(theta, Tensor) else theta
        got = ask(neuron, x_there, theta_there, backend=backend, **how)
        for a, b in zip(expected, got, strict=True):
            values += a.numel()
            wrong = int((a != b.cpu()).sum())
            if wrong or a.dtype != b.dtype:
                where = f"T = {steps}, {shape}, thresholds along {axis}, {layout}"
                raise Failed(f"{wrong} of {a.numel()} values differ ({where})", backend=backend)
    return {"equal_values": values, "backend": backend}


def _scan(neuron: Neuron, x_seq: Tensor, theta: Any, **how: Any) -> list[Tensor]:
    return [dynamics.scan(neuron.name, x_seq, theta, **how)]


def _resume(neuron: Neuron, x_seq: Tensor, theta: Any, **how: Any) -> list[Tensor]:
    state, found = None, []
    for part in x_seq.split(3):
        spikes, state = dynamics.resume(neuron.name, part, theta, state, **how)
        found.append(spikes)
    return found + [value for value in state or () if isinstance(value, Tensor)]


def _phase(neuron: Neuron, x_seq: Tensor, theta: Any, **how: Any) -> list[Tensor]:
    assert neuron.pre_phase is not None
    pre = how.pop(neuron.pre_phase.steps) or 1
    first, mask = dynamics.two_phases(neuron.name, x_seq[:pre], theta, **how)
    second, _ = dynamics.two_phases(neuron.name, x_seq[pre:], theta, mask, **how)
    return [first, mask, second]


def _total(neuron: Neuron, x_seq: Tensor, theta: Any, **how: Any) -> list[Tensor]:
    return [dynamics.total(neuron.name, x_seq, theta, **how)]


ASK: dict[str, Callable[..., list[Tensor]]] = {"scan": _scan, "resume": _resume, "phase": _phase, "total": _total}


def _repeat(setting: Setting, neuron: Neuron) -> dict[str, Any]:
    """Three runs of one large input: where threads race, bits differ."""
    steps, shape = RACES[setting.small]
    x_seq = sequence(steps, shape, "contiguous", False, 0).to(setting.device.kind)
    theta = torch.rand(shape[1], generator=torch.Generator().manual_seed(0)).to(setting.device.kind) + 0.1
    how = {"backend": backend_of(setting, neuron, "scan"), **options_of(neuron, steps)}
    first, *others = [dynamics.scan(neuron.name, x_seq, theta, **how) for _ in range(3)]
    if not all(torch.equal(first, other) for other in others):
        raise Failed("three runs of the same input differ")
    return {"same_bits": True, "values": first.numel()}


def _large(setting: Setting) -> dict[str, Any]:
    """Positions are independent, so that the last ones alone tell whether addresses overflow."""
    steps, size = LARGE_SMALL if setting.small else LARGE
    x_seq = torch.empty(steps, 1, size, dtype=torch.bfloat16, device=setting.device.kind).normal_()
    backend = backend_of(setting, NEURONS["if"], "scan")
    got = dynamics.scan("if", x_seq, 0.5, backend=backend)[..., -500:]
    expected = dynamics.scan("if", x_seq[..., -500:].cpu(), 0.5, backend="eager")
    wrong = int((got.cpu() != expected).sum())
    if wrong:
        raise Failed(f"{wrong} of {expected.numel()} values at the end differ")
    return {"values": x_seq.numel(), "same_bits": True}
