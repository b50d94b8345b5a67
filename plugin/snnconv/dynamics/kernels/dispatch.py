"""One entry point for running a neuron over a whole sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..neuron import NEURONS, Neuron, get
from ..threshold import broadcast_channels, membrane_dtype
from . import eager, eager_functions  # noqa: F401 - registers its kernels
from .add_spikes import add_in_one_pass
from .backends import BACKENDS, Backend, Kernel, available, check_backend, has_kernel, kernel_of, resolved
from .job import KINDS, Job, Kind
from .layout import empty_steps, step_strides
from .thresholds import thresholds

__all__ = ["add_spikes_", "resume", "scan", "shifted_threshold_total", "srp_phase", "total", "two_phases"]


@torch.no_grad()
def scan(
    neuron: str,
    x_seq: Tensor,
    v_threshold: float | Tensor,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Run a neuron over a sequence from its start state, without gradient.

    The spikes equal those of its equation (`if_multistep`, `signed_if_multistep`, `srp_multistep`,
    `shifted_threshold_multistep`) bit for bit on every backend.

    Args:
        neuron: ``"if"``, ``"signed_if"``, ``"srp"``, ``"shifted_threshold"``, ``"ladder"``, ``"function_if"``, or one
            of your own (`snnconv.dynamics.neuron`).
        x_seq: input currents ``[T, B, ...]``, for ``"srp"`` ``tau + T`` steps; an expanded view is read in
            place.
        v_threshold: ``theta`` (for ``"shifted_threshold"`` the least significant bit ``q``); a float, one
            value per channel ``[C]``, or a tensor that broadcasts against one step.
        backend: ``"eager"``, ``"numba"`` (CPU, float32 and bfloat16), ``"triton"`` (GPU), ``"inductor"``
            (``torch.compile`` of the eager kernel, once a shape), one of your own
            (`snnconv.dynamics.kernels.backends`), or ``"auto"``: the one that gains most where it is installed and
            applies, else eager.
        scaled: emit ``theta * s`` (``theta_k * s``), else unit spikes.
        channel_axis: axis of one step ``[B, C, ...]`` that a threshold ``[C]`` runs along.
        dtype: dtype of the output; ``x_seq``'s by default. ``torch.int8`` with ``scaled=False`` gives -1, 0, 1.
        out: tensor to write to, of the output's shape; its dtype is the output's.
        options: the neuron's own: ``start`` of ``"if"``; ``eps`` of ``"signed_if"`` and ``"srp"``, a fraction of
            ``theta``, 1e-3 by default, and ``eps_absolute`` of ``"signed_if"``; ``pre_timesteps`` of ``"srp"``,
            ``tau``; ``timesteps`` of ``"shifted_threshold"`` and ``"ladder"``, their output steps, as many as ``x_seq``
            has by default; ``signed`` where values of both signs come in; ``function`` of ``"ladder"``,
            ``"shifted_threshold"`` and ``"function_if"``.

    Returns:
        ``[T, B, ...]``, steps in the memory format of ``x_seq``'s: where ``x_seq`` with time folded into the
        batch is channels-last, so is the output.

    Raises:
        ValueError: an unknown neuron, backend or option, an input without steps or of an integer dtype, a threshold
            that does not fit, a missing or too large ``pre_timesteps``, or an ``out`` of another shape.
        ModuleNotFoundError: a backend whose package is not installed.

    Example:
        >>> scan("if", torch.full((4, 1, 2), 0.5), torch.tensor([1.0, 2.0])).sum(0)
        tensor([[2., 2.]])
    """
    record = _checked(neuron, x_seq, backend)
    if record.coding == "sum" and options.get("timesteps") is None:
        options["timesteps"] = len(x_seq)
    settings = _settings(record, options, channel_axis)
    steps = int(settings["timesteps"]) if record.coding == "sum" else len(x_seq)
    pre = record.pre_phase
    if pre is not None and not 0 <= settings[pre.steps] < len(x_seq):
        raise ValueError(
            f"{pre.steps} is {settings[pre.steps]} and x_seq has {len(x_seq)} steps: "
            "it must be 0 or more and leave steps for the second phase"
        )
    wanted = dtype if out is None else out.dtype
    if wanted is not None and not wanted.is_floating_point and max(record.sizes(**settings)) > torch.iinfo(wanted).max:
        raise ValueError(f"spikes of {max(record.sizes(**settings)):g} do not fit into {wanted}: ask for a wider dtype")
    shape = (steps, *x_seq.shape[1:])
    if out is None:
        result = empty_steps(x_seq, steps, dtype or x_seq.dtype)
    elif out.shape != shape:
        raise ValueError(f"out has shape {tuple(out.shape)} but the spikes have shape {shape}")
    elif dtype is not None and out.dtype != dtype:
        raise ValueError(f"out is {out.dtype} but dtype={dtype} was asked for: pass one of the two")
    else:
        result = out
    job = _job(record, "scan", x_seq, result, v_threshold, channel_axis, scaled, settings)
    _run(job, *_chosen(job, backend))
    return result


@torch.no_grad()
def two_phases(
    neuron: str,
    x_seq: Tensor,
    v_threshold: float | Tensor,
    mask: Tensor | None = None,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Run one phase of a neuron with two: a network runs the first in all its layers before the second.

    Args:
        neuron: one whose first phase decides who may fire in the second, such as ``"srp"``.
        x_seq: input currents of the phase, ``[T, B, ...]``.
        v_threshold, backend, scaled, channel_axis, dtype, options: as in `scan`; the first phase's length is not asked
            for.
        mask: ``None`` for phase 1; for phase 2 what phase 1 returned.

    Returns:
        Spikes ``[T, B, ...]``, and the neurons ``[B, ...]`` that may fire in phase 2 (bool).

    Raises:
        ValueError: as `scan`, a neuron of one phase, or a mask of another shape than one step.
    """
    record = _checked(neuron, x_seq, backend)
    if record.pre_phase is None:
        raise ValueError(f"neuron {neuron!r} has one phase; {_those(lambda n: n.pre_phase is not None)} has two")
    if mask is not None and mask.shape != x_seq.shape[1:]:
        raise ValueError(f"mask has shape {tuple(mask.shape)} but a step has shape {tuple(x_seq.shape[1:])}")
    settings = _settings(record, {record.pre_phase.steps: len(x_seq), **options}, channel_axis)
    result = empty_steps(x_seq, len(x_seq), dtype or x_seq.dtype)
    allowed = empty_steps(x_seq, 1, torch.bool)[0]
    if mask is not None:
        allowed.copy_(mask)
    job = _job(record, "phase", x_seq, result, v_threshold, channel_axis, scaled, settings)
    job.mask, job.is_first = allowed, mask is None
    _run(job, *_chosen(job, backend))
    return result, allowed


def srp_phase(
    x_seq: Tensor, v_threshold: float | Tensor, mask: Tensor | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """`two_phases` of SRP-IF: the spikes of phase 1 and then of phase 2 equal `srp_multistep`'s bit for bit.

    Example:
        >>> first, mask = srp_phase(torch.tensor([[1.0, -0.5]]), 1.0)
        >>> srp_phase(torch.ones(2, 2), 1.0, mask)[0]
        tensor([[1., 0.],
                [1., 0.]])
    """
    return two_phases("srp", x_seq, v_threshold, mask, **options)


@torch.no_grad()
def resume(
    neuron: str,
    x_seq: Tensor,
    v_threshold: float | Tensor,
    state: Any,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    dtype: torch.dtype | None = None,
    in_place: bool = False,
    **options: Any,
) -> tuple[Tensor, Any]:
    """Run some steps of a sequence, going on from a state: as `scan`, some steps at a time.

    Args:
        neuron: one that steps on as its input comes in, in one phase, such as ``"if"`` and ``"signed_if"``.
        x_seq, v_threshold, backend, scaled, channel_axis, dtype, options: as in `scan`.
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
    record = _checked(neuron, x_seq, backend)
    if not record.resumable:
        raise ValueError(f"neuron {neuron!r} does not go on from a state: only {_those(lambda n: n.resumable)} do")
    settings = _settings(record, options, channel_axis)
    for value in state or ():
        if isinstance(value, Tensor) and value.shape != x_seq.shape[1:]:
            raise ValueError(f"a state {tuple(value.shape)} for steps {tuple(x_seq.shape[1:])}")
    result = empty_steps(x_seq, len(x_seq), dtype or x_seq.dtype)
    job = _job(record, "resume", x_seq, result, v_threshold, channel_axis, scaled, settings)
    job.resumed = state is not None
    found, kernel = _chosen(job, backend)
    if kernel is eager.equation:
        job.state = state
        if not result.numel() and state is None:
            job.state = record.initial(x_seq[0], job.thresholds.theta, **settings)
        _run(job, found, kernel)
        return result, job.state
    counts = [name in record.counters for name in record.state._fields]
    before = state or [0 if count else None for count in counts]
    job.state = [value if count else _own(value, x_seq, in_place) for value, count in zip(before, counts, strict=True)]
    _run(job, found, kernel)
    done = len(x_seq)
    return result, record.state(*[v + done if count else v for v, count in zip(job.state, counts, strict=True)])


def _own(value: Tensor | None, x_seq: Tensor, in_place: bool) -> Tensor:
    """A state tensor laid out as one step; the caller's own where that may be written over."""
    dtype = membrane_dtype(x_seq)
    if in_place and value is not None and value.dtype == dtype and value.stride() == step_strides(x_seq):
        return value
    tensor = empty_steps(x_seq, 1, dtype)[0]
    return tensor if value is None else tensor.copy_(value)


@torch.no_grad()
def total(
    neuron: str,
    x_seq: Tensor,
    v_threshold: float | Tensor,
    *,
    backend: str = "auto",
    scaled: bool = True,
    channel_axis: int = 1,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Tensor:
    """Sum of the weighted spikes of a sum-coded neuron, without the spikes, added in the order in which they come.

    Args:
        neuron: one that is sum coded, such as ``"shifted_threshold"``.
        x_seq: input currents ``[T, B, ...]``.
        v_threshold, backend, channel_axis, dtype: as in `scan`.
        scaled: what a spike is worth in the input's units, else in units of the threshold.
        options: as in `scan`; ``timesteps``, the number of spikes, must be given.

    Returns:
        ``[B, ...]`` in ``x_seq``'s dtype, or in ``dtype``.

    Raises:
        ValueError: as `scan`, or a rate-coded neuron.
    """
    record = _checked(neuron, x_seq, backend)
    if record.coding != "sum":
        raise ValueError(f"neuron {neuron!r} is rate coded; {_those(lambda n: n.coding == 'sum')} is sum coded")
    out = empty_steps(x_seq, 1, dtype or x_seq.dtype)
    settings = _settings(record, options, channel_axis)
    job = _job(record, "total", x_seq, out, v_threshold, channel_axis, scaled, settings)
    _run(job, *_chosen(job, backend))
    return out[0]


def shifted_threshold_total(x_seq: Tensor, v_threshold: float | Tensor, timesteps: int, **options: Any) -> Tensor:
    """`total` of shifted-threshold IF: ``sum_k q * 2^k * s_k``, the spikes those of `shifted_threshold_multistep`.

    Example:
        >>> shifted_threshold_total(torch.tensor([[5.2, -1.0, 99.0]]), 1.0, timesteps=3)
        tensor([5., 0., 7.])
    """
    return total("shifted_threshold", x_seq, v_threshold, timesteps=timesteps, **options)


@torch.no_grad()
def add_spikes_(
    x: Tensor, spikes: Tensor, amplitude: Tensor, *, backend: str = "auto", channel_axis: int = 1
) -> Tensor:
    """``x += spikes * amplitude``, in place.

    Args:
        x: currents ``[B, ...]``.
        spikes: whole numbers of the same shape, ``int8`` or ``uint8``.
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
    if spikes.shape != x.shape:
        raise ValueError(f"spikes have shape {tuple(spikes.shape)}, the currents {tuple(x.shape)}")
    worth = amplitude.reshape(-1)
    if not add_in_one_pass(x, spikes, worth, channel_axis, backend):
        fitted = broadcast_channels(worth if len(worth) > 1 else worth[0], x.ndim, channel_axis, x.shape[channel_axis])
        x.add_(spikes.to(x.dtype).mul_(fitted))
    return x


# --- which kernel ------------------------------------------------------------------------------------------


def _chosen(job: Job, name: str) -> tuple[Backend, Kernel]:
    """The backend of this name, or the one that ``"auto"`` stands for, and its kernel for a job or the equation."""
    name = resolved(name)
    chooses = name == "auto" or not job.out.numel()  # nothing to run is never refused
    backend = _best(job) if chooses else BACKENDS[name]
    if not chooses:
        neuron = job.neuron.name
        reason = backend.refusal(job)
        if not reason and not backend.runs_equations and not any(has_kernel(neuron, backend, k) for k in KINDS):
            reason = f"it has no kernel for the neuron {neuron!r}"
        if reason:
            raise ValueError(f"backend {name!r} does not run this input: {reason}; use backend='auto'")
        if not available(backend.package):
            package = backend.package
            raise ModuleNotFoundError(
                f"backend {name!r} needs the {package} package: pip install {package}, or use backend='auto'"
            )
    return backend, kernel_of(job.neuron.name, backend, job.kind) or eager.equation


def _best(job: Job) -> Backend:
    """The last backend registered that has a kernel for a job, gains by it and can run it."""
    device, size = job.x_seq.device.type, job.x_seq.numel()
    for backend in reversed(BACKENDS.values()):
        smallest = backend.smallest
        if smallest is None or size < smallest or (backend.devices and device not in backend.devices):
            continue
        if not (backend.runs_equations or has_kernel(job.neuron.name, backend, job.kind)):
            continue
        if not backend.refusal(job) and available(backend.package):
            return backend
    return BACKENDS["eager"]


def _run(job: Job, backend: Backend, kernel: Kernel) -> None:
    if job.out.numel():
        backend.run(kernel, job)


# --- checks ------------------------------------------------------------------------------------------------


def _checked(neuron: str, x_seq: Tensor, backend: str) -> Neuron:
    record = get(neuron)
    check_backend(backend)
    if x_seq.ndim < 2 or len(x_seq) == 0:
        raise ValueError(f"x_seq has shape {tuple(x_seq.shape)}: it needs a time axis with steps, [T, B, ...]")
    if not x_seq.is_floating_point():
        raise ValueError(f"x_seq is {x_seq.dtype}: input currents are floating point")
    return record


def _settings(record: Neuron, options: dict[str, Any], channel_axis: int) -> dict[str, Any]:
    """The neuron's settings; one that is the channel axis of its function is the thresholds' axis."""
    if record.has_channels:
        options = {**options, "channel_axis": channel_axis}
    return record.settings(options)


def _those(which: Any) -> str:
    return " and ".join(repr(name) for name, neuron in NEURONS.items() if which(neuron)) or "no neuron"


def _job(
    neuron: Neuron,
    kind: Kind,
    x_seq: Tensor,
    out: Tensor,
    v_threshold: float | Tensor,
    axis: int,
    scaled: bool,
    options: dict[str, Any],
) -> Job:
    x_seq = x_seq.detach()
    return Job(neuron, kind, x_seq, out, thresholds(v_threshold, x_seq, axis), axis, scaled, options)
