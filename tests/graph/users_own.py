"""What a user adds from outside the package: an activation kind, and an operator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snnconv.graph import axes
from snnconv.graph.activation import Activation, register_activation
from snnconv.graph.ops import Operator, register_operator


@dataclass(frozen=True)
class Squareplus(Activation):
    """(z + √(z² + b)) / 2."""

    name = "squareplus"

    b: float = 4.0

    def f(self, z: Tensor) -> Tensor:
        return (z + torch.sqrt(z * z + self.b)) / 2


def squareplus(z: Tensor, b: float = 4.0) -> Tensor:
    return Squareplus(b)(z)


class SquareplusLayer(nn.Module):
    def __init__(self, b: float = 4.0) -> None:
        super().__init__()
        self.b = b

    def forward(self, z: Tensor) -> Tensor:
        return squareplus(z, self.b) if float(z.detach().abs().max()) >= 0 else z  # does not trace


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    out = x * scale
    return out if shift is None else out + shift


register_activation(
    Squareplus,
    functions={squareplus: lambda b=4.0: Squareplus(b)},
    modules={SquareplusLayer: lambda layer: Squareplus(layer.b)},
)
register_operator(
    Operator(
        (scale_shift,),
        name="mine.scale_shift",
        parameters=("input", "scale", "shift"),
        kind=lambda given, varies: "linear" if given.get("shift") is None else "affine",
        role="scale",
        channels=axes.same,
    )
)
