"""Rate norm layer."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from snnconv.graph import activation
from snnconv.graph.activation import Clip
from snnconv.graph.source import Site
from snnconv.graph.trained import TrainedActivation

__all__ = ["RateNorm"]


class RateNorm(TrainedActivation):
    r"""Rate norm layer (Ding et al., IJCAI 2021, arXiv 2105.11654, eq. 7-9).

    .. math:: y = \mathrm{clip}(z / \theta, 0, 1),\qquad \theta = p\,r

    r is the running maximum of relu(z) (updated in training with ``momentum``), p in (0, 1] a trainable scale:
    ``sigmoid`` of a parameter, or its absolute value. The converted neuron has threshold θ and emits unit spikes.

    Args:
        momentum: weight of the new batch maximum.
        scale: ``"sigmoid"`` or ``"abs"``.
        shared: a parameter to share between layers (one p for the whole network); :func:`snnconv.prepare` shares it
            among all sites of the copy it makes.
        scaled: give θ·y = clip(z, 0, θ), in units of z: the layer with the factor θ taken out of the next layer's
            weights, so that a network trained with ReLU keeps its function. The neuron then emits spikes of size θ.

    Shapes: input and output ``[B, ...]``; the output is in [0, 1], or in [0, θ] with ``scaled``.

    Raises:
        ValueError: a momentum outside (0, 1], an unknown scale.

    >>> layer = RateNorm().train()
    >>> float(layer(torch.tensor([[0.5, 2.0]])).max())
    1.0
    """

    def __init__(
        self,
        momentum: float = 0.1,
        scale: str = "sigmoid",
        shared: nn.Parameter | None = None,
        *,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1], got {momentum}")
        if scale not in ("sigmoid", "abs"):
            raise ValueError(f"scale must be 'sigmoid' or 'abs', got {scale!r}")
        self.momentum = momentum
        self.scale = scale
        self.scaled = scaled
        self.shared = shared is not None
        initial = torch.tensor(4.0 if scale == "sigmoid" else 1.0)
        self.p = shared if shared is not None else nn.Parameter(initial)
        self.register_buffer("running_max", torch.tensor(0.0))
        self.running_max: Tensor

    @property
    def theta(self) -> Tensor:
        """Threshold θ = p·r."""
        p = torch.sigmoid(self.p) if self.scale == "sigmoid" else self.p.abs().clamp(max=1.0)
        return p * self.running_max.clamp(min=1e-6)

    def forward(self, z: Tensor) -> Tensor:
        if self.training and z.numel():
            peak = z.detach().amax().clamp(min=0, max=self.cap).to(self.running_max)
            if self.running_max == 0:  # the first batch sets the maximum, so that early steps are not all clipped
                self.running_max.copy_(peak)
            else:
                self.running_max.lerp_(peak, self.momentum)
        theta = self.theta.to(z.dtype)
        return torch.minimum(z.clamp(min=0), theta) if self.scaled else (z / theta).clamp(0, 1)

    def site(self, name: str) -> Site:
        if float(self.running_max) <= 0:
            raise ValueError(
                f"{name}: this rate norm layer has seen no data (its running maximum is 0); train it first"
            )
        theta = self.theta.detach().clone()
        return Site(name, Clip(theta) if self.scaled else activation.RateNorm(theta))

    def start_at(self, theta: Tensor) -> None:
        """Set the running maximum r; p is as it was."""
        self.running_max.copy_(theta.max())

    def placed(self, site: Site, channels: int | None, first: Self | None) -> Self:
        twin = super().placed(site, channels, first)
        if self.shared and first is not None:
            twin.p = first.p
        return twin

    def extra_repr(self) -> str:
        return f"momentum={self.momentum}, scale={self.scale}, running_max={float(self.running_max):.4g}"
