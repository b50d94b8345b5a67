"""AlexNet and VGG-11 whose strided convolutions halve the image, as Fast-SNN has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from snnbench.networks.cifar_parts import activation, conv_bn, fully_connected, initialise
from snnbench.registry import MODELS

__all__ = ["StridedAlexNet", "StridedVGG", "StridedVGG11"]


@MODELS.register_module()
class StridedVGG(nn.Module):
    """A small VGG for 32×32 images whose stages halve by strided convolutions: every operator has a NIR node.

    Three stages of two convolutions with BatchNorm, then two fully connected layers.

    Args:
        widths: channels of each stage.
        num_classes: number of logits.
        act_cfg: of every activation.

    Shapes: ``[B, 3, 32, 32]`` to ``[B, num_classes]``.

    >>> import torch
    >>> StridedVGG()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128), num_classes: int = 10, act_cfg: Any = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [*conv_bn(channels, width, 2), activation(act_cfg)]
            layers += [*conv_bn(width, width), activation(act_cfg)]
            channels = width
        side = 32 // 2 ** len(widths)
        self.features = nn.Sequential(*layers)
        self.classifier = fully_connected(channels * side * side, (128,), num_classes, 0.0, act_cfg)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x))
        return out


@MODELS.register_module()
class StridedAlexNet(nn.Module):
    """Fast-SNN's AlexNet for CIFAR (Hu et al., TPAMI 2023, arXiv 2305.19868; the authors' public code).

    3×3 convolutions with BatchNorm, strides in place of pooling, fully connected layers with BatchNorm, no dropout.

    Args:
        num_classes: number of logits.
        act_cfg: of every activation.

    Shapes: ``[B, 3, 32, 32]`` to ``[B, num_classes]``.

    >>> import torch
    >>> StridedAlexNet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    CHANNELS: Sequence[int] = (96, 256, 384, 384, 256)
    STRIDES: Sequence[int] = (1, 2, 2, 1, 2)
    HIDDEN: Sequence[int] = (2048,)

    def __init__(self, num_classes: int = 10, act_cfg: Any = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = 3, 32
        for width, stride in zip(self.CHANNELS, self.STRIDES, strict=True):
            layers += [*conv_bn(channels, width, stride), activation(act_cfg)]
            channels, side = width, side // stride
        layers.append(nn.Flatten())
        features = channels * side * side
        for width in self.HIDDEN:
            layers += [nn.Linear(features, width), nn.BatchNorm1d(width), activation(act_cfg)]
            features = width
        self.layers = nn.Sequential(*layers, nn.Linear(features, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


@MODELS.register_module()
class StridedVGG11(StridedAlexNet):
    """Fast-SNN's VGG-11 for CIFAR; as `StridedAlexNet`.

    >>> import torch
    >>> StridedVGG11(100)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 100])
    """

    CHANNELS = (64, 128, 256, 256, 512, 512, 512, 512)
    STRIDES = (1, 2, 1, 2, 1, 2, 1, 2)
    HIDDEN = (4096, 4096)
