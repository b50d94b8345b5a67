"""Networks for event frames, by the names configs use."""

from __future__ import annotations

from torch import Tensor, nn

from snnbench.registry import MODELS

__all__ = ["FrameNetwork"]


@MODELS.register_module()
class FrameNetwork(nn.Module):
    """A small convolutional network of event frames: two convolutions, each with an average pooling, and a readout.

    Args:
        size: height and width of a frame, a multiple of 4.
        num_classes: outputs.

    Shapes: ``[B, 2, size, size]`` to ``[B, num_classes]``.

    >>> import torch
    >>> FrameNetwork(16)(torch.zeros(3, 2, 16, 16)).shape
    torch.Size([3, 10])
    """

    def __init__(self, size: int, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(32 * (size // 4) ** 2, num_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out
