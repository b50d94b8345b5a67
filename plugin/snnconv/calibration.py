"""Calibration data: from whatever the user has to a list of input batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from snnconv.graph.source import ConversionError

__all__ = ["input_batches", "input_of", "label_of"]

_KEYS = ("input", "inputs", "x", "image", "images", "img", "pixel_values", "data")
_LABELS = ("label", "labels", "target", "targets", "y", "data_samples")


def input_of(batch: Any) -> Tensor:
    """The input tensor of a loader's batch: a tensor, ``(input, target)``, or a dictionary.

    >>> input_of((torch.zeros(2, 3), torch.zeros(2))).shape
    torch.Size([2, 3])
    """
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        for key in _KEYS:
            if isinstance(batch.get(key), Tensor):
                return batch[key]
        for value in batch.values():
            if isinstance(value, Tensor) and value.is_floating_point():
                return value
        raise ConversionError(f"a batch is a dictionary without an input tensor; its keys are {list(batch)}")
    if isinstance(batch, (tuple, list)) and batch:
        return input_of(batch[0])
    raise ConversionError(
        f"a batch is a {type(batch).__name__}; give tensors, (input, target) pairs or dictionaries with one of {_KEYS}"
    )


def label_of(batch: Any) -> Tensor | None:
    """Class labels ``[B]`` of a loader's batch: of ``(input, label)``, or of a dictionary; ``None`` without.

    >>> label_of((torch.zeros(2, 3), torch.tensor([1, 0])))
    tensor([1, 0])
    """
    found: Any = None
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in _LABELS if key in batch), None)
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        found = batch[1]
    classes = isinstance(found, Tensor) and found.dim() == 1 and not found.is_floating_point()
    return found if classes else None


def input_batches(
    data: Any,
    limit: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 64,
    name: str = "calibration",
) -> list[Tensor]:
    """Inputs ``[B, ...]`` from a tensor, a list of batches, or a loader; at most ``limit`` samples.

    Args:
        data: a tensor ``[N, ...]``, a list of tensors ``[B, ...]``, or an iterable of tensors, pairs or dicts.
        limit: number of samples to take, from the start.
        device: where to put them.
        dtype: the network's dtype; other floating dtypes are refused.
        batch_size: samples a batch, where all have one shape.
        name: what the data is, for error messages.

    Raises:
        ConversionError: no data, NaN or infinite values, a dtype or shape that does not fit.

    >>> [b.shape[0] for b in input_batches(torch.zeros(5, 3), batch_size=2)]
    [2, 2, 1]
    """
    if data is None:
        raise ConversionError(f"{name} data is needed: give a tensor, a list of tensors or a loader")
    if isinstance(data, Tensor):
        if data.dim() < 2:
            raise ConversionError(f"{name} must be a batch [N, ...], got shape {tuple(data.shape)}")
        data = list(data.split(batch_size)) if len(data) else []
    if not isinstance(data, Iterable):
        raise ConversionError(f"{name} must be a tensor, a list of tensors or a loader, got {type(data).__name__}")
    found: list[Tensor] = []
    count = 0
    for index, batch in enumerate(data):
        x = input_of(batch)
        if limit is not None and count + len(x) > limit:
            x = x[: limit - count]
        _check(x, index, dtype, name)
        if len(x):
            if found and (x.dim() != found[0].dim() or x.shape[1:2] != found[0].shape[1:2]):
                raise ConversionError(
                    f"{name} batch {index} has shape {tuple(x.shape)}, the first one {tuple(found[0].shape)}"
                )
            found.append(x.to(device) if device is not None else x)
            count += len(x)
        if limit is not None and count >= limit:
            break
    if not found:
        raise ConversionError(f"{name} is empty: it gave no samples")
    if all(x.shape[1:] == found[0].shape[1:] for x in found):
        return [x.clone() for x in torch.cat(found).split(batch_size)]
    return found


def _check(x: Tensor, index: int, dtype: torch.dtype | None, name: str) -> None:
    if x.dim() < 2:
        raise ConversionError(f"{name} batch {index} has shape {tuple(x.shape)}; a batch [B, ...] is needed")
    if dtype is not None and x.dtype != dtype:
        hint = "scale it to the values the network was trained on, then " if not x.is_floating_point() else ""
        raise ConversionError(
            f"{name} batch {index} is {x.dtype}, the network's weights are {dtype}: {hint}convert it with .to({dtype})"
        )
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        raise ConversionError(f"{name} batch {index} has NaN or infinite values")
