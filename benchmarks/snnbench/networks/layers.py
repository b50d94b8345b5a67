"""Building blocks of the networks in this folder."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import build_activation_layer
from torch import nn

from snnbench.networks import activations as activations  # registers RateNorm and QuantReLU for act_cfg

__all__ = ["conv_bn_act"]


def conv_bn_act(
    in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1, act_cfg: Any = None
) -> nn.Sequential:
    """Convolution (no bias, "same" padding for odd kernels), BatchNorm, activation: one spiking layer.

    Args:
        in_channels, out_channels, kernel_size, stride, dilation: of the convolution.
        act_cfg: of the activation, ``dict(type="ReLU")`` by default; see `activations`.

    >>> import torch
    >>> conv_bn_act(3, 8, stride=2)(torch.rand(1, 3, 16, 16)).shape
    torch.Size([1, 8, 8, 8])
    """
    padding = dilation * (kernel_size - 1) // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), build_activation_layer(act_cfg or dict(type="ReLU")))
