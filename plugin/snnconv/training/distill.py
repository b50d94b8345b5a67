"""Distillation: a network with few levels learns what the network it came from says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.training.losses import Collected, Regularizer

__all__ = ["Distillation"]


class Distillation(Regularizer):
    """coefficient × τ²·KL(softmax(teacher(x)/τ) ‖ softmax(model(x)/τ)), the mean over the inputs.

    Hinton, Vinyals and Dean, arXiv 1503.02531, section 2. The teacher sees the same augmented inputs, in evaluation
    mode and without gradients. It is no part of this module: its weights are neither trained nor saved.

    Args:
        teacher: a network of the same classes, as a rule the one whose activations were replaced.
        coefficient, schedule, span: its weight, see :class:`Coefficient`.
        temperature: τ.

    Raises:
        ValueError: a temperature of 0 or less; logits of another shape than the teacher's.

    >>> teacher, model = nn.Linear(4, 3), nn.Linear(4, 3)
    >>> model.load_state_dict(teacher.state_dict())
    <All keys matched successfully>
    >>> distillation = Distillation(teacher)
    >>> with distillation.watch(model) as found:
    ...     _ = model(torch.randn(5, 4))
    >>> distillation(found).item() < 1e-5
    True
    """

    name = "divergence"
    looks_inside = False

    def __init__(
        self,
        teacher: nn.Module,
        coefficient: float = 1.0,
        temperature: float = 4.0,
        schedule: str = "constant",
        span: float = 1.0,
    ) -> None:
        super().__init__(coefficient, schedule, span)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple: no submodule

    @property
    def teacher(self) -> nn.Module:
        """The network whose answers are learned."""
        return self._teacher[0]

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[Collected]:
        """Context manager for the forward pass of ``model``."""
        found = Collected()

        def note(_: nn.Module, inputs: Any, out: Any) -> None:
            logits = getattr(out, "logits", out)
            found.values[self.name] = self._divergence(logits, inputs)

        handle = model.register_forward_hook(note)
        try:
            yield found
        finally:
            handle.remove()

    def _divergence(self, logits: Tensor, inputs: Any) -> Tensor:
        teacher = self.teacher
        reference = next(teacher.parameters(), None)
        if reference is not None and reference.device != logits.device:
            teacher.to(logits.device)
        with torch.no_grad():
            out = teacher(*inputs)
            wanted = getattr(out, "logits", out)
        if wanted.shape != logits.shape:
            raise ValueError(f"the teacher gives {tuple(wanted.shape)}, the network {tuple(logits.shape)}")
        log = F.log_softmax(logits.float() / self.temperature, 1)
        divergence = F.kl_div(log, F.softmax(wanted.float() / self.temperature, 1), reduction="batchmean")
        return self.temperature**2 * divergence

    def amount(self, found: Collected) -> Tensor:
        return found.total()
