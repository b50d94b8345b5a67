"""Max-pooling over time: the largest of what has come in so far."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels.backends import numba_runs

__all__ = ["accumulated_max_pool", "running_sum"]

Size = int | tuple[int, ...] | list[int]


def running_sum(x_seq: Tensor, before: Tensor | None = None) -> Tensor:
    """Sum over the steps so far, ``[T, ...]``, from the first step on; of 16-bit numbers in float32, then rounded.

    Args:
        x_seq: ``[T, ...]``.
        before: sum of the steps before these, ``[...]``.

    Example:
        >>> running_sum(torch.tensor([1.0, 2.0, 3.0]))
        tensor([1., 3., 6.])
    """
    differentiable = torch.is_grad_enabled() and x_seq.requires_grad
    if differentiable or x_seq.dtype not in (torch.float32, torch.float64):
        return x_seq.cumsum(0) if before is None else x_seq.cumsum(0) + before
    total = x_seq.clone()
    if before is not None:
        total[:1].add_(before)
    for t in range(1, len(total)):
        total[t : t + 1].add_(total[t - 1 : t])
    return total


def accumulated_max_pool(
    x_seq: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    *,
    backend: str = "auto",
) -> Tensor:
    r"""Max-pooling in two dimensions of what has come in so far, as differences from step to step.

    .. math:: y_t = \mathrm{pool}\Big(\sum_{s \le t} x_s\Big) - \mathrm{pool}\Big(\sum_{s < t} x_s\Big)

    so that the sum of the outputs is the pooling of the sum of the inputs, at every step.

    Args:
        x_seq: ``[T, B, C, H, W]``.
        kernel_size, stride, padding, dilation, ceil_mode: as in ``torch.nn.functional.max_pool2d``.
        backend: ``"eager"``, or ``"auto"`` and ``"numba"``: one pass over memory where numba is installed, for float32
            on a CPU whose steps are channels-last, else eager. Both give the same bits.

    Returns:
        ``[T, B, C, H', W']``.

    Example:
        >>> x_seq = torch.tensor([[1.0, 0.0], [0.0, 3.0]]).reshape(2, 1, 1, 1, 2)
        >>> accumulated_max_pool(x_seq, (1, 2)).flatten()
        tensor([1., 2.])
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    wanted = numba_runs(backend, x_seq.numel()) and not (torch.is_grad_enabled() and x_seq.requires_grad)
    if wanted and _suits_numba(x_seq):
        from .kernels.numba_cpu.max_pool import max_pool

        kernel = _pair(kernel_size)
        return max_pool(x_seq, kernel, _pair(stride, kernel), _pair(padding), _pair(dilation), ceil_mode)
    total = running_sum(x_seq)
    pooled = F.max_pool2d(total.flatten(0, 1), *window).unflatten(0, x_seq.shape[:2])
    return torch.cat([pooled[:1], pooled[1:] - pooled[:-1]])


def _suits_numba(x_seq: Tensor) -> bool:
    if x_seq.dtype != torch.float32 or x_seq.device.type != "cpu" or x_seq.dim() != 5:
        return False
    return x_seq.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def _pair(value: Size | None, default: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Both numbers of a window's size; PyTorch takes an absent stride for the window's own size."""
    if value is None or (not isinstance(value, int) and not len(value)):
        return default
    first, last = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return int(first), int(last)
