"""What a kernel is given: one job, and how its sequence and its thresholds lie in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..function import evaluate
from ..neuron import Neuron
from .layout import dense_steps, empty_steps, same_layout
from .thresholds import Fraction, Thresholds

__all__ = ["KINDS", "Flat", "Job", "Kind", "flatten", "tables"]

Kind = Literal["scan", "resume", "phase", "total"]
KINDS: tuple[Kind, ...] = ("scan", "resume", "phase", "total")
"""What may be asked: a whole sequence from the start; one that goes on from a state; one of two phases; the sum of the
weighted spikes alone."""


@dataclass
class Job:
    """One run of a neuron over a sequence.

    Attributes:
        neuron: its record.
        kind: what is asked.
        x_seq: currents ``[T, B, ...]``.
        out: where the spikes go, ``[T, B, ...]``; of a total ``[1, B, ...]``.
        thresholds: fitted to one step of ``x_seq``.
        axis: channel axis of one step.
        scaled: spikes are worth the threshold, else 1.
        options: the neuron's settings, all of them.
        state: of a ``"resume"``, for a kernel: the tensors of the neuron's state in the order of its fields, in the
            membrane's dtype, to be written over with the state after the last step; and the steps before these where
            the state counts them. (`equation`, which takes any state: the state itself, or None.)
        resumed: the run goes on from ``state``; else it starts afresh, and ``state`` is only written.
        mask: of a ``"phase"``: who may fire in the second one, bool ``[B, ...]``; the first writes it.
        is_first: which of the two phases.
    """

    neuron: Neuron
    kind: Kind
    x_seq: Tensor
    out: Tensor
    thresholds: Thresholds
    axis: int
    scaled: bool
    options: dict[str, Any] = field(default_factory=dict)
    state: Any = ()
    resumed: bool = False
    mask: Tensor | None = None
    is_first: bool = False

    @property
    def negative(self) -> bool:
        """Whether spikes may be negative."""
        return self.neuron.negative(**self.options)

    def evaluated(self) -> Job:
        """The same where the function of the whole input, if the neuron has one, is the input already: one step."""
        function = self.options.get("function")
        if function is None:
            return self
        z = self.summed()
        y = empty_steps(z.unsqueeze(0), 1, z.dtype)
        y[0].copy_(evaluate(function, z, self.axis))
        return replace(self, x_seq=y, options={**self.options, "function": None})

    def summed(self) -> Tensor:
        """The whole input ``[B, ...]``, added in the order of the steps, in the membrane's dtype."""
        z = torch.zeros_like(self.x_seq[0], dtype=self.thresholds.dtype)
        for x in self.x_seq:
            z.add_(x)
        return z

    def fraction(self, option: str) -> Fraction:
        """The threshold times an option, such as a dead zone."""
        return self.thresholds.fraction(self.options[option])

    def dead_zone(self) -> Fraction:
        """Width below zero: ``eps`` times the threshold, or ``eps_absolute`` of a neuron that has it."""
        width = self.options.get("eps_absolute")
        return self.fraction("eps") if width is None else self.thresholds.constant(width)

    def ceiling(self) -> Fraction:
        """Largest output: ``ceiling`` times the threshold, or ``ceiling_absolute``; infinite where it has neither."""
        part, absolute = self.options["ceiling"], self.options["ceiling_absolute"]
        if absolute is None and part is not None:
            return self.thresholds.fraction(part)
        return self.thresholds.constant(math.inf if absolute is None else absolute)


@dataclass
class Flat:
    """A job as a kernel on flat memory sees it: every step one block.

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
    assert job.thresholds.channels is not None
    x_seq = dense_steps(job.x_seq)
    out = job.out if same_layout(job.out, x_seq) else empty_steps(x_seq, job.out.shape[0], job.out.dtype)
    channels = job.thresholds.channels.numel()
    inner = x_seq.stride()[1:][job.axis] if channels > 1 else 1
    return Flat(x_seq, out, x_seq.numel() // x_seq.shape[0], x_seq.stride(0), channels, inner)


def tables(job: Job) -> tuple[Tensor, Tensor]:
    """Thresholds and what a spike of the first step is worth, by channel.

    The worth is in the output's dtype; in the membrane's for totals, which are rounded once, at the end.
    """
    theta = job.thresholds.channels
    assert theta is not None
    dtype = theta.dtype if job.kind == "total" else job.out.dtype
    worth = theta.to(dtype) if job.scaled else torch.ones_like(theta, dtype=dtype)
    if job.neuron.weight is not None and (job.scaled or job.kind == "total"):
        worth = worth * job.neuron.weight(0, **job.options)
    return theta, worth
