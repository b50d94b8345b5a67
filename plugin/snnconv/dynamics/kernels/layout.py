"""How a sequence lies in memory: one dense block per step, in any memory format."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["dense_steps", "empty_steps", "flat", "same_layout", "step_strides"]


@functools.lru_cache(maxsize=4096)
def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(strides, shape, strict=True) if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def empty_steps(x_seq: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Allocate ``[steps, B, ...]``, every step in the memory format of ``x_seq``'s steps.

    Example:
        >>> images = torch.zeros(6, 3, 2, 2).to(memory_format=torch.channels_last).unflatten(0, (2, 3))
        >>> folded = empty_steps(images, 5, torch.float32).flatten(0, 1)
        >>> folded.is_contiguous(memory_format=torch.channels_last)
        True
    """
    shape = x_seq.shape[1:]
    size = math.prod(shape)
    return torch.empty_strided((steps, *shape), (size, *step_strides(x_seq)), dtype=dtype, device=x_seq.device)


def step_strides(x_seq: Tensor) -> tuple[int, ...]:
    """Strides of a dense step in the memory format of ``x_seq``'s steps.

    Example:
        >>> step_strides(torch.zeros(4, 2, 3)[..., :2])
        (2, 1)
    """
    strides = x_seq.stride()[1:]
    return strides if _is_dense(x_seq.shape[1:], strides) else torch.empty_like(x_seq[0], device="meta").stride()


def dense_steps(x_seq: Tensor) -> Tensor:
    """Return the sequence with dense steps: itself where they are, else a copy.

    A sequence that repeats one step (stride 0 over time) stays one step in memory.

    Example:
        >>> constant = torch.zeros(2, 3).expand(8, 2, 3)
        >>> dense_steps(constant).data_ptr() == constant.data_ptr()
        True
    """
    if _is_dense(x_seq.shape[1:], x_seq.stride()[1:]):
        return x_seq
    if x_seq.stride(0) == 0:
        return empty_steps(x_seq, 1, x_seq.dtype).copy_(x_seq[:1]).expand(x_seq.shape)
    return empty_steps(x_seq, x_seq.shape[0], x_seq.dtype).copy_(x_seq)


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Tell whether two sequences hold every step in the same order in memory, ``a``'s steps back to back.

    Example:
        >>> same_layout(torch.zeros(4, 2, 3), torch.zeros(2, 3).expand(4, 2, 3))
        True
    """
    shape, strides_a, strides_b = a.shape[1:], a.stride()[1:], b.stride()[1:]
    if a.shape[0] > 1 and a.stride(0) != math.prod(shape):
        return False
    return _is_dense(shape, strides_a) and all(
        i == j for i, j, n in zip(strides_a, strides_b, shape, strict=True) if n > 1
    )


def flat(steps: Tensor) -> Tensor:
    """View the memory of a sequence with dense steps as one dimension; step t starts at ``t * stride(0)``.

    Example:
        >>> flat(torch.zeros(3).expand(8, 3)).shape
        torch.Size([3])
    """
    length = (steps.shape[0] - 1) * steps.stride(0) + math.prod(steps.shape[1:])
    return steps.as_strided((length,), (1,))
