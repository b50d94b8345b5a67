"""YOLOv2's boxes: anchors, cells, encoding and decoding, in plain torch.

Raw predictions of one box are (t_x, t_y, t_w, t_h, t_o, class scores). With a cell's corner (c_x, c_y) and an anchor
(p_w, p_h), all in units of cells (Redmon & Farhadi, arXiv 1612.08242, section 2):

    b_x = σ(t_x) + c_x    b_y = σ(t_y) + c_y    b_w = p_w·exp(t_w)    b_h = p_h·exp(t_h)    confidence = σ(t_o)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Assignment", "assign", "decode", "encode", "split_map"]

MAX_EXPONENT = 8.0  # e^8 anchors are wider than any image; keeps an untrained network's boxes finite


def split_map(raw: Tensor, num_anchors: int) -> Tensor:
    """``[B, A·(5 + C), H, W]``, as the last convolution gives it, to ``[B, A, H, W, 5 + C]``.

    >>> split_map(torch.rand(2, 5 * 8, 3, 4), 5).shape
    torch.Size([2, 5, 3, 4, 8])
    """
    batch, channels, height, width = raw.shape
    return raw.view(batch, num_anchors, channels // num_anchors, height, width).permute(0, 1, 3, 4, 2)


def decode(t: Tensor, anchors: Tensor, stride: int) -> Tensor:
    """Raw predictions to boxes (x1, y1, x2, y2) in pixels.

    Args:
        t: ``[..., A, H, W, ≥ 4]``, (t_x, t_y, t_w, t_h) first.
        anchors: ``[A, 2]``, width and height in cells.
        stride: pixels a cell.

    Returns:
        ``[..., A, H, W, 4]``.

    >>> decode(torch.zeros(1, 2, 2, 4), torch.tensor([[1.0, 2.0]]), 32)[0, 0, 1]
    tensor([ 32., -16.,  64.,  48.])
    """
    height, width = t.shape[-3:-1]
    rows = torch.arange(height, dtype=t.dtype, device=t.device)
    columns = torch.arange(width, dtype=t.dtype, device=t.device)
    x = t[..., 0].sigmoid() + columns
    y = t[..., 1].sigmoid() + rows[:, None]
    size = t[..., 2:4].clamp(max=MAX_EXPONENT).exp() * anchors[:, None, None]
    half_w, half_h = size[..., 0] / 2, size[..., 1] / 2
    return stride * torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=-1)


@dataclass(frozen=True)
class Assignment:
    """The anchor and cell that answer for each box; a later box takes a place that an earlier one had.

    Attributes:
        box: ``[N]`` indices into the boxes that have a place.
        anchor, row, column: ``[N]`` that place.
    """

    box: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor


def assign(boxes: Tensor, anchors: Tensor, stride: int, height: int, width: int) -> Assignment:
    """Each box to the cell that holds its centre and the anchor whose shape overlaps it most.

    Args:
        boxes: ``[M, 4]`` (x1, y1, x2, y2) in pixels; one without area has no place.
        anchors: ``[A, 2]`` in cells.
        stride: pixels a cell.
        height, width: cells.

    >>> place = assign(torch.tensor([[0.0, 32, 64, 96]]), torch.tensor([[1.0, 1.0], [2.0, 2.0]]), 32, 3, 3)
    >>> place.anchor.item(), place.row.item(), place.column.item()
    (1, 2, 1)
    """
    cells = boxes / stride
    size = cells[:, 2:] - cells[:, :2]
    valid = (size > 0).all(dim=1)
    common = torch.minimum(size[:, None], anchors).clamp(min=0).prod(dim=-1)
    shape_iou = common / (size.prod(dim=-1)[:, None] + anchors.prod(dim=-1) - common).clamp(min=1e-9)
    anchor = shape_iou.argmax(dim=1)
    centre = (cells[:, 2:] + cells[:, :2]) / 2
    column = centre[:, 0].long().clamp(0, width - 1)
    row = centre[:, 1].long().clamp(0, height - 1)
    index = torch.arange(len(boxes), device=boxes.device)[valid]
    place = ((anchor * height + row) * width + column)[valid]
    owner = torch.full((len(anchors) * height * width,), -1, dtype=torch.long, device=boxes.device)
    owner.scatter_reduce_(0, place, index, reduce="amax")
    box = owner[owner >= 0]
    return Assignment(box, anchor[box], row[box], column[box])


def encode(boxes: Tensor, place: Assignment, anchors: Tensor, stride: int) -> Tensor:
    """Boxes as (σ(t_x), σ(t_y), t_w, t_h) of their places: the inverse of `decode`, the σ left on.

    Args:
        boxes: ``[M, 4]`` (x1, y1, x2, y2) in pixels.
        place: of `assign`.
        anchors: ``[A, 2]`` in cells.
        stride: pixels a cell.

    Returns:
        ``[N, 4]``, one row a place.

    >>> anchors = torch.tensor([[1.0, 1.0]])
    >>> box = torch.tensor([[0.0, 0, 32, 32]])
    >>> encode(box, assign(box, anchors, 32, 1, 1), anchors, 32)
    tensor([[0.5000, 0.5000, 0.0000, 0.0000]])
    """
    cells = boxes[place.box] / stride
    centre = (cells[:, 2:] + cells[:, :2]) / 2
    corner = torch.stack([place.column, place.row], dim=1)
    size = cells[:, 2:] - cells[:, :2]
    return torch.cat([centre - corner, (size / anchors[place.anchor]).log()], dim=1)
