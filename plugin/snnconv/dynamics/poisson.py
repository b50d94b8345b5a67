"""Poisson input: an image as random spikes, in place of a constant current."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["poisson_input"]


def poisson_input(
    x: Tensor, timesteps: int, *, scale: float | None = None, generator: torch.Generator | None = None
) -> Tensor:
    r"""Random spikes whose mean over time is the input: rate coding of the input layer, for ``run_sequence``.

    .. math:: s[t] = c\,\mathrm{sign}(x)\,[u_t < |x|/c],\qquad u_t \sim U(0, 1)

    Ding et al. (IJCAI 2021, arXiv 2105.11654) offer it beside the constant current, with c = 1. Its variance after T
    steps is |x|(c − |x|)/T: expect more steps than with a constant current.

    Args:
        x: input ``[B, ...]``.
        timesteps: T.
        scale: c, size of a spike; values beyond it are cut off. None: the largest \|x\|, so that nothing is.
        generator: of the random numbers, on the device of ``x``.

    Returns:
        ``[T, B, ...]``, values −c, 0, c.

    Raises:
        ValueError: ``timesteps`` below 1, a ``scale`` that is not above 0, an input that is not finite.

    >>> spikes = poisson_input(torch.tensor([[0.5, -1.0]]), 1000, generator=torch.Generator().manual_seed(0))
    >>> spikes.shape, [round(value, 1) for value in spikes.mean(0)[0].tolist()]
    (torch.Size([1000, 1, 2]), [0.5, -1.0])
    """
    if timesteps < 1:
        raise ValueError(f"timesteps must be at least 1, got {timesteps}")
    if scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"scale must be above 0 and finite, got {scale}")
    size = x.abs()
    if x.numel() and not bool(torch.isfinite(size.amax())):
        raise ValueError("the input holds NaN or infinity, which no rate of spikes stands for")
    largest = float(size.amax()) if scale is None and x.numel() else scale or 0.0
    draws = torch.rand((timesteps, *x.shape), generator=generator, device=x.device, dtype=torch.float32)
    return (draws * largest < size) * x.sign() * largest
