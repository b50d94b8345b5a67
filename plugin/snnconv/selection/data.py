"""Inputs for calibration, for choosing and for testing, none of them in two of these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconv.graph.source import ConversionError
from snnconv.inputs import input_of, label_of

__all__ = ["Samples", "collect", "divide"]

FEWEST = 24


@dataclass(frozen=True)
class Samples:
    """Inputs ``[N, ...]`` and targets ``[N, ...]``, or no targets."""

    x: Tensor
    y: Tensor | None

    def __len__(self) -> int:
        return len(self.x)

    def pick(self, index: Tensor) -> Samples:
        """The samples of these numbers."""
        return Samples(self.x[index], None if self.y is None else self.y[index])


def collect(data: Any, limit: int, name: str = "data", device: torch.device | None = None) -> Samples:
    """The first ``limit`` samples of a tensor, of a pair (inputs, targets), or of a loader of either, on ``device``.

    Raises:
        ConversionError: no samples, or inputs of several shapes.

    >>> len(collect([(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))] * 3, 10))
    10
    """
    pair = isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)
    if pair or isinstance(data, Tensor):
        data = [data]
    if not isinstance(data, Iterable):
        raise ConversionError(
            f"{name} must be a tensor, a pair (inputs, targets) or a loader, got {type(data).__name__}"
        )
    xs: list[Tensor] = []
    ys: list[Tensor | None] = []
    count = 0
    for batch in data:
        x, y = input_of(batch), _target(batch)
        x, y = x[: limit - count], None if y is None else y[: limit - count]
        if device is not None:
            x, y = x.to(device), None if y is None else y.to(device)
        xs.append(x)
        ys.append(y)
        count += len(x)
        if count >= limit:
            break
    if not count:
        raise ConversionError(f"{name} is empty: it gave no samples")
    if len({x.shape[1:] for x in xs}) > 1:
        raise ConversionError(f"{name} has inputs of several shapes, {sorted({tuple(x.shape[1:]) for x in xs})}")
    known = [y for y in ys if y is not None]
    return Samples(torch.cat(xs), torch.cat(known) if len(known) == len(ys) else None)


def _target(batch: Any) -> Tensor | None:
    label = label_of(batch)
    if label is None and isinstance(batch, (tuple, list)) and len(batch) > 1 and isinstance(batch[1], Tensor):
        return batch[1]
    return label


def divide(
    data: Samples, calibration: Samples | None, test: Samples | None, seed: int
) -> tuple[Samples, Samples, Samples]:
    """Samples for calibration, choosing and testing; what is not given is drawn from ``data``.

    A quarter of ``data``, at most 256, calibrates; of the rest one half chooses and the other tests.

    Raises:
        ConversionError: too few samples to divide.

    >>> parts = divide(Samples(torch.zeros(100, 2), None), None, None, seed=0)
    >>> [len(part) for part in parts]
    [25, 38, 37]
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    if calibration is None:
        taken = min(256, len(data) // 4)
        calibration, order = data.pick(order[:taken]), order[taken:]
    choosing = order
    if test is None:
        half = -(-len(order) // 2)
        choosing, test = order[:half], data.pick(order[half:])
    for part, count in (("calibration", len(calibration)), ("choosing", len(choosing)), ("testing", len(test))):
        if count < FEWEST // (3 if part == "calibration" else 1):
            raise ConversionError(
                f"{count} samples are left for {part}: give more data, or calibration= and test= data"
            )
    return calibration, data.pick(choosing), test
