"""Batches of inputs with their targets, from whatever the user has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from snnconv.graph.source import ConversionError
from snnconv.inputs import Reader, input_batches, input_of

__all__ = ["count_of", "labelled_batches"]

BATCH = 64


def labelled_batches(
    data: Any,
    limit: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    name: str = "the data",
    reader: Reader | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Inputs ``[B, ...]``, checked as by `input_batches`, each with its target: class labels, or what follows them.

    Args:
        data: a pair of tensors ``(x, y)``, or an iterable of batches.
        limit: number of samples to take, from the start.
        device, dtype, name, reader: as for `input_batches`.

    Raises:
        ConversionError: nothing beside the inputs, or what `input_batches` refuses.

    >>> [(len(x), y.tolist()) for x, y in labelled_batches((torch.zeros(70, 2), torch.arange(70)), limit=66)][-1]
    (2, [64, 65])
    """
    reader = reader or Reader()
    left = limit
    if _is_pair(data):
        x, y = data
        if len(x) != len(y):
            raise ConversionError(f"{name} has {len(x)} inputs and {len(y)} targets")
        data = list(zip(x.split(BATCH), y.split(BATCH), strict=True)) if len(x) else []
    for batch in [data] if isinstance(data, Mapping) else data:
        _, rest = reader.divide(batch)
        target: Any = reader.labels(rest)
        if target is None:
            if not len(rest):
                raise ConversionError(f"{name} holds inputs alone: give (input, target) batches")
            target = rest if isinstance(rest, Mapping) else rest[0]
        (given,) = input_batches([batch], left, device, dtype, batch_size=2**31, name=name, reader=reader)
        yield given, target[: len(given)] if isinstance(target, Tensor) else target
        if left is not None:
            left -= len(given)
            if not left:
                return


def count_of(data: Any, limit: int | None = None) -> int:
    """How many samples there are, at most ``limit``; 0 where a loader does not say.

    >>> count_of((torch.zeros(5, 2), torch.zeros(5))), count_of([torch.zeros(5, 2)] * 2, 7)
    (5, 7)
    """
    found = 0
    if _is_pair(data):
        found = len(data[0])
    elif isinstance(data, list):
        found = sum(len(input_of(batch)) for batch in data)
    elif hasattr(data, "dataset") and hasattr(data.dataset, "__len__"):
        found = len(data.dataset)
    return found if limit is None else min(found, limit)


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)
