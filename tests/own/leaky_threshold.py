"""A neuron whose threshold rises with each spike and leaks back, a kernel for it, and a method that uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnconv import methods
from snnconv.dynamics.kernels import Job, register_kernel
from snnconv.dynamics.neuron import Neuron, Option, register

RISE = 0.25


class LeakyThresholdState(NamedTuple):
    v: Tensor
    rise: Tensor  # how far the threshold stands above theta, in units of theta


def initial(x_like: Tensor, v_threshold: float | Tensor, leak: float) -> LeakyThresholdState:
    zeros = torch.zeros_like(x_like, dtype=torch.promote_types(x_like.dtype, torch.float32))
    return LeakyThresholdState(zeros + v_threshold * 0.5, zeros)


def step(
    x: Tensor,
    state: LeakyThresholdState,
    v_threshold: float | Tensor,
    *,
    leak: float,
    surrogate: Any = None,
    detach_reset: bool = False,
) -> tuple[Tensor, LeakyThresholdState]:
    v = state.v + x.to(state.v.dtype)
    above = v - v_threshold * (state.rise + 1)
    spike = surrogate(above) if surrogate is not None else (above >= 0).to(v.dtype)
    v = v - (spike.detach() if detach_reset else spike) * v_threshold
    return spike.to(x.dtype), LeakyThresholdState(v, state.rise * leak + spike.detach() * RISE)


def check_leak(leak: float) -> None:
    if not 0 <= leak < 1:
        raise ValueError(f"leak is {leak}: it is a factor a step, from 0 up to 1")


register(
    Neuron(
        name="leaky_threshold",
        state=LeakyThresholdState,
        initial=initial,
        step=step,
        options=(Option("leak", 0.5, check_leak, "what stays of the rise from step to step"),),
    )
)

RUNS: list[str] = []
"""What the kernel was asked."""


def in_place(job: Job) -> None:
    """The same without a new tensor a step."""
    RUNS.append(job.kind)
    theta, leak = job.thresholds.theta, job.options["leak"]
    start = initial(job.x_seq[0], theta, leak)
    v, rise = job.state if job.resumed else start
    above, spike = torch.empty_like(v), torch.empty_like(v)
    for x, out in zip(job.x_seq, job.out, strict=True):
        v += x
        torch.add(rise, 1, out=above)
        above.mul_(theta)
        torch.ge(torch.sub(v, above, out=above), 0, out=spike)
        v -= spike * theta
        rise.mul_(leak).add_(spike, alpha=RISE)
        out.copy_(spike * theta if job.scaled else spike)
    for kept, last in zip(job.state, (v, rise), strict=False):
        if kept is not last:
            kept.copy_(last)


register_kernel("leaky_threshold", "eager", in_place, ("scan", "resume"))


@methods.register
@dataclass(frozen=True)
class LeakyThreshold(methods.Method):
    name = "leaky_threshold"
    neuron = "leaky_threshold"
    leak: float = field(default=0.5, kw_only=True)

    @property
    def neuron_options(self) -> dict[str, Any]:
        return {"leak": self.leak}
