"""Networks for 32×32 images, by the names configs use: ``dict(type="CifarResNet", depth=20)``.

``act_cfg`` builds the activation of each site, ``dict(type="ReLU")`` by default; see `activations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from snnbench.networks import models
from snnbench.networks.cifar_parts import Pool, activation, conv_bn, fully_connected, initialise, pooling
from snnbench.networks.cifar_residual import (
    CifarPreActResNet18,
    CifarPreActResNet34,
    CifarPreActResNet50,
    CifarPreActResNet101,
    CifarResNet18,
    CifarResNet34,
)
from snnbench.networks.strided import StridedAlexNet, StridedVGG, StridedVGG11
from snnbench.registry import MODELS

__all__ = [
    "CifarAlexNet", "CifarPreActResNet18", "CifarPreActResNet34", "CifarPreActResNet50", "CifarPreActResNet101",
    "CifarResNet18", "CifarResNet34", "CifarVGG", "StridedAlexNet", "StridedVGG", "StridedVGG11", "cifar_resnet",
]  # fmt: skip

VGG_STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


@MODELS.register_module(name="CifarResNet")
def cifar_resnet(
    depth: int = 20, num_classes: int = 10, pad_shortcut: bool = True, act_cfg: Any = None
) -> models.CifarResNet:
    """`snnbench.networks.models.CifarResNet` from a config: ResNet-20, -32, -44, -56, -110.

    >>> sum(p.numel() for p in cifar_resnet(20).parameters())
    269722
    """
    return models.CifarResNet(depth, num_classes, pad_shortcut, lambda: activation(act_cfg))


@MODELS.register_module()
class CifarVGG(nn.Module):
    """VGG-11, -13, -16 or -19 (Simonyan and Zisserman, arXiv 1409.1556, Table 1) with BatchNorm, for CIFAR.

    Five stages halve 32×32 to 1×1.

    Args:
        depth: 11, 13, 16 or 19.
        num_classes: number of logits.
        pool: ``"average"``, as the conversion literature has it, or ``"max"``.
        hidden: widths of the fully connected layers before the last; the paper's are ``(4096, 4096)``.
        dropout: before each fully connected layer.
        act_cfg: of every activation.

    Shapes: ``[B, 3, 32, 32]`` to ``[B, num_classes]``.

    Raises:
        ValueError: another depth or pool.

    >>> import torch
    >>> CifarVGG(11)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        depth: int = 16,
        num_classes: int = 10,
        pool: Pool = "average",
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        act_cfg: Any = None,
    ) -> None:
        super().__init__()
        if depth not in VGG_STAGES:
            raise ValueError(f"VGG's depth is one of {', '.join(map(str, VGG_STAGES))}, got {depth}")
        layers: list[nn.Module] = []
        in_channels = 3
        for stage in VGG_STAGES[depth]:
            for channels in stage:
                layers += [*conv_bn(in_channels, channels), activation(act_cfg)]
                in_channels = channels
            layers.append(pooling(pool))
        self.features = nn.Sequential(*layers)
        self.classifier = fully_connected(512, hidden, num_classes, dropout, act_cfg)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


@MODELS.register_module()
class CifarAlexNet(nn.Module):
    """AlexNet's channels (Krizhevsky et al., NeurIPS 2012) with 3×3 kernels and BatchNorm, for CIFAR.

    Pooling follows the first, second and fifth convolution: 32×32 to 4×4. Arguments, shapes and errors as for
    `CifarVGG`.
    """

    def __init__(
        self,
        num_classes: int = 10,
        pool: Pool = "average",
        hidden: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
        act_cfg: Any = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        for channels, pooled in ((96, True), (256, True), (384, False), (384, False), (256, True)):
            layers += [*conv_bn(in_channels, channels), activation(act_cfg), *([pooling(pool)] if pooled else [])]
            in_channels = channels
        self.features = nn.Sequential(*layers)
        self.classifier = fully_connected(256 * 4 * 4, hidden, num_classes, dropout, act_cfg)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
