"""Tensors from strangers: no larger than what their file holds of them, and such as fit where they are to go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from snnconv import limits
from snnconv.files.refusal import UntrustedFileError

__all__ = ["check_sizes", "misfit", "odd"]


def odd(value: Tensor) -> str:
    """What a tensor is instead of a plain array of numbers in memory; empty where it is one.

    >>> odd(torch.ones(2)), odd(torch.ones(2).to_sparse()), odd(torch.ones(2, device="meta"))
    ('', 'sparse', 'without values (on the meta device)')
    """
    if value.is_meta:
        return "without values (on the meta device)"
    if value.is_quantized:
        return "quantised"
    return "" if value.layout == torch.strided else "sparse"


def misfit(value: Tensor, own: Tensor) -> str:
    """Why a tensor cannot take the place of another without being changed; empty where it can.

    >>> misfit(torch.tensor([1e300], dtype=torch.float64), torch.ones(1))
    'holds values that are infinite in float32'
    >>> misfit(torch.ones(2), torch.ones(1))
    'is 2 in the file and 1 in the model'
    """
    if value.shape != own.shape:
        return f"is {_shape(value)} in the file and {_shape(own)} in the model"
    if odd(value) != odd(own) and not own.is_meta:
        return f"is {odd(value) or 'a plain tensor'} in the file and {odd(own) or 'a plain tensor'} in the model"
    if value.is_complex() and not own.is_complex():
        return "holds complex numbers"
    if value.dtype == own.dtype or not own.is_floating_point() or odd(value):
        return ""
    if bool((value.isfinite() & ~value.to(own.dtype).isfinite()).any()):
        return f"holds values that are infinite in {str(own.dtype).removeprefix('torch.')}"
    return ""


def check_sizes(content: Any, name: str) -> None:
    """Refuse a tensor that is a small piece of memory again and again: what is done with it takes its whole size.

    Args:
        content: tensors in lists and mappings.
        name: of the file, for messages.

    Raises:
        UntrustedFileError: its shape and what it would take.
    """
    if isinstance(content, Tensor) and not odd(content):
        size, held = content.numel() * content.element_size(), content.untyped_storage().nbytes()
        if size > max(limits.UNPACKED, limits.EXPANSION * held):
            raise UntrustedFileError(
                f"{name} is refused: a tensor of shape {list(content.shape)} repeats {held:,} bytes until they are "
                f"{size:,}, more than snnconv.limits.UNPACKED = {limits.UNPACKED:,}; raise that limit if it is right"
            )
    elif isinstance(content, Mapping):
        for value in content.values():
            check_sizes(value, name)
    elif isinstance(content, list | tuple):
        for value in content:
            check_sizes(value, name)


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a single number"
