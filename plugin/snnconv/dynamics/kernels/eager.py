"""Multi-step scans in plain PyTorch: in place, for any device and dtype; and the equation itself, for every neuron.

Each kernel writes the output of its namesake in `snnconv.dynamics` into ``job.out``, bit for bit, and allocates
nothing per step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..integrate_fire import STARTS
from .backends import register_kernel
from .job import Job

__all__ = ["equation"]


# --- every neuron ------------------------------------------------------------------------------------------


def equation(job: Job) -> None:
    """Run a job by the neuron's own equation; of a ``"resume"``, ``job.state`` is the state before and then after."""
    neuron, theta, pre = job.neuron, job.thresholds.theta, job.neuron.pre_phase
    if job.kind == "phase":
        assert pre is not None
        assert job.mask is not None
        spikes, state = pre.neuron.sequence(job.x_seq, theta, **pre.options(job.options))
        if job.is_first:
            job.mask.copy_(pre.allowed(state, theta, **job.options))
        else:
            spikes = spikes * job.mask
    else:
        before = job.state if job.resumed else None
        spikes, after = neuron.sequence(job.x_seq, theta, before, **job.options)
        if job.kind == "resume":
            job.state = after
    if job.kind == "total":
        _write_total(job, spikes)
        return
    worth = theta.to(job.out.dtype) if isinstance(theta, Tensor) else theta
    for step, (spike, emitted) in enumerate(zip(spikes, job.out, strict=True)):
        weight = 1.0 if neuron.weight is None else neuron.weight(step, **job.options)
        emitted.copy_(spike.to(job.out.dtype) * (worth * weight) if job.scaled else spike)


def _write_total(job: Job, spikes: Tensor) -> None:
    total = torch.zeros_like(job.x_seq[0], dtype=job.thresholds.dtype)
    weight = job.neuron.weight
    for step, spike in enumerate(spikes):
        worth = (job.thresholds.theta if job.scaled else 1.0) * (1.0 if weight is None else weight(step, **job.options))
        total += spike.to(total.dtype) * worth
    job.out[0].copy_(total)


# --- integrate-and-fire, signed and in two phases ----------------------------------------------------------


def if_scan(job: Job) -> None:
    """Integrate-and-fire; the last potential goes to the state, where a resumed run starts."""
    v = job.state[0] if job.resumed else _start(job, STARTS[job.options["start"]])
    _if_steps(job, v)
    _keep(job.state, v)


def srp_scan(job: Job) -> None:
    """SRP-IF, both phases in one sequence."""
    pre, v = job.options["pre_timesteps"], _start(job)
    _if_steps(job, v, last=pre)
    mask = v > job.fraction("eps").value if pre else None
    _if_steps(job, _start(job), first=pre)
    if mask is not None:
        job.out[pre:].mul_(mask)


def srp_phase(job: Job) -> None:
    """One phase of SRP-IF; the first writes the mask, the second reads it."""
    assert job.mask is not None
    v = _start(job)
    _if_steps(job, v)
    if job.is_first:
        torch.gt(v, job.fraction("eps").value, out=job.mask)
    else:
        job.out.mul_(job.mask)


def _if_steps(job: Job, v: Tensor, first: int = 0, last: int | None = None) -> None:
    theta, out = job.thresholds.theta, job.out[first:last]
    scratch = None if out.dtype == v.dtype else torch.empty_like(v)
    for x, emitted in zip(job.x_seq[first:last], out, strict=True):
        spike = emitted if scratch is None else scratch
        v.add_(x)
        torch.ge(v, theta, out=spike)
        _subtract(v, spike, theta)
        _emit(emitted, spike, theta, job.scaled)


def signed_if_scan(job: Job) -> None:
    """Signed integrate-and-fire; states as in `if_scan`."""
    out, theta, dead_zone = job.out, job.thresholds.theta, job.dead_zone().value
    v = job.state[0] if job.resumed else _start(job)
    n = job.state[1] if job.resumed else torch.zeros_like(v)
    negative, gate = torch.empty_like(v), torch.empty_like(v)
    scratch = None if out.dtype == v.dtype else torch.empty_like(v)
    for x, emitted in zip(job.x_seq, out, strict=True):
        spike = emitted if scratch is None else scratch
        v.add_(x)
        torch.ge(v, theta, out=spike)
        _subtract(v, spike, theta)
        torch.add(v, dead_zone, out=negative)
        torch.lt(negative, 0, out=negative)
        if not job.options["signed"]:
            torch.gt(n, 0, out=gate)
            negative.mul_(gate)
        spike.sub_(negative)
        n.add_(spike)
        _subtract(v, negative.neg_(), theta)
        _emit(emitted, spike, theta, job.scaled)
    _keep(job.state, v, n)


# --- shifted-threshold integrate-and-fire ------------------------------------------------------------------


def shifted_threshold_scan(job: Job) -> None:
    """Sum the whole input, then fire one bit a step."""
    v, lsb = _summed(job)
    scratch = None if job.out.dtype == v.dtype else torch.empty_like(v)
    negative = torch.empty_like(v) if job.negative else None
    for k, emitted in zip(range(len(job.out) - 1, -1, -1), job.out, strict=True):
        spike = emitted if scratch is None else scratch
        theta = lsb * 2.0**k
        torch.ge(v, theta, out=spike)
        if negative is not None:
            spike.sub_(torch.lt(v, _lowest(lsb, k, v), out=negative))
        _subtract(v, spike, theta)
        _emit(emitted, spike, theta, job.scaled)


def shifted_threshold_total(job: Job) -> None:
    """Sum the whole input, then write the sum of the weighted spikes, the largest first."""
    v, lsb = _summed(job)
    out = job.out[0]
    spike = torch.empty_like(v)
    negative = torch.empty_like(v) if job.negative else None
    total = out.zero_() if out.dtype == v.dtype else torch.zeros_like(v)
    for k in range(job.options["timesteps"] - 1, -1, -1):
        theta = lsb * 2.0**k
        torch.ge(v, theta, out=spike)
        if negative is not None:
            spike.sub_(torch.lt(v, _lowest(lsb, k, v), out=negative))
        if not job.scaled:
            total.add_(spike, alpha=2.0**k)
        spike.mul_(theta)
        v.sub_(spike)
        if job.scaled:
            total.add_(spike)
    if total is not out:
        out.copy_(total)


def _summed(job: Job) -> tuple[Tensor, float | Tensor]:
    """The membrane that has taken in its whole input, or is its function, and the least significant bit."""
    job = job.evaluated()
    v = torch.zeros_like(job.x_seq[0], dtype=job.thresholds.dtype)
    for x in job.x_seq:
        v.add_(x)
    return v.add_(job.thresholds.fraction(0.5).value), job.thresholds.theta


def _lowest(lsb: float | Tensor, k: int, v: Tensor) -> Tensor:
    """``q - q * 2^k``, below which a bit is -1, rounded once, in the membrane's dtype."""
    q = torch.as_tensor(lsb, dtype=v.dtype, device=v.device)
    return q - q * 2.0**k


# --- steps -------------------------------------------------------------------------------------------------


def _start(job: Job, part: float = STARTS["half"]) -> Tensor:
    """The part of the threshold at which the membrane begins."""
    v = torch.zeros_like(job.x_seq[0], dtype=job.thresholds.dtype)
    return v.add_(job.thresholds.fraction(part).value) if part else v


def _keep(state: Sequence[Tensor], *last: Tensor) -> None:
    for kept, value in zip(state, last, strict=False):
        if kept is not value:
            kept.copy_(value)


def _subtract(v: Tensor, spike: Tensor, theta: float | Tensor) -> None:
    if isinstance(theta, Tensor):
        v.addcmul_(spike, theta, value=-1)
    else:
        v.sub_(spike, alpha=theta)


def _emit(emitted: Tensor, spike: Tensor, theta: float | Tensor, scaled: bool) -> None:
    if scaled:
        torch.mul(spike, theta, out=emitted)
    elif emitted is not spike:
        emitted.copy_(spike)


register_kernel("if", "eager", if_scan, ("scan", "resume"))
register_kernel("signed_if", "eager", signed_if_scan, ("scan", "resume"))
register_kernel("srp", "eager", srp_scan)
register_kernel("srp", "eager", srp_phase, ("phase",))
register_kernel("shifted_threshold", "eager", shifted_threshold_scan)
register_kernel("shifted_threshold", "eager", shifted_threshold_total, ("total",))
