"""The networks of the classification benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from .data import DataError

Activation = Callable[[], nn.Module]


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
    def __init__(self, in_channels: int, out_channels: int, stride: int, pad_shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
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


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR (He et al., arXiv 1512.03385, section 4.2), option A, ``[B, 3, 32, 32]``.

    ``pad_shortcut=False`` writes the shortcuts as fixed convolutions instead: the same outputs and parameter
    names, for tools that refuse ``F.pad``.
    """

    def __init__(self, classes: int = 10, pad_shortcut: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, 1, pad_shortcut)
        self.layer2 = self._stage(16, 32, 2, pad_shortcut)
        self.layer3 = self._stage(32, 64, 2, pad_shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(in_channels: int, channels: int, stride: int, pad_shortcut: bool) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride, pad_shortcut)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1, pad_shortcut) for _ in range(2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))


def resnet20_cifar10(weights: Path) -> ResNet20:
    """ResNet-20 in eval mode with the weights of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(str(weights))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{weights} cannot be read as safetensors ({error})") from error
    model = ResNet20()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"{weights} does not hold the weights of a ResNet-20: {error}") from error
    return model.eval()


def with_conv_shortcuts(model: ResNet20) -> ResNet20:
    """A copy of ``model`` whose shortcuts are fixed convolutions; checked to give exactly equal outputs."""
    copy = ResNet20(classes=model.linear.out_features, pad_shortcut=False)
    fixed = {k: v for k, v in copy.state_dict().items() if ".shortcut." in k}
    copy.load_state_dict({**model.state_dict(), **fixed})
    copy.eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    training = model.training
    model.eval()
    with torch.no_grad():
        equal = torch.equal(model(x), copy(x))
    model.train(training)
    if not equal:
        raise RuntimeError("the network with convolution shortcuts departs from the one with zero padding")
    return copy
