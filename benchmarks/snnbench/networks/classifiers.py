"""Networks for 32×32 images, by the names configs use: ``dict(type="CifarResNet", depth=20)``.

``act_cfg`` builds the activation of each site, ``dict(type="ReLU")`` by default; see `activations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from snnbench.networks import activations as activations  # registers RateNorm and QuantReLU for act_cfg
from snnbench.networks import models
from snnbench.registry import MODELS

__all__ = ["CifarAlexNet", "CifarPreActResNet18", "CifarResNet18", "CifarVGG", "StridedVGG", "cifar_resnet"]

Pool = Literal["average", "max"]
POOLS: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}
VGG_STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


def _activation(act_cfg: Any) -> nn.Module:
    return nn.ReLU() if act_cfg is None else MODELS.build(act_cfg)


def _pool(kind: str) -> nn.Module:
    if kind not in POOLS:
        raise ValueError(f"pool is 'average' or 'max', got {kind!r}")
    return POOLS[kind](2)


def _conv_bn(in_channels: int, channels: int, stride: int = 1, kernel_size: int = 3) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


def _initialise(network: nn.Module) -> None:
    """He et al. (arXiv 1502.01852, eq. 10) for convolutions; torch's own for the rest."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _classifier(features: int, hidden: Sequence[int], num_classes: int, dropout: float, act_cfg: Any) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Dropout(dropout), nn.Linear(features, width), _activation(act_cfg)]
        features = width
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(features, num_classes))


@MODELS.register_module(name="CifarResNet")
def cifar_resnet(
    depth: int = 20, num_classes: int = 10, pad_shortcut: bool = True, act_cfg: Any = None
) -> models.CifarResNet:
    """`snnbench.networks.models.CifarResNet` from a config: ResNet-20, -32, -44, -56, -110.

    >>> sum(p.numel() for p in cifar_resnet(20).parameters())
    269722
    """
    return models.CifarResNet(depth, num_classes, pad_shortcut, lambda: _activation(act_cfg))


class Residual(nn.Module):
    """Two 3×3 convolutions, BatchNorm before and an activation after each sum; a projection where shapes differ."""

    def __init__(self, in_channels: int, channels: int, stride: int, act_cfg: Any) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_conv_bn(in_channels, channels, stride), _activation(act_cfg), *_conv_bn(channels, channels)
        )
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv_bn(in_channels, channels, stride, 1))
        self.act = _activation(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.shortcut(x))


class PreActResidual(nn.Module):
    """BatchNorm and activation come before each convolution (He et al., arXiv 1603.05027, Figure 4e)."""

    def __init__(self, in_channels: int, channels: int, stride: int, act_cfg: Any) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = _activation(act_cfg)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = _activation(act_cfg)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        same = stride == 1 and in_channels == channels
        self.shortcut = None if same else nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(x))
        # a projection reads the activation that the branch reads; the identity passes the sum on
        skip = x if self.shortcut is None else self.shortcut(y)
        return self.conv2(self.act2(self.bn2(self.conv1(y)))) + skip


def _stages(block: Callable[..., nn.Module], act_cfg: Any) -> nn.Sequential:
    """ResNet-18's eight blocks on a 3×3 stem: 64 to 512 channels, 32×32 to 4×4."""
    blocks: list[nn.Module] = []
    in_channels = 64
    for channels in (64, 128, 256, 512):
        stride = 1 if channels == 64 else 2
        blocks += [block(in_channels, channels, stride, act_cfg), block(channels, channels, 1, act_cfg)]
        in_channels = channels
    return nn.Sequential(*blocks)


@MODELS.register_module()
class CifarResNet18(nn.Module):
    """ResNet-18 (arXiv 1512.03385, Table 1) for CIFAR: a 3×3 stem with stride 1 and no max-pooling.

    Args:
        num_classes: number of logits.
        act_cfg: of every activation.

    Shapes: ``[B, 3, 32, 32]`` to ``[B, num_classes]``.
    """

    def __init__(self, num_classes: int = 10, act_cfg: Any = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_bn(3, 64), _activation(act_cfg))
        self.blocks = _stages(Residual, act_cfg)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


@MODELS.register_module()
class CifarPreActResNet18(nn.Module):
    """Pre-activation ResNet-18 (He et al., arXiv 1603.05027) for CIFAR; arguments and shapes of `CifarResNet18`."""

    def __init__(self, num_classes: int = 10, act_cfg: Any = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.blocks = _stages(PreActResidual, act_cfg)
        self.bn = nn.BatchNorm2d(512)
        self.act = _activation(act_cfg)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.bn(self.blocks(self.stem(x)))))


@MODELS.register_module()
class CifarVGG(nn.Module):
    """VGG-11 or VGG-16 (Simonyan and Zisserman, arXiv 1409.1556, Table 1, A and D) with BatchNorm, for CIFAR.

    Five stages halve 32×32 to 1×1.

    Args:
        depth: 11 or 16.
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
                layers += [*_conv_bn(in_channels, channels), _activation(act_cfg)]
                in_channels = channels
            layers.append(_pool(pool))
        self.features = nn.Sequential(*layers)
        self.classifier = _classifier(512, hidden, num_classes, dropout, act_cfg)
        _initialise(self)

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
            layers += [*_conv_bn(in_channels, channels), _activation(act_cfg), *([_pool(pool)] if pooled else [])]
            in_channels = channels
        self.features = nn.Sequential(*layers)
        self.classifier = _classifier(256 * 4 * 4, hidden, num_classes, dropout, act_cfg)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


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
            layers += [*_conv_bn(channels, width, 2), _activation(act_cfg)]
            layers += [*_conv_bn(width, width), _activation(act_cfg)]
            channels = width
        side = 32 // 2 ** len(widths)
        self.features = nn.Sequential(*layers)
        self.classifier = _classifier(channels * side * side, (128,), num_classes, 0.0, act_cfg)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x))
        return out
