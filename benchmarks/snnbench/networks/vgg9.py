"""The VGG of Fast-SNN's DeepLab-v1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from snnbench.networks.layers import conv_bn_act

__all__ = ["VGG9"]


@MODELS.register_module()
class VGG9(BaseModule):
    """The first seven of the nine convolutions of DeepLabv1-VGG9 (Fast-SNN, TPAMI 2023, arXiv 2305.19868).

    DeepLab-v1 with a large field of view (Chen et al., arXiv 1412.7062), thinned to nine layers. As in the authors'
    public code: strided convolutions instead of max-pooling, BatchNorm everywhere, output stride 8, the last two
    3×3 convolutions with dilation 2. Layer 8 (3×3, dilation 12, 1024 channels) and layer 9 (1×1, classes) are
    mmseg's ``FCNHead(num_convs=1, dilation=12, channels=1024, concat_input=False)``.

    Args:
        widths: channels of the seven layers.
        act_cfg: of every activation; see `activations`.

    Shapes:
        ``[B, 3, H, W]`` to ``([B, widths[-1], ⌈H/8⌉, ⌈W/8⌉],)``.

    Raises:
        ValueError: not seven widths.

    >>> import torch
    >>> VGG9(widths=(8, 8, 8, 8, 16, 16, 16))(torch.rand(1, 3, 33, 33))[0].shape
    torch.Size([1, 16, 5, 5])
    """

    STRIDES = (1, 2, 1, 2, 2, 1, 1)
    DILATIONS = (1, 1, 1, 1, 1, 2, 2)

    def __init__(
        self, widths: Sequence[int] = (64, 64, 128, 128, 256, 256, 256), act_cfg: Any = None, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg or [dict(type="Kaiming", layer="Conv2d")])
        if len(widths) != 7:
            raise ValueError(f"VGG9: widths must name seven layers, got {tuple(widths)}")
        channels = (3, *widths[:-1])
        self.layers = nn.Sequential(
            *(
                conv_bn_act(before, after, stride=stride, dilation=dilation, act_cfg=act_cfg)
                for before, after, stride, dilation in zip(channels, widths, self.STRIDES, self.DILATIONS, strict=True)
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)
