"""Focal losses (Lin et al., ICCV 2017, arXiv 1708.02002) as ``mmcv._ext`` has them: unreduced, derivative apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each logit into ``output``, with ``p = sigmoid(input)``:

        class is the target   -alpha (1 - p)^gamma log(p)
        it is not             -(1 - alpha) p^gamma log(1 - p)

    Args:
        input: logits ``[N, C]``.
        target: class of each row ``[N]``; any number outside of 0 to C - 1, such as C, is background.
        weight: factor of each row by its target's class ``[C]``, or empty; a background row has factor 1.
        output: ``[N, C]``, overwritten.
        gamma: focus on hard rows.
        alpha: weight of the target class against the others.
    """
    x = _working(input)
    p = x.sigmoid()
    hit = -alpha * (1 - p).pow(gamma) * F.logsigmoid(x)
    miss = -(1 - alpha) * p.pow(gamma) * F.logsigmoid(-x)
    output.copy_(torch.where(_is_target(x, target), hit, miss) * _row_weight(target, weight)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of :func:`sigmoid_focal_loss_forward` by each logit into ``grad_input`` ``[N, C]``:

    class is the target   -alpha (1 - p)^gamma (1 - p - gamma p log(p))
    it is not              (1 - alpha) p^gamma (p - gamma (1 - p) log(1 - p))
    """
    x = _working(input)
    p = x.sigmoid()
    hit = -alpha * (1 - p).pow(gamma) * (1 - p - gamma * p * F.logsigmoid(x))
    miss = (1 - alpha) * p.pow(gamma) * (p - gamma * (1 - p) * F.logsigmoid(-x))
    grad_input.copy_(torch.where(_is_target(x, target), hit, miss) * _row_weight(target, weight)[:, None])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write ``-alpha (1 - p)^gamma log(p)`` of each row into ``output``, ``p`` being its target's probability.

    Args:
        input: probabilities (after the softmax) ``[N, C]``.
        target: class of each row ``[N]``; a negative one is left out (loss 0).
        weight: factor of each row by its target's class ``[C]``, or empty.
        output: ``[N]``, overwritten.
        gamma: focus on hard rows.
        alpha: weight of the whole.
    """
    p = _target_probability(_working(input), target)
    loss = -alpha * (1 - p).pow(gamma) * p.log()
    output.copy_(torch.where(target >= 0, loss * _row_weight(target, weight), 0.0))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of :func:`softmax_focal_loss_forward` by each logit into ``grad_input`` ``[N, C]``.

    ``alpha (gamma (1 - p)^(gamma - 1) p log(p) - (1 - p)^gamma)``, times ``1 - p`` at the target and ``-q`` at a class
    of probability ``q``; the first part is left in ``buff`` ``[N]``.
    """
    q = _working(input)
    p = _target_probability(q, target)
    far = (1 - p).clamp(min=torch.finfo(p.dtype).tiny)  # at p = 1 with gamma < 1 its power would be infinite, times 0
    rise = gamma * far.pow(gamma - 1) * p * p.log() - (1 - p).pow(gamma)
    row = torch.where(target >= 0, alpha * rise * _row_weight(target, weight), 0.0)
    buff.copy_(row)
    grad_input.copy_(row[:, None] * (_is_target(q, target).to(q.dtype) - q))


def _working(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _is_target(x: Tensor, target: Tensor) -> Tensor:
    return target[:, None] == torch.arange(x.shape[1], device=x.device)


def _row_weight(target: Tensor, weight: Tensor) -> Tensor:
    """Factor of each row ``[N]``."""
    if not len(weight):
        return torch.ones((), device=target.device).expand(target.shape)
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.clamp(0, len(weight) - 1)], 1.0)


def _target_probability(q: Tensor, target: Tensor) -> Tensor:
    """The target's probability in each row ``[N]``, kept off 0, where its logarithm is infinite."""
    return q.gather(1, target.clamp(min=0)[:, None])[:, 0].clamp(min=torch.finfo(q.dtype).tiny)
