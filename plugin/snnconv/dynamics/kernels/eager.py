"""Multi-step scans in plain PyTorch: in place, for any device and dtype; and the equation itself, for every neuron.

Each kernel writes the output of its namesake in `snnconv.dynamics` into ``job.out``, bit for bit, and allocates
nothing per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..integrate_fire import STARTS
from ..multi_threshold import BORDER, SLACK
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
    worth = _worth(job)
    for step, (spike, emitted) in enumerate(zip(spikes, job.out, strict=True)):
        weight = 1.0 if neuron.weight is None else neuron.weight(step, **job.options)
        emitted.copy_(spike.to(job.out.dtype) * (worth * weight) if job.scaled else spike)


def _worth(job: Job) -> Tensor:
    """What a spike is worth, rounded to the output's dtype: codes of several bits are multiplied after that."""
    return torch.as_tensor(job.thresholds.theta, device=job.out.device).to(job.out.dtype)


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


# --- multi-threshold neurons -------------------------------------------------------------------------------


def multi_threshold_scan(job: Job) -> None:
    """Multi-threshold neurons with differential coding; states as in `if_scan`, and the steps before these."""
    _differential_steps(job, _power_spikes)


def hierarchical_multi_threshold_scan(job: Job) -> None:
    """The same of neurons that send every power of two at once."""
    _differential_steps(job, _hierarchical_spikes)


def _differential_steps(job: Job, rule: Callable[[Job, Tensor, Tensor, Tensor, Tensor, Tensor], None]) -> None:
    """Steps of neurons with differential coding, whose spikes ``rule(job, u, r, t, spike, scratch)`` writes."""
    *states, done = job.state or (0,)
    v, m, r = states if job.resumed else (_start(job, 0.0), _start(job, 0.0), _start(job, 0.0))
    q, ceiling = job.thresholds.theta, job.ceiling().value
    worth = _worth(job) if job.scaled else None
    capped = job.options["ceiling"] is not None or job.options["ceiling_absolute"] is not None
    u, spike, scratch = torch.empty_like(v), torch.empty_like(v), torch.empty_like(v)
    for step, (x, emitted) in enumerate(zip(job.x_seq, job.out, strict=True), start=done + 1):
        t = torch.full((), float(step), dtype=v.dtype, device=v.device)  # divided by, which a plain number is not
        v.add_(scratch.copy_(m).add_(x))
        m.add_(scratch.copy_(x).div_(t))
        torch.sub(v, r, out=u)
        if capped:
            torch.minimum(u, scratch.copy_(r).neg_().add_(ceiling).mul_(t), out=u)
        rule(job, u, r, t, spike, scratch)
        emitted.copy_(spike)
        if worth is not None:
            emitted.mul_(worth)
        spike.mul_(q)
        v.sub_(torch.add(r, spike, out=scratch))
        r.add_(spike.div_(t))
    _keep(states, v, m, r)


def _power_spikes(job: Job, u: Tensor, r: Tensor, t: Tensor, spike: Tensor, scratch: Tensor) -> None:
    """The largest power of two that fires, into ``spike``."""
    border = job.thresholds.fraction(BORDER).value
    spike.zero_()
    for k in range(job.options["thresholds"]):
        torch.ge(torch.abs(u, out=scratch), border * 2.0**k, out=scratch)
        spike.add_(scratch, alpha=2.0 ** (k - 1) if k else 1.0)
    spike.mul_(torch.sign(u, out=scratch))
    if not job.options["signed"]:
        torch.mul(spike, job.thresholds.theta, out=scratch).div_(t).add_(r)
        spike.mul_(torch.ge(scratch, 0, out=scratch))


def _hierarchical_spikes(job: Job, u: Tensor, r: Tensor, t: Tensor, spike: Tensor, scratch: Tensor) -> None:
    """Every power of two at once, into ``spike``."""
    q, most = job.thresholds.theta, 2.0 ** job.options["thresholds"] - 1
    if not isinstance(q, Tensor):
        q = torch.full((), q, dtype=u.dtype, device=u.device)
    torch.div(u, q, out=spike).add_(0.5).floor_().clamp_(-most, most)
    if not job.options["signed"]:
        torch.mul(r, t, out=scratch).div_(q).add_(SLACK).floor_().clamp_(min=0)
        torch.maximum(spike, scratch.neg_(), out=spike)


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
register_kernel("multi_threshold", "eager", multi_threshold_scan, ("scan", "resume"))
register_kernel("hierarchical_multi_threshold", "eager", hierarchical_multi_threshold_scan, ("scan", "resume"))
