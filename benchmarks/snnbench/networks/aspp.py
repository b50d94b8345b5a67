"""The atrous spatial pyramid of Fast-SNN's DeepLab-v3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from snnbench.networks.layers import conv_bn_act

__all__ = ["ParallelASPPHead"]


@MODELS.register_module()
class ParallelASPPHead(BaseDecodeHead):
    """The head of DeepLabv3-ResNet-34+ASPP in Fast-SNN (TPAMI 2023, arXiv 2305.19868; the authors' public code).

    Atrous spatial pyramid pooling (Chen et al., arXiv 1706.05587, section 3.3) without the image-level branch, whose
    global mean and upsampling would leave the spike domain: a 1×1 and one dilated 3×3 convolution for each further
    dilation, concatenated, a 1×1 projection, a 3×3 convolution, the 1×1 classifier.

    Args:
        dilations: of the branches; 1 stands for the 1×1 convolution.
        **kwargs: of mmseg's ``BaseDecodeHead``; ``channels`` is the width of every branch.

    Shapes:
        the map at ``in_index``, ``[B, in_channels, h, w]``, to logits ``[B, classes, h, w]``.

    >>> head = ParallelASPPHead(in_channels=16, channels=8, num_classes=5)
    >>> head((torch.rand(2, 16, 6, 6),)).shape
    torch.Size([2, 5, 6, 6])
    """

    def __init__(self, dilations: Sequence[int] = (1, 6, 12, 18, 24), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        act = self.act_cfg
        self.branches = nn.ModuleList(
            conv_bn_act(self.in_channels, self.channels, 1 if dilation == 1 else 3, dilation=dilation, act_cfg=act)
            for dilation in dilations
        )
        self.project = conv_bn_act(len(dilations) * self.channels, self.channels, 1, act_cfg=act)
        self.mix = conv_bn_act(self.channels, self.channels, act_cfg=act)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        x = self._transform_inputs(inputs)
        x = torch.cat([branch(x) for branch in self.branches], dim=1)
        return self.cls_seg(self.mix(self.project(x)))
