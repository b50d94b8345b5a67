"""Pooling of regions of interest as ``mmcv._ext`` has it.

A region is a row ``(image, x1, y1, x2, y2)`` in pixels of the image, of which the features have ``spatial_scale`` times
as many. It is cut into bins along both axes; each bin gives one value per channel.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor

__all__ = ["roi_align_backward", "roi_align_forward", "roi_pool_backward", "roi_pool_forward"]

MAX = 0  # `pool_mode`; 1 is the average
OUTSIDE = -2.0  # a coordinate at which nothing is sampled: the feature map ends at -1
BUDGET = 1 << 22
"""How many sampled values are held at a time; regions are taken in portions of that size."""


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (He et al., ICCV 2017): average or maximum over bilinear samples of each bin, into ``output``.

    Args:
        input: features ``[B, C, H, W]``.
        rois: ``[N, 5]``.
        output: ``[N, C, aligned_height, aligned_width]``, overwritten.
        argmax_y: for the maximum, receives the place of the largest sample, in pixels of ``input``; else empty.
        argmax_x: likewise.
        aligned_height: bins from top to bottom.
        aligned_width: bins from left to right.
        spatial_scale: pixels of ``input`` per pixel of the image.
        sampling_ratio: samples of a bin along each axis; 0: as many as it is pixels wide, rounded up.
        pool_mode: 0 maximum, 1 average.
        aligned: pixel centres lie at half coordinates; ``False``: at whole ones, and no region is smaller than 1.
    """
    if not output.numel():
        return
    x, boxes = _working(input), _working(rois)
    if pool_mode != MAX:
        size = (aligned_height, aligned_width)
        output.copy_(torchvision.ops.roi_align(x, boxes, size, spatial_scale, sampling_ratio, aligned))
        return
    y, y_valid = _samples(boxes[:, 2], boxes[:, 4], aligned_height, spatial_scale, sampling_ratio, aligned)
    x_, x_valid = _samples(boxes[:, 1], boxes[:, 3], aligned_width, spatial_scale, sampling_ratio, aligned)
    image, pixels = boxes[:, 0].long(), x.permute(0, 2, 3, 1).contiguous()
    for part in _portions(x.shape[1] * y[0].numel() * x_[0].numel(), len(boxes)):
        values = _bilinear(pixels, image[part], y[part].flatten(1), x_[part].flatten(1))
        best, iy, ix = _maximum(values, y_valid[part], x_valid[part])
        found = iy >= 0
        output[part] = best.to(output.dtype)
        argmax_y[part] = torch.where(found, _pick(y[part], iy, 2), OUTSIDE).to(argmax_y.dtype)
        argmax_x[part] = torch.where(found, _pick(x_[part], ix, 3), OUTSIDE).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the derivative of :func:`roi_align_forward` by its features to ``grad_input`` ``[B, C, H, W]``."""
    if not grad_output.numel():
        return
    grad, boxes = _working(grad_output), _working(rois)
    if pool_mode != MAX:
        with torch.enable_grad():  # linear in the features: the point at which it is differentiated does not matter
            x = grad.new_zeros(grad_input.shape, requires_grad=True)
            size = (aligned_height, aligned_width)
            y = torchvision.ops.roi_align(x, boxes, size, spatial_scale, sampling_ratio, aligned)
        grad_input += torch.autograd.grad(y, x, grad)[0].to(grad_input.dtype)
        return
    _, channels, height, width = grad_input.shape
    y_low, y_high, y_part, y_inside = _neighbours(_working(argmax_y), height)
    x_low, x_high, x_part, x_inside = _neighbours(_working(argmax_x), width)
    grad = torch.where(y_inside & x_inside, grad, 0.0)
    plane = _planes(boxes, channels)
    flat = grad.new_zeros(grad_input.numel())
    for row, y_weight in ((y_low, 1 - y_part), (y_high, y_part)):
        for column, x_weight in ((x_low, 1 - x_part), (x_high, x_part)):
            index = (plane * height + row) * width + column
            flat.index_add_(0, index.flatten(), (grad * y_weight * x_weight).flatten())
    grad_input += flat.view_as(grad_input).to(grad_input.dtype)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoIPool (Girshick, ICCV 2015): the largest pixel of each bin, into ``output``; 0 for an empty bin.

    A region ends with its last pixel, ``x2 + 1`` in pixels of the image. Bin ``i`` of ``P`` has the pixels from
    ``floor(x1 + i w / P)`` up to ``ceil(x1 + (i + 1) w / P)``, which it does not include, all scaled to ``input``.

    Args:
        input: features ``[B, C, H, W]``.
        rois: ``[N, 5]``.
        output: ``[N, C, pooled_height, pooled_width]``, overwritten.
        argmax: int32, likewise; receives the pixel ``row * W + column`` of each maximum, -1 for an empty bin.
        pooled_height: bins from top to bottom.
        pooled_width: bins from left to right.
        spatial_scale: pixels of ``input`` per pixel of the image.
    """
    if not output.numel():
        return
    x, boxes = _working(input), _working(rois)
    y, y_valid = _pixels(boxes[:, 2], boxes[:, 4], pooled_height, spatial_scale, x.shape[2])
    x_, x_valid = _pixels(boxes[:, 1], boxes[:, 3], pooled_width, spatial_scale, x.shape[3])
    image, pixels = boxes[:, 0].long(), x.permute(0, 2, 3, 1).contiguous()
    for part in _portions(x.shape[1] * y[0].numel() * x_[0].numel(), len(boxes)):
        values = _at(pixels, image[part], y[part].flatten(1), x_[part].flatten(1))
        best, iy, ix = _maximum(values, y_valid[part], x_valid[part])
        pixel = _pick(y[part], iy, 2) * x.shape[3] + _pick(x_[part], ix, 3)
        output[part] = best.to(output.dtype)
        argmax[part] = torch.where(iy >= 0, pixel, -1).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the derivative of :func:`roi_pool_forward` by its features to ``grad_input`` ``[B, C, H, W]``."""
    if not grad_output.numel():
        return
    _, channels, height, width = grad_input.shape
    grad = torch.where(argmax >= 0, _working(grad_output), 0.0)
    index = _planes(rois, channels) * (height * width) + argmax.clamp(min=0)
    flat = grad.new_zeros(grad_input.numel()).index_add_(0, index.flatten(), grad.flatten())
    grad_input += flat.view_as(grad_input).to(grad_input.dtype)


# --- where bins are sampled: coordinates [N, bins, samples] and which of them count ------------------------


def _samples(low: Tensor, high: Tensor, bins: int, scale: float, ratio: int, aligned: bool) -> tuple[Tensor, Tensor]:
    """RoIAlign's samples along one axis: evenly spread, half a distance from the edges of the bin."""
    start = low * scale - (0.5 if aligned else 0.0)
    size = (high - low) * scale
    size = size if aligned else size.clamp(min=1)
    bin_size = size / bins
    count = torch.full_like(size, ratio) if ratio > 0 else bin_size.ceil().clamp(min=0)
    step = torch.arange(int(count.max()), dtype=size.dtype, device=size.device)
    edges = start[:, None] + torch.arange(bins, dtype=size.dtype, device=size.device) * bin_size[:, None]
    inside = (step + 0.5) * (bin_size / count.clamp(min=1))[:, None]
    valid = (step < count[:, None])[:, None].expand(-1, bins, -1)
    return edges[:, :, None] + inside[:, None], valid


def _pixels(low: Tensor, high: Tensor, bins: int, scale: float, size: int) -> tuple[Tensor, Tensor]:
    """RoIPool's pixels along one axis of ``size``."""
    start, end = low * scale, (high + 1) * scale
    bin_size = ((end - start) / bins)[:, None]
    index = torch.arange(bins, device=low.device)
    first = (index * bin_size + start[:, None]).floor().clamp(0, size).long()
    last = ((index + 1) * bin_size + start[:, None]).ceil().clamp(0, size).long()
    last = torch.where(bin_size > 0, last, first)
    pixel = first[:, :, None] + torch.arange(int((last - first).max().clamp(min=0)), device=low.device)
    return pixel.clamp(max=size - 1), pixel < last[:, :, None]


# --- values at those places --------------------------------------------------------------------------------


def _neighbours(coordinate: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both neighbouring pixels, the weight of the second, and whether the coordinate lies on the feature map."""
    inside = (coordinate >= -1) & (coordinate <= size)
    clamped = coordinate.clamp(0, size - 1)
    low = clamped.floor()
    return low.long(), (low + 1).clamp(max=size - 1).long(), clamped - low, inside


def _at(pixels: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """``pixels`` ``[B, H, W, C]`` at rows ``[N, R]`` and columns ``[N, S]`` of each image ``[N]``: ``[N, R, S, C]``."""
    return pixels[image[:, None, None], row[:, :, None], column[:, None, :]]


def _bilinear(pixels: Tensor, image: Tensor, y: Tensor, x_: Tensor) -> Tensor:
    """As :func:`_at`, between pixels; 0 outside of the feature map."""
    y_low, y_high, y_part, y_inside = _neighbours(y, pixels.shape[1])
    x_low, x_high, x_part, x_inside = _neighbours(x_, pixels.shape[2])
    y_part, x_part = y_part[:, :, None, None], x_part[:, None, :, None]
    upper = torch.lerp(_at(pixels, image, y_low, x_low), _at(pixels, image, y_low, x_high), x_part)
    lower = torch.lerp(_at(pixels, image, y_high, x_low), _at(pixels, image, y_high, x_high), x_part)
    inside = (y_inside[:, :, None] & x_inside[:, None, :])[..., None]
    return torch.where(inside, torch.lerp(upper, lower, y_part), 0.0)


def _maximum(values: Tensor, y_valid: Tensor, x_valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest of each bin's samples ``[N, C, P, Q]`` and its numbers within the bin along y and x.

    The first one in reading order among equals; value 0 and numbers -1 where a bin has none.

    Args:
        values: ``[N, P * p, Q * q, C]``.
        y_valid: which rows count, ``[N, P, p]``.
        x_valid: which columns count, ``[N, Q, q]``.
    """
    (n, rows, p), (_, columns, q) = y_valid.shape, x_valid.shape
    channels = values.shape[-1]
    if not p * q:
        none = values.new_full((n, channels, rows, columns), -1, dtype=torch.long)
        return none.to(values.dtype).zero_(), none, none
    counts = y_valid[:, :, :, None, None, None] & x_valid[:, None, None, :, :, None]
    values = values.view(n, rows, p, columns, q, channels).masked_fill(~counts, -torch.inf)
    best, index = values.transpose(2, 3).flatten(3, 4).max(3)
    some = (y_valid.any(2)[:, :, None] & x_valid.any(2)[:, None, :])[..., None]
    found = torch.where(some, best, 0.0), torch.where(some, index // q, -1), torch.where(some, index % q, -1)
    best, iy, ix = (t.permute(0, 3, 1, 2) for t in found)
    return best, iy, ix


def _pick(places: Tensor, number: Tensor, axis: int) -> Tensor:
    """``places`` ``[N, bins, samples]`` of the samples with these numbers ``[N, C, P, Q]``, bins along ``axis``."""
    if not places.shape[2]:
        return places.new_zeros(number.shape)
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    region = torch.arange(len(places), device=places.device)[:, None, None, None]
    return places[region, torch.arange(places.shape[1], device=places.device).view(shape), number.clamp(min=0)]


# --- small parts -------------------------------------------------------------------------------------------


def _working(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _portions(values_each: int, regions: int) -> Iterator[slice]:
    step = max(1, BUDGET // max(1, values_each))
    return (slice(start, start + step) for start in range(0, regions, step))


def _planes(rois: Tensor, channels: int) -> Tensor:
    """Number of the feature plane of each region's each channel ``[N, C, 1, 1]``."""
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    return plane[:, :, None, None]
