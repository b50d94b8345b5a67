"""Max-pooling of what has come in so far, compiled."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .compiled import jit
from .launch import MIN_NUMEL_PER_THREAD, run_blocks

__all__ = ["max_pool"]

Size = tuple[int, int]


def max_pool(x_seq: Tensor, kernel: Size, stride: Size, padding: Size, dilation: Size, ceil_mode: bool) -> Tensor:
    """`snnconv.dynamics.accumulated_max_pool` of float32 steps ``[T, B, C, H, W]`` that are channels-last."""
    folded = x_seq.flatten(0, 1)
    steps, batch, channels, height, width = x_seq.shape
    size = _size((channels, height, width), kernel, stride, padding, dilation, ceil_mode)
    out = torch.empty(steps * batch, channels, *size, memory_format=torch.channels_last)
    sizes = (tuple(x_seq.shape), size, kernel, stride, padding, dilation)
    rows = batch * size[0]
    threads = max(1, min(torch.get_num_threads(), rows, x_seq.numel() // MIN_NUMEL_PER_THREAD))
    flat_in, flat_out = (v.permute(0, 2, 3, 1).reshape(-1).numpy() for v in (folded.detach(), out))
    run_blocks(max_pool_scan, (flat_in, flat_out, *sizes), rows, threads)
    pooled: Tensor = out.unflatten(0, (steps, batch))
    return pooled


@functools.lru_cache(maxsize=1024)
def _size(
    image: tuple[int, int, int], kernel: Size, stride: Size, padding: Size, dilation: Size, ceil_mode: bool
) -> Size:
    """Height and width of the output, by PyTorch, which also checks the window."""
    like = F.max_pool2d(torch.empty(1, *image, device="meta"), kernel, stride, padding, dilation, ceil_mode)
    return like.shape[2], like.shape[3]


@jit
def max_pool_scan(x, out, shape, pooled, kernel, stride, padding, dilation, rows):
    """Max-pool the sums so far of channels-last steps, as differences; a row is one of the output's, of one input.

    The sums of the input's rows that a row reads stay in cache over all steps.
    """
    steps, batch, channels, height, width = shape
    out_height, out_width = pooled
    kernel_height, kernel_width = kernel
    stride_height, stride_width = stride
    pad_height, pad_width = padding
    dilation_height, dilation_width = dilation
    line, out_line = width * channels, out_width * channels
    step, out_step = batch * height * line, batch * out_height * out_line
    sums = np.empty((kernel_height, line), np.float32)
    places = np.empty(kernel_height, np.int64)
    before = np.empty(out_line, np.float32)
    best = np.empty(channels, np.float32)
    for row in range(rows[0], rows[1]):
        image, y = row // out_height, row % out_height
        count = 0
        for i in range(kernel_height):
            at = y * stride_height - pad_height + i * dilation_height
            if 0 <= at < height:
                places[count] = (image * height + at) * line
                count += 1
        sums[:count] = np.float32(0)
        before[:] = np.float32(0)
        for t in range(steps):
            for k in range(count):
                total = sums[k]
                start = t * step + places[k]
                xs = x[start : start + line]
                for i in range(line):
                    total[i] += xs[i]
            for x_out in range(out_width):
                seen = False
                for j in range(kernel_width):
                    at = x_out * stride_width - pad_width + j * dilation_width
                    if at < 0 or at >= width:
                        continue
                    for k in range(count):
                        there = sums[k, at * channels : (at + 1) * channels]
                        if seen:
                            for c in range(channels):
                                value = there[c]
                                larger = (value > best[c]) | (value != value)  # NaN stays, as in PyTorch
                                best[c] = value if larger else best[c]
                        else:
                            for c in range(channels):
                                best[c] = there[c]
                            seen = True
                old = before[x_out * channels : (x_out + 1) * channels]
                start = t * out_step + row * out_line + x_out * channels
                outs = out[start : start + channels]
                for c in range(channels):
                    outs[c] = best[c] - old[c]
                    old[c] = best[c]
