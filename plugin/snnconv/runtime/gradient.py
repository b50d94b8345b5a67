"""Calls of a converted network whose gradient, or whose export, somebody waits for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnconv.dynamics.captured import captured, strictly_exported
from snnconv.graph.source import ConversionError
from snnconv.runtime.batch import Batch, entries

__all__ = ["check_exportable", "check_no_gradient"]


def check_exportable(precision: str) -> None:
    """Refuse a call that is captured where it cannot be.

    Raises:
        ConversionError: 8-bit layers; a strict export.
    """
    if precision == "int8" and captured():
        raise ConversionError("8-bit layers cannot be exported: set snn.precision = 'float32' first")
    if strictly_exported():
        raise ConversionError("a converted network runs operator by operator: export it with strict=False")


def check_no_gradient(x: Any, asked: bool) -> None:
    """Refuse a call whose gradient somebody waits for.

    Args:
        x: its input.
        asked: whether ``requires_grad_`` asked for gradients.

    Raises:
        ConversionError: it has none.
    """
    if not torch.is_grad_enabled() or captured():
        return
    wanted = isinstance(x, (Tensor, Batch)) and any(v.requires_grad for v in entries(x).values())
    if wanted or asked:
        raise ConversionError(
            "a converted network gives no gradient: train snnconv.trainable(snn), which does, also for its input; "
            "for outputs alone call it under torch.no_grad()"
        )
