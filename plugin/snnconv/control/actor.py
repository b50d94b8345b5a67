"""The deterministic part of a policy: observation to the mean action before it is squashed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Actor", "Normalise"]


class Normalise(nn.Module):
    """``clip((x − mean) / sqrt(var + ε), −c, c)``, as stable-baselines3's ``VecNormalize`` applies it.

    Mean and variance are buffers: a saved network, spiking or not, holds them.

    Args:
        features: length of an observation.
        clip: c.
        epsilon: ε.

    Shapes: ``[B, features]`` to the same.

    >>> layer = Normalise(2)
    >>> layer.set(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 1.0]))
    >>> [round(v, 4) for v in layer(torch.tensor([[3.0, 50.0]]))[0].tolist()]
    [1.0, 10.0]
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.clip = float(clip)
        self.epsilon = float(epsilon)

    def set(self, mean: Tensor, variance: Tensor) -> None:
        """Take over statistics ``[features]``."""
        self.mean.copy_(mean)
        self.scale.copy_((variance.double() + self.epsilon).rsqrt())

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) * self.scale).clamp(-self.clip, self.clip)

    def extra_repr(self) -> str:
        return f"{len(self.mean)}, clip={self.clip:g}"


class Actor(nn.Module):
    """Linear layers with ReLU between them, and the observations' normalisation before them.

    The action is ``tanh`` of the output, scaled to the environment's bounds. That comes after the readout: the tanh of
    a mean over steps, not the mean of a tanh.

    Args:
        sizes: of the observation, of each hidden layer, of the action.
        normalised: whether a `Normalise` comes first.

    Shapes: ``[B, sizes[0]]`` to ``[B, sizes[-1]]``.

    >>> Actor([9, 64, 64, 1])(torch.zeros(5, 9)).shape
    torch.Size([5, 1])
    """

    def __init__(self, sizes: Sequence[int], normalised: bool = False) -> None:
        super().__init__()
        if len(sizes) < 3:
            raise ValueError(f"an actor has an input, at least one hidden layer and an output, got sizes {list(sizes)}")
        self.sizes = list(sizes)
        self.normalise: nn.Module = Normalise(sizes[0]) if normalised else nn.Identity()
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    @property
    def normalised(self) -> bool:
        """Whether observations are normalised."""
        return isinstance(self.normalise, Normalise)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.normalise(x))
        return out
