"""Uniformly quantised activation with a learned clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnconv.activations.base import TrainedActivation
from snnconv.graph.source import Site, broadcast

__all__ = ["QuantReLU"]


class _Quantise(torch.autograd.Function):
    """Forward of :class:`QuantReLU` with the straight-through gradient for z and the LSQ gradient for the clip."""

    @staticmethod
    def forward(ctx, z: Tensor, clip: Tensor, levels: int, grad_scale: float) -> Tensor:
        steps = (z * levels / clip + 0.5).floor().clamp(0, levels)
        ctx.save_for_backward(z, clip, steps)
        ctx.levels, ctx.grad_scale = levels, grad_scale
        return steps * (clip / levels)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, clip, steps = ctx.saved_tensors
        inside = (z > 0) & (z < clip)
        # d out / d clip: rounding error / clip inside, 1 above, 0 below (LSQ, arXiv 1902.08153, eq. 3)
        slope = torch.where(inside, steps / ctx.levels - z / clip, (z >= clip).to(z))
        grad_clip = (grad * slope * ctx.grad_scale).sum_to_size(clip.shape)
        return grad * inside, grad_clip, None, None


def straight_through(z: Tensor, clip: Tensor, levels: int, grad_scale: float = 1.0) -> Tensor:
    """clip(⌊zL/α + 1/2⌋, 0, L)·α/L with a straight-through gradient for z and LSQ's, scaled, for the clip α.

    >>> straight_through(torch.tensor([0.3]), torch.tensor(1.0), 2)
    tensor([0.5000])
    """
    out: Tensor = _Quantise.apply(z, clip, levels, grad_scale)
    return out


class QuantReLU(TrainedActivation):
    r"""Quantised ReLU with ``levels`` levels above zero and a learned clip (QCFS, Fast-SNN, shifted-threshold).

    .. math:: y = \frac{\alpha}{L}\,\mathrm{clip}(\lfloor zL/\alpha + 1/2\rfloor, 0, L)

    (arXiv 2305.19868 eq. 6; arXiv 2302.02091 with λ = α; arXiv 2312.06900.) Rounding is half up, which is what an
    integrate-and-fire neuron started at θ/2 does.

    Args:
        levels: L, number of levels above zero; T steps of (signed) IF carry T levels, of shifted-threshold IF 2^T − 1.
        clip: initial α in units of z; a float, or one value per channel.
        channels: number of channels, to learn one clip per channel from a scalar ``clip``.
        axis: channel axis of ``[B, C, ...]``.

    Shapes: input and output ``[B, ...]``.

    Raises:
        ValueError: ``levels`` < 1, or a clip that is not positive.

    >>> QuantReLU(levels=2, clip=1.0)(torch.tensor([-1.0, 0.2, 0.3, 2.0]))
    tensor([0.0000, 0.0000, 0.5000, 1.0000], grad_fn=<_QuantiseBackward>)
    """

    def __init__(self, levels: int, clip: float | Tensor = 4.0, channels: int | None = None, axis: int = 1) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels must be at least 1, got {levels}")
        value = torch.as_tensor(clip, dtype=torch.float32)
        if channels is not None and value.dim() == 0:
            value = value.expand(channels)
        if not bool((value > 0).all()):
            raise ValueError("clip must be positive")
        self.levels = levels
        self.axis = axis
        self.clip = nn.Parameter(value.clone())

    def forward(self, z: Tensor) -> Tensor:
        clip = self.clip.abs().clamp(min=1e-6).to(z.dtype)
        scale = (self.clip.numel() / max(z.numel(), 1) / self.levels) ** 0.5
        return straight_through(z, broadcast(clip, z.dim(), self.axis), self.levels, scale)

    def site(self, name: str) -> Site:
        clip = self.clip.detach().abs().clamp(min=1e-6).clone()
        return Site(name, kind="quant", axis=self.axis, threshold=clip, levels=self.levels)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, clips={self.clip.numel()}"
