"""What the networks for 32×32 images are built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from snnbench.networks import activations as activations  # registers QCFS, QuantReLU and RateNorm for act_cfg
from snnbench.registry import MODELS

__all__ = ["Pool", "activation", "conv_bn", "fully_connected", "initialise", "pooling"]

Pool = Literal["average", "max"]
POOLS: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


def activation(act_cfg: Any) -> nn.Module:
    """The activation of one site: of ``act_cfg``, or a ReLU."""
    return nn.ReLU() if act_cfg is None else MODELS.build(act_cfg)


def pooling(kind: str) -> nn.Module:
    """A pooling of 2×2.

    Raises:
        ValueError: neither ``"average"`` nor ``"max"``.
    """
    if kind not in POOLS:
        raise ValueError(f"pool is 'average' or 'max', got {kind!r}")
    return POOLS[kind](2)


def conv_bn(in_channels: int, channels: int, stride: int = 1, kernel_size: int = 3) -> list[nn.Module]:
    """A convolution without bias that keeps the size at stride 1, and BatchNorm."""
    conv = nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


def initialise(network: nn.Module) -> None:
    """He et al. (arXiv 1502.01852, eq. 10) for convolutions; torch's own for the rest."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def fully_connected(
    features: int, hidden: Sequence[int], num_classes: int, dropout: float, act_cfg: Any
) -> nn.Sequential:
    """The layers behind the convolutions, with dropout before each."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Dropout(dropout), nn.Linear(features, width), activation(act_cfg)]
        features = width
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(features, num_classes))
