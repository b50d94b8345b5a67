"""YOLOv2 with ReLU: backbone, neck and head, as mmdet modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.utils import filter_scores_and_topk
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.model import BaseModule, bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from snnbench.networks.layers import conv_bn_act
from snnbench.networks.yolov2_boxes import assign, decode, encode, split_map

__all__ = ["PassthroughNeck", "TinyDarknet", "YOLOv2Head"]


@MODELS.register_module()
class TinyDarknet(BaseModule):
    """The seven 3×3 convolutions of Tiny YOLOv2 with ReLU, stride 32 (Redmon & Farhadi, arXiv 1612.08242).

    Args:
        downsample: ``"pool"``: as published, a 2×2 max-pooling after each of the first five layers and one with
            stride 1, padded on the right and below, after the sixth. ``"stride"``: as in Fast-SNN (TPAMI 2023,
            arXiv 2305.19868; the authors' public code), where the first five convolutions have stride 2 and nothing
            is pooled.
        widths: channels of the seven layers.
        act_cfg: of every activation; see `activations`.

    Shapes:
        ``[B, 3, H, W]`` to ``([B, widths[-1], H/32, W/32],)``.

    Raises:
        ValueError: another ``downsample``, or not seven widths.

    >>> TinyDarknet("stride", (4, 4, 4, 4, 8, 8, 16))(torch.rand(1, 3, 64, 96))[0].shape
    torch.Size([1, 16, 2, 3])
    """

    def __init__(
        self,
        downsample: str = "pool",
        widths: Sequence[int] = (16, 32, 64, 128, 256, 512, 1024),
        act_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or [dict(type="Kaiming", layer="Conv2d")])
        if downsample not in ("pool", "stride"):
            raise ValueError(f"TinyDarknet: downsample must be 'pool' or 'stride', got {downsample!r}")
        if len(widths) != 7:
            raise ValueError(f"TinyDarknet: widths must name seven layers, got {tuple(widths)}")
        pool = downsample == "pool"
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
            layers.append(conv_bn_act(before, after, stride=2 if number < 5 and not pool else 1, act_cfg=act_cfg))
            if pool and number < 5:
                layers.append(nn.MaxPool2d(2, 2))
            elif pool and number == 5:
                layers += [nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)]  # behind a ReLU, zeros change no maximum
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(x),)


@MODELS.register_module()
class PassthroughNeck(BaseModule):
    """YOLOv2's passthrough (arXiv 1612.08242, "Fine-Grained Features"): stride-16 features join those of stride 32.

    As in Fast-SNN's YOLOv2-ResNet-34 (the authors' public code): deep features through 1×1, 3×3, 3×3; shallow ones
    through 1×1 and the reorganisation that turns each 2×2 block of positions into channels; concatenated.

    Args:
        in_channels: of the maps with stride 16 and 32.
        channels: width of the deep path.
        route_channels: of the 1×1 convolution on the shallow path; four times as many leave it.
        act_cfg: of every activation; see `activations`.

    Shapes:
        ``([B, C16, 2h, 2w], [B, C32, h, w])`` to ``([B, 4·route_channels + channels, h, w],)``.

    >>> PassthroughNeck((4, 8), 16, 2)((torch.rand(1, 4, 6, 6), torch.rand(1, 8, 3, 3)))[0].shape
    torch.Size([1, 24, 3, 3])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 1024,
        route_channels: int = 128,
        act_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or [dict(type="Kaiming", layer="Conv2d")])
        shallow, deep = in_channels
        self.deep = nn.Sequential(
            conv_bn_act(deep, channels, 1, act_cfg=act_cfg),
            conv_bn_act(channels, channels, act_cfg=act_cfg),
            conv_bn_act(channels, channels, act_cfg=act_cfg),
        )
        self.route = conv_bn_act(shallow, route_channels, 1, act_cfg=act_cfg)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        shallow, deep = inputs
        return (torch.cat([F.pixel_unshuffle(self.route(shallow), 2), self.deep(deep)], dim=1),)


@MODELS.register_module()
class YOLOv2Head(BaseDenseHead):
    """YOLOv2's head (Redmon & Farhadi, arXiv 1612.08242): a 3×3 convolution, ReLU, and one 1×1 prediction layer.

    ``forward`` is convolutions and ReLU alone; σ, exp, softmax and NMS are in ``predict_by_feat``.

    Loss, summed over places and averaged over the batch's images (Darknet's region layer):

    - coordinates of a responsible anchor: coord_scale·(2 − w·h)·‖(σ(t_x), σ(t_y), t_w, t_h) − target‖², w and h as
      fractions of the image, so that small boxes weigh up to twice as much;
    - its confidence: object_scale·(IoU(box, truth) − σ(t_o))²;
    - every other confidence whose box overlaps no truth by more than ``ignore_iou``: noobject_scale·σ(t_o)²;
    - its class: class_scale·cross-entropy.

    Args:
        num_classes: C.
        in_channels: of the map it reads.
        feat_channels: of the 3×3 convolution.
        anchors: A pairs (width, height) in cells.
        stride: pixels a cell.
        ignore_iou, object_scale, noobject_scale, coord_scale, class_scale: of the loss.
        act_cfg: of its one activation; see `activations`.
        train_cfg: unused, mmdet gives it.
        test_cfg: ``nms_pre``, ``score_thr``, ``nms``, ``max_per_img``, as in mmdet.

    Shapes:
        ``([B, in_channels, h, w],)`` to ``(([B, A·(5 + C), h, w],),)``.

    >>> head = YOLOv2Head(num_classes=3, in_channels=8, feat_channels=8)
    >>> head((torch.rand(1, 8, 2, 2),))[0][0].shape
    torch.Size([1, 40, 2, 2])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 1024,
        anchors: Sequence[Sequence[float]] = ((1.19, 1.98), (2.79, 4.59), (4.53, 8.92), (8.06, 5.29), (10.32, 10.65)),
        stride: int = 32,
        ignore_iou: float = 0.6,
        object_scale: float = 5.0,
        noobject_scale: float = 1.0,
        coord_scale: float = 1.0,
        class_scale: float = 1.0,
        act_cfg: Any = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or [dict(type="Kaiming", layer="Conv2d")])
        self.num_classes = num_classes
        self.stride = stride
        self.ignore_iou = ignore_iou
        self.object_scale = object_scale
        self.noobject_scale = noobject_scale
        self.coord_scale = coord_scale
        self.class_scale = class_scale
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        self.conv = conv_bn_act(in_channels, feat_channels, act_cfg=act_cfg)
        self.predictor = nn.Conv2d(feat_channels, len(anchors) * (5 + num_classes), 1)
        self._init_predictor()

    def init_weights(self) -> None:
        super().init_weights()
        self._init_predictor()

    def _init_predictor(self) -> None:
        """Almost nowhere is an object: start the confidences at 0.01, or their loss drowns the others."""
        nn.init.normal_(self.predictor.weight, std=0.01)
        assert self.predictor.bias is not None
        bias = self.predictor.bias.data.view(len(self.anchors), -1)
        bias.zero_()
        bias[:, 4] = bias_init_with_prob(0.01)

    def forward(self, x: Sequence[Tensor]) -> tuple[tuple[Tensor]]:
        return ((self.predictor(self.conv(x[0])),),)

    def predict_by_feat(
        self,
        pred_maps: Sequence[Tensor],
        batch_img_metas: Sequence[dict[str, Any]],
        cfg: Any = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Boxes, scores σ(t_o)·softmax(class) and labels of each image, after class-wise NMS."""
        cfg = self.test_cfg if cfg is None else cfg
        raw = split_map(pred_maps[0].detach(), len(self.anchors))
        boxes = decode(raw, self.anchors, self.stride).flatten(1, 3)
        scores = (raw[..., 4:5].sigmoid() * raw[..., 5:].softmax(dim=-1)).flatten(1, 3)
        results = []
        for image_boxes, image_scores, meta in zip(boxes, scores, batch_img_metas, strict=True):
            top, labels, kept, _ = filter_scores_and_topk(
                image_scores, cfg.get("score_thr", 0.0), cfg.get("nms_pre", 1000)
            )
            height, width = meta["img_shape"][:2]
            limit = image_boxes.new_tensor([width, height, width, height])
            found = InstanceData(bboxes=torch.minimum(image_boxes[kept].clamp(min=0), limit), scores=top, labels=labels)
            results.append(self._bbox_post_process(found, cfg, rescale=rescale, with_nms=with_nms, img_meta=meta))
        return results

    def loss_by_feat(
        self,
        pred_maps: Sequence[Tensor],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict[str, Any]],
        batch_gt_instances_ignore: Sequence[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """The four sums of the class docstring, each divided by the number of images."""
        raw = split_map(pred_maps[0].float(), len(self.anchors))
        ignored = batch_gt_instances_ignore or [None] * len(raw)
        images = [self._image_loss(*image) for image in zip(raw, batch_gt_instances, ignored, strict=True)]
        return {name: torch.stack([image[name] for image in images]).mean() for name in images[0]}

    def _image_loss(self, raw: Tensor, truth: InstanceData, ignored: InstanceData | None) -> dict[str, Tensor]:
        """Losses of one image; ``raw`` is ``[A, h, w, 5 + C]``."""
        height, width = raw.shape[1:3]
        boxes = get_box_tensor(truth.bboxes).to(raw)
        predicted = decode(raw.detach(), self.anchors, self.stride)
        confidence = raw[..., 4].sigmoid()
        known = boxes if ignored is None else torch.cat([boxes, get_box_tensor(ignored.bboxes).to(raw)])
        empty = torch.ones_like(confidence, dtype=torch.bool)
        if len(known):
            overlap = bbox_overlaps(predicted.reshape(-1, 4), known).amax(dim=1).view_as(confidence)
            empty = overlap <= self.ignore_iou

        place = assign(boxes, self.anchors, self.stride, height, width)
        at = (place.anchor, place.row, place.column)
        empty[at] = False
        own = raw[at]
        coordinates = torch.cat([own[:, :2].sigmoid(), own[:, 2:4]], dim=1)
        target = encode(boxes, place, self.anchors, self.stride)
        size = boxes[place.box, 2:] - boxes[place.box, :2]
        weight = 2 - size.prod(dim=1) / (height * width * self.stride**2)
        iou = bbox_overlaps(predicted[at], boxes[place.box], is_aligned=True)
        return {
            "loss_coord": self.coord_scale * (weight[:, None] * (coordinates - target) ** 2).sum(),
            "loss_object": self.object_scale * ((iou - confidence[at]) ** 2).sum(),
            "loss_noobject": self.noobject_scale * (confidence[empty] ** 2).sum(),
            "loss_class": self.class_scale
            * F.cross_entropy(own[:, 5:], truth.labels[place.box].to(raw.device), reduction="sum"),
        }
