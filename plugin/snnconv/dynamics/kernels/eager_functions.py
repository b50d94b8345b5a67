"""Functions at the neuron in plain PyTorch, and what the compiled kernels of them share: targets and ladders."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..function_if import target
from ..integrate_fire import STARTS
from ..ladder_thresholds import Ladder, ladder_thresholds
from .backends import register_kernel
from .job import Job
from .layout import empty_steps
from .thresholds import Thresholds

__all__ = ["laddered", "targeted"]


def targeted(job: Job) -> Job:
    """A run on the sum as one on its targets ``t * f(A/t)``; the sum goes on in the job's state, spikes are left."""
    function, kept = job.options["function"], list(job.state or ())
    v = kept[0] if job.resumed else torch.zeros_like(job.x_seq[0], dtype=job.thresholds.dtype)
    done = int(kept[2]) if kept else 0
    y = empty_steps(job.x_seq, len(job.x_seq), job.thresholds.dtype)
    for t, (x, aim) in enumerate(zip(job.x_seq, y, strict=True), start=done + 1):
        v.add_(x)
        aim.copy_(target(function, v, t, job.axis))
    if kept and kept[0] is not v:
        kept[0].copy_(v)
    return replace(job, x_seq=y, state=kept[1:2])


def laddered(job: Job) -> tuple[Job, Ladder]:
    """The ladder of a job, on its device; thresholds are by channel where the function's parameters are."""
    options, theta = job.options, job.thresholds.theta
    ndim, dtype = job.x_seq.dim() - 1, job.thresholds.dtype
    bits, signed = options["timesteps"], options["signed"]
    ladder = ladder_thresholds(options["function"], theta, bits, signed, dtype, ndim, job.axis)
    lead, channels = ladder.values.shape[:-2], job.thresholds.channels
    if channels is not None and channels.numel() < lead.numel():
        spread = torch.as_tensor(theta, dtype=dtype, device=job.x_seq.device).expand(lead)
        job = replace(job, thresholds=Thresholds(spread, spread.reshape(-1), dtype))
    return job, ladder.to(job.x_seq.device)


# --- kernels -----------------------------------------------------------------------------------------------


def function_if_scan(job: Job) -> None:
    """Integrate-and-fire on the sum; sum, spikes and steps go to the state."""
    job, part = targeted(job), STARTS[job.options["start"]]
    theta, dead_zone = job.thresholds.theta, job.dead_zone().value
    n = job.state[0] if job.resumed else torch.zeros_like(job.x_seq[0])
    spike, border, negative = torch.empty_like(n), torch.empty_like(n), torch.empty_like(n)
    for y, emitted in zip(job.x_seq, job.out, strict=True):
        torch.ge(y, torch.add(n, 1 - part, out=border).mul_(theta), out=spike)
        if job.options["takes_back"]:
            torch.sub(n, part, out=border).mul_(theta)
            torch.lt(torch.add(y, dead_zone, out=negative), border, out=negative)
            if not job.options["signed"]:
                negative.mul_(torch.gt(n, 0, out=border))
            spike.sub_(negative)
        n.add_(spike)
        emitted.copy_(spike)
        if job.scaled:
            emitted.mul_(_worth(job))
    if job.state and job.state[0] is not n:
        job.state[0].copy_(n)


def ladder_scan(job: Job) -> None:
    """Sum the whole input, then send a bit a step."""
    job, ladder = laddered(job)
    bits = len(job.out)
    for k, spike, emitted in zip(range(bits - 1, -1, -1), ladder.bits(job.summed(), bits), job.out, strict=True):
        emitted.copy_(spike)
        if job.scaled:
            emitted.mul_(_worth(job) * 2.0**k)


def ladder_total(job: Job) -> None:
    """Sum the whole input, then write the sum of the weighted bits, the largest first."""
    job, ladder = laddered(job)
    z, bits = job.summed(), job.options["timesteps"]
    total = torch.zeros_like(z)
    for k, spike in zip(range(bits - 1, -1, -1), ladder.bits(z, bits), strict=True):
        total.add_(spike.mul_(job.thresholds.theta * 2.0**k if job.scaled else 2.0**k))
    job.out[0].copy_(total)


def _worth(job: Job) -> float | Tensor:
    """What a spike is worth, in the output's dtype."""
    theta = job.thresholds.theta
    return theta.to(job.out.dtype) if isinstance(theta, Tensor) else theta


register_kernel("function_if", "eager", function_if_scan, ("scan", "resume"))
register_kernel("ladder", "eager", ladder_scan)
register_kernel("ladder", "eager", ladder_total, ("total",))
