"""Non-maximum suppression as ``mmcv._ext`` has it."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

__all__ = ["nms", "softnms"]

NAIVE, LINEAR, GAUSSIAN = range(3)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that no better-scored kept box overlaps by more than ``iou_threshold``, best first.

    Args:
        boxes: ``[N, 4]`` as (x1, y1, x2, y2).
        scores: ``[N]``.
        iou_threshold: largest intersection over union of two kept boxes.
        offset: 0 or 1; a box is ``x2 - x1 + offset`` wide and ``y2 - y1 + offset`` high.

    Example:
        >>> nms(torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5], [6, 6, 8, 8]]), torch.tensor([0.5, 0.9, 0.7]), 0.5, 0)
        tensor([1, 2])
    """
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    corners = boxes.to(dtype)
    if offset:
        corners = torch.cat((corners[:, :2], corners[:, 2:] + offset), dim=1)
    return torchvision.ops.nms(corners, scores.to(dtype), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft non-maximum suppression (Bodla et al., ICCV 2017): a box that overlaps a better one loses score.

    The best remaining box is taken, then each other one's score is multiplied by ``f(IoU)`` with that box and those
    below ``min_score`` are dropped, until none remains. With threshold ``N``, eqs. 1 to 3 of the paper:

        naive     f = 0 if IoU >= N else 1
        linear    f = 1 - IoU if IoU >= N else 1
        gaussian  f = exp(-IoU^2 / sigma)

    Args:
        boxes: ``[N, 4]`` as (x1, y1, x2, y2).
        scores: ``[N]``.
        dets: ``[N, 5]``, its first rows receive the taken boxes and their scores.
        iou_threshold: N.
        sigma: width of ``gaussian``.
        min_score: lowest score of a box that stays.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: as in :func:`nms`.

    Returns:
        Indices ``[K]`` of the taken boxes in the order in which they were taken.
    """
    rest = torch.arange(len(boxes), device=boxes.device)
    corners = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    score = scores.to(corners.dtype)
    taken: list[int] = []
    while len(rest):
        best = int(score.argmax())
        dets[len(taken), :4] = corners[best]
        dets[len(taken), 4] = score[best]
        taken.append(int(rest[best]))
        overlap = _overlap(corners[best], corners, offset)
        if method == GAUSSIAN:
            factor = torch.exp(-overlap.square() / sigma)
        else:
            lowered = 1 - overlap if method == LINEAR else torch.zeros_like(overlap)
            factor = torch.where(overlap >= iou_threshold, lowered, torch.ones_like(overlap))
        score = score * factor
        stays = ~(score < min_score)
        stays[best] = False
        rest, corners, score = rest[stays], corners[stays], score[stays]
    return torch.tensor(taken, dtype=torch.long, device=boxes.device)


def _overlap(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """Intersection over union of one box with each of ``boxes``; 0 where both are empty."""
    size = boxes[:, 2:] - boxes[:, :2] + offset
    shared = torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2]) + offset
    intersection = shared.clamp(min=0).prod(1)
    own = (box[2:] - box[:2] + offset).prod()
    return (intersection / (own + size.prod(1) - intersection)).nan_to_num(0.0)
