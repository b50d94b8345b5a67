"""Networks for small clips, by the names configs use."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from snnbench.registry import MODELS

__all__ = ["SmallR3D"]


class _Block(nn.Module):
    """Two 3×3×3 convolutions with a shortcut (Tran et al., arXiv 1711.11248, R3D)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, stride)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = _conv(channels, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv3d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm3d(channels)
            )
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.shortcut(x))


@MODELS.register_module()
class SmallR3D(nn.Module):
    """A 3-d ResNet for clips of about 8×32×32: a strided stem, a max-pooling, a residual block a stage, a mean.

    Args:
        num_classes: outputs.
        widths: channels of the stem and the first stage, then of each stage, which halves all three sizes.

    Shapes: ``[B, 3, T, H, W]`` to ``[B, num_classes]``.

    >>> import torch
    >>> SmallR3D(40)(torch.zeros(1, 3, 8, 32, 32)).shape
    torch.Size([1, 40])
    """

    def __init__(self, num_classes: int, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        stem = nn.Conv3d(3, widths[0], 3, (1, 2, 2), 1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm3d(widths[0]), nn.ReLU(inplace=True), nn.MaxPool3d((1, 2, 2)))
        blocks: list[nn.Module] = [_Block(widths[0], widths[0], 1)]
        blocks += [_Block(a, b, 2) for a, b in itertools.pairwise(widths)]
        self.stages = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(self.stages(self.stem(x))).flatten(1))
        return logits


def _conv(in_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv3d(in_channels, channels, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(channels))
