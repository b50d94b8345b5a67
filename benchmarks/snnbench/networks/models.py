"""The networks of the classification benchmarks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from snnbench.data.roots import DataError
from snnconv.files.refusal import brief

Activation = Callable[[], nn.Module]
Network = TypeVar("Network", bound=nn.Module)


class DigitsCNN(nn.Module):
    """Four 3×3 convolutions, BatchNorm, a residual add, max and average pooling; for ``[B, 1, 8, 8]``.

    ``activation`` makes the activation of each site, so that the same network trains with rate norm layers or
    quantised activations.
    """

    def __init__(self, activation: Activation = nn.ReLU, width: int = 24, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.act2 = activation()
        self.pool = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(2 * width)
        self.act3 = activation()
        self.conv4 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(2 * width)
        self.act4 = activation()
        self.mean = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.pool(self.act2(self.bn2(self.conv2(x))))
        y = self.act3(self.bn3(self.conv3(x)))
        x = self.act4(x + self.bn4(self.conv4(y)))
        return self.linear(self.flatten(self.mean(x)))


class PadShortcut(nn.Module):
    """Option A of He et al. (arXiv 1512.03385, section 3.3): every second position, missing channels zero."""

    def __init__(self, missing: int) -> None:
        super().__init__()
        self.missing = missing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = self.missing // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.missing - half))


def conv_shortcut(in_channels: int, out_channels: int) -> nn.Conv2d:
    """The same map as `PadShortcut`, as a strided 1×1 convolution whose weights are zeros and ones.

    A plain ``nn.Conv2d``, because a tracer looks into a subclass.
    """
    conv = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
    half = (out_channels - in_channels) // 2
    with torch.no_grad():
        conv.weight.zero_()
        for channel in range(in_channels):
            conv.weight[channel + half, channel] = 1.0
    conv.weight.requires_grad_(False)
    return conv


class BasicBlock(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, stride: int, pad_shortcut: bool, activation: Activation = nn.ReLU
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = activation()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = activation()
        self.shortcut: nn.Module
        if stride == 1:
            self.shortcut = nn.Identity()
        elif pad_shortcut:
            self.shortcut = PadShortcut(out_channels - in_channels)
        else:
            self.shortcut = conv_shortcut(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet for CIFAR (He et al., arXiv 1512.03385, section 4.2), option A, ``[B, 3, 32, 32]``.

    ``depth`` is 6n + 2 (20, 32, 44, 56, 110). ``pad_shortcut=False`` writes the shortcuts as fixed convolutions
    instead: the same outputs and parameter names, for tools that refuse ``F.pad``. ``activation`` makes the
    activation of each site.
    """

    def __init__(
        self, depth: int = 20, classes: int = 10, pad_shortcut: bool = True, activation: Activation = nn.ReLU
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"the depth of a CIFAR ResNet is 6n + 2 (20, 32, 44, 56, 110), got {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = activation()
        self.layer1 = self._stage(16, 16, 1, blocks, pad_shortcut, activation)
        self.layer2 = self._stage(16, 32, 2, blocks, pad_shortcut, activation)
        self.layer3 = self._stage(32, 64, 2, blocks, pad_shortcut, activation)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(
        in_channels: int, channels: int, stride: int, blocks: int, pad_shortcut: bool, activation: Activation
    ) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride, pad_shortcut, activation)
        rest = (BasicBlock(channels, channels, 1, pad_shortcut, activation) for _ in range(blocks - 1))
        return nn.Sequential(first, *rest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))


class ResNet20(CifarResNet):
    """`CifarResNet` of 20 layers."""

    def __init__(self, classes: int = 10, pad_shortcut: bool = True) -> None:
        super().__init__(20, classes, pad_shortcut)


def resnet20_cifar10(weights: Path) -> ResNet20:
    """ResNet-20 in eval mode with the weights of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(str(weights))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{weights} cannot be read as safetensors ({brief(error)})") from error
    model = ResNet20()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"{weights} does not hold the weights of a ResNet-20: {brief(error)}") from error
    return model.eval()


def with_conv_shortcuts(model: Network) -> Network:
    """A copy of ``model`` whose shortcuts are fixed convolutions; checked to give exactly equal outputs."""
    converted = copy.deepcopy(model).eval()
    for block in converted.modules():
        if isinstance(block, BasicBlock) and isinstance(block.shortcut, PadShortcut):
            block.shortcut = conv_shortcut(block.conv1.in_channels, block.conv1.out_channels).to(block.conv1.weight)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()))
    training = model.training
    model.eval()
    with torch.no_grad():
        equal = torch.equal(model(x), converted(x))
    model.train(training)
    if not equal:
        raise RuntimeError("the network with convolution shortcuts departs from the one with zero padding")
    return converted
