"""ResNet as Fast-SNN uses it for dense prediction: a 7×7 stem with stride 4 and no max-pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import build_activation_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from snnbench.networks import activations as activations  # registers RateNorm and QuantReLU for act_cfg

__all__ = ["StrideStemResNet"]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
CHANNELS = (64, 128, 256, 512)


class Block(nn.Module):
    """Basic residual block; each of its two activations is a module of its own, so that both can be trained ones."""

    def __init__(self, in_channels: int, channels: int, stride: int, act_cfg: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = build_activation_layer(act_cfg)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = build_activation_layer(act_cfg)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.downsample(x))


@MODELS.register_module()
class StrideStemResNet(BaseModule):
    """ResNet-18 or -34 (He et al., arXiv 1512.03385, Table 1) whose stem reaches stride 4 by its convolution alone.

    In Fast-SNN (Hu et al., TPAMI 2023, arXiv 2305.19868; the authors' public code) YOLOv2 and DeepLabv3 stand on a
    ResNet-34 without the max-pooling after the stem: max-pooling spikes is not max-pooling activations. Parameters
    are named as torchvision's, so ``init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet34")`` loads
    ImageNet weights. Registered in mmengine's root registry: mmdet and mmseg both find it.

    Args:
        depth: 18 or 34.
        strides: of the four stages; ``(1, 2, 2, 1)`` ends at stride 16, the default at 32.
        out_indices: which stages' outputs are returned.
        act_cfg: of every activation; see `activations`.

    Shapes:
        ``[B, 3, H, W]`` to one map per stage in ``out_indices``: 64, 128, 256, 512 channels.

    Raises:
        ValueError: another depth, or not four strides.

    >>> import torch
    >>> [tuple(y.shape) for y in StrideStemResNet(18, out_indices=(2, 3))(torch.rand(1, 3, 64, 64))]
    [(1, 256, 4, 4), (1, 512, 2, 2)]
    """

    def __init__(
        self,
        depth: int = 34,
        strides: Sequence[int] = (1, 2, 2, 2),
        out_indices: Sequence[int] = (3,),
        act_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or [dict(type="Kaiming", layer="Conv2d")])
        if depth not in BLOCKS:
            raise ValueError(f"StrideStemResNet: depth must be one of {tuple(BLOCKS)}, got {depth}")
        if len(strides) != 4:
            raise ValueError(f"StrideStemResNet: strides must name four stages, got {tuple(strides)}")
        act_cfg = act_cfg or dict(type="ReLU")
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=4, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = build_activation_layer(act_cfg)
        before = 64
        for number, (channels, blocks, stride) in enumerate(zip(CHANNELS, BLOCKS[depth], strides, strict=True), 1):
            first = Block(before, channels, stride, act_cfg)
            stage = nn.Sequential(first, *(Block(channels, channels, 1, act_cfg) for _ in range(blocks - 1)))
            setattr(self, f"layer{number}", stage)
            before = channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.relu(self.bn1(self.conv1(x)))
        outputs = []
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            outputs.append(x)
        return tuple(outputs[i] for i in self.out_indices)
