"""Residual networks for 32×32 images: a 3×3 stem without max-pooling, four stages of 64 to 512 channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from snnbench.networks.cifar_parts import activation, conv_bn, initialise
from snnbench.registry import MODELS

__all__ = [
    "CifarPreActResNet18", "CifarPreActResNet34", "CifarPreActResNet50", "CifarPreActResNet101", "CifarResNet18",
    "CifarResNet34",
]  # fmt: skip

Shortcut = Literal["sum", "activation"]
SHORTCUTS = ("sum", "activation")
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
CHANNELS = (64, 128, 256, 512)


class Residual(nn.Module):
    """Two 3×3 convolutions, BatchNorm before and an activation after each sum; a projection where shapes differ."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, act_cfg: Any) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *conv_bn(in_channels, channels, stride), activation(act_cfg), *conv_bn(channels, channels)
        )
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_bn(in_channels, channels, stride, 1))
        self.act = activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.shortcut(x))


class PreActResidual(nn.Module):
    """BatchNorm and activation come before each convolution (He et al., arXiv 1603.05027, Figure 4e).

    Args:
        in_channels, channels, stride: of the block; the output has ``expansion`` times ``channels``.
        act_cfg: of every activation.
        shortcut: where shapes agree, it carries the ``"sum"`` that comes in, or its ``"activation"``, which the branch
            reads, too. A projection always reads the activation.
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, act_cfg: Any, shortcut: Shortcut = "sum") -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = activation(act_cfg)
        self._branch(in_channels, channels, stride, act_cfg)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        self.carries_sum = shortcut == "sum"

    def _branch(self, in_channels: int, channels: int, stride: int, act_cfg: Any) -> None:
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = activation(act_cfg)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)

    def branch(self, y: Tensor) -> Tensor:
        """What is added to the shortcut."""
        return self.conv2(self.act2(self.bn2(self.conv1(y))))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(x))
        if self.shortcut is not None:
            return self.branch(y) + self.shortcut(y)
        return self.branch(y) + (x if self.carries_sum else y)


class PreActBottleneck(PreActResidual):
    """1×1, 3×3 and 1×1 convolutions; the first one has the stride, the last one four times the channels."""

    expansion = 4

    def _branch(self, in_channels: int, channels: int, stride: int, act_cfg: Any) -> None:
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = activation(act_cfg)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.act3 = activation(act_cfg)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)

    def branch(self, y: Tensor) -> Tensor:
        return self.conv3(self.act3(self.bn3(super().branch(y))))


def _stages(block: Callable[..., Any], expansion: int, blocks: Sequence[int], act_cfg: Any) -> nn.Sequential:
    """The blocks behind the stem, 32×32 to 4×4."""
    layers: list[nn.Module] = []
    in_channels = CHANNELS[0]
    for channels, count in zip(CHANNELS, blocks, strict=True):
        for number in range(count):
            stride = 2 if number == 0 and channels != CHANNELS[0] else 1
            layers.append(block(in_channels, channels, stride, act_cfg))
            in_channels = channels * expansion
    return nn.Sequential(*layers)


@MODELS.register_module()
class CifarResNet18(nn.Module):
    """ResNet-18 (arXiv 1512.03385, Table 1) for CIFAR.

    Args:
        num_classes: number of logits.
        act_cfg: of every activation.

    Shapes: ``[B, 3, 32, 32]`` to ``[B, num_classes]``.
    """

    depth = 18

    def __init__(self, num_classes: int = 10, act_cfg: Any = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 64), activation(act_cfg))
        self.blocks = _stages(Residual, 1, BLOCKS[self.depth], act_cfg)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


@MODELS.register_module()
class CifarResNet34(CifarResNet18):
    """ResNet-34; as `CifarResNet18`."""

    depth = 34


@MODELS.register_module()
class CifarPreActResNet18(nn.Module):
    """Pre-activation ResNet-18 (He et al., arXiv 1603.05027) for CIFAR.

    Args:
        num_classes: number of logits.
        act_cfg: of every activation.
        shortcut: ``"sum"``: an identity carries the sum on, as published; ``"activation"``: relu(bn(sum)), as in the
            network of the rate norm layer's authors (arXiv 2105.11654).

    Shapes: ``[B, 3, 32, 32]`` to ``[B, num_classes]``.

    Raises:
        ValueError: another shortcut.
    """

    depth = 18
    block: type[PreActResidual] = PreActResidual

    def __init__(self, num_classes: int = 10, act_cfg: Any = None, shortcut: Shortcut = "sum") -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise ValueError(f"{type(self).__name__}: shortcut must be one of {SHORTCUTS}, got {shortcut!r}")
        expansion = self.block.expansion

        def block(in_channels: int, channels: int, stride: int, act_cfg: Any) -> nn.Module:
            return self.block(in_channels, channels, stride, act_cfg, shortcut)

        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.blocks = _stages(block, expansion, BLOCKS[self.depth], act_cfg)
        self.bn = nn.BatchNorm2d(512 * expansion)
        self.act = activation(act_cfg)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512 * expansion, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.bn(self.blocks(self.stem(x)))))


@MODELS.register_module()
class CifarPreActResNet34(CifarPreActResNet18):
    """Pre-activation ResNet-34; as `CifarPreActResNet18`."""

    depth = 34


@MODELS.register_module()
class CifarPreActResNet50(CifarPreActResNet18):
    """Pre-activation ResNet-50, of bottlenecks; as `CifarPreActResNet18`."""

    depth = 50
    block = PreActBottleneck


@MODELS.register_module()
class CifarPreActResNet101(CifarPreActResNet50):
    """Pre-activation ResNet-101, of bottlenecks; as `CifarPreActResNet18`."""

    depth = 101
