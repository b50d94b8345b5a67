"""A backend that lays the positions of a step side by side, and a kernel with which it runs integrate-and-fire."""

from __future__ import annotations

import torch

from snnconv.dynamics.kernels import Backend, Job, register_backend, register_kernel

RUNS: list[int] = []
"""Elements of each job that it ran."""


def why_not(job: Job) -> str:
    return "" if job.thresholds.channels is not None else "it takes one threshold a channel"


register_backend(Backend("side_by_side", devices=("cpu",), dtypes=(torch.float32,), smallest=64, why_not=why_not))


def integrate_fire(job: Job) -> None:
    RUNS.append(job.x_seq.numel())
    theta = torch.as_tensor(job.thresholds.theta).expand(job.x_seq.shape[1:]).reshape(-1)
    v = theta * 0.5
    for x, out in zip(job.x_seq.reshape(len(job.x_seq), -1), job.out, strict=True):
        v = v + x
        fired = v >= theta
        v = torch.where(fired, v - theta, v)
        out.copy_((fired * theta if job.scaled else fired).reshape(out.shape))


register_kernel("if", "side_by_side", integrate_fire)
