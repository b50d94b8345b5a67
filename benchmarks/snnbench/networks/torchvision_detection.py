"""torchvision's one-stage detectors as mmdet detectors, with torchvision's own weights where wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.detectors.single_stage import SingleStageDetector
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from snnbench.networks.torchvision_weights import torchvision_network

__all__ = ["TorchvisionDetectionHead", "TorchvisionDetector"]

_UNFIT = ("fasterrcnn", "keypointrcnn", "maskrcnn", "ssd")
_NO_EPS = "retinanet_resnet50_fpn"
"""torchvision's weights of this network were trained with BatchNorm's ε = 0."""
_SMALLEST = torch.finfo(torch.float32).tiny
"""Changes no variance that is not 0 itself; PyTorch 2.11 refuses ε = 0."""


class TorchvisionDetectionHead(BaseDenseHead):
    """The convolutions of torchvision's RetinaNet or FCOS head, and its own decoding and loss of what they give.

    Args:
        network: torchvision's detector; its backbone is not kept.

    Shapes:
        maps ``[B, C, h, w]`` of every level to class scores ``[B, A·91, h, w]``, box offsets ``[B, A·4, h, w]`` and,
        for FCOS, centre-ness ``[B, A, h, w]``, each a tuple over the levels.
    """

    def __init__(self, network: Any) -> None:
        super().__init__(init_cfg=None)
        self.classification, self.regression = network.head.classification_head, network.head.regression_head
        head, network.backbone = network.head, nn.Identity()
        del network.head
        network.__dict__["head"] = head  # for its loss: its convolutions stand in this module, and nowhere else
        self.rest = network  # anchors, box coder, thresholds, loss; without a parameter
        names = detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]  # 91 with gaps
        self.numbers = [number for number, name in enumerate(names) if name not in ("__background__", "N/A")]
        self.labels = {number: place for place, number in enumerate(self.numbers)}

    def forward(self, features: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], ...]:
        scores, boxes, centres = [], [], []
        for x in features:
            scores.append(self.classification.cls_logits(self.classification.conv(x)))
            y = self.regression.conv(x)
            boxes.append(self.regression.bbox_reg(y))
            if hasattr(self.regression, "bbox_ctrness"):
                centres.append(self.regression.bbox_ctrness(y))
        return (tuple(scores), tuple(boxes), tuple(centres)) if centres else (tuple(scores), tuple(boxes))

    def predict_by_feat(
        self,
        scores: Sequence[Tensor],
        boxes: Sequence[Tensor],
        centres: Sequence[Tensor] = (),
        batch_img_metas: Sequence[dict[str, Any]] = (),
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Boxes, scores and labels of each image in mmdet's numbering, after torchvision's thresholds and NMS."""
        split, anchors, counts = self._placed([scores, boxes, *([centres] if centres else [])], batch_img_metas)
        sizes = [tuple(meta["img_shape"][:2]) for meta in batch_img_metas]
        found = self.rest.postprocess_detections(split, [list(a.split(counts)) for a in anchors], sizes)
        return [self._instances(*pair, rescale) for pair in zip(found, batch_img_metas, strict=True)]

    def loss_by_feat(self, *outputs: Any) -> dict[str, Tensor]:
        """torchvision's losses of what :meth:`forward` gives, of the boxes and labels of each image, and its meta."""
        *maps, instances, metas, _ = outputs
        split, anchors, counts = self._placed(maps, metas)
        numbers = torch.tensor(self.numbers, device=anchors[0].device)
        targets = [{"boxes": of_one.bboxes, "labels": numbers[of_one.labels]} for of_one in instances]
        by_level = (counts,) if len(maps) == 3 else ()
        joined = {name: torch.cat(levels, 1) for name, levels in split.items()}
        losses = self.rest.compute_loss(targets, joined, anchors, *by_level)
        return {f"loss_{name}": value for name, value in losses.items()}  # mmengine adds up what is called a loss

    def _placed(
        self, maps: Sequence[Sequence[Tensor]], metas: Sequence[dict[str, Any]]
    ) -> tuple[dict[str, list[Tensor]], list[Tensor], list[int]]:
        """Each level's maps as torchvision orders them, ``[B, places, numbers]``; anchors an image; their counts."""
        per_place = {"cls_logits": self.classification.num_classes, "bbox_regression": 4, "bbox_ctrness": 1}
        kinds = zip(per_place.items(), maps, strict=False)  # the last is FCOS's alone
        levels = {name: [_flat(m, numbers) for m in of_one] for (name, numbers), of_one in kinds}
        if len(maps) == 3:  # FCOS has distances for offsets
            levels["bbox_regression"] = [b.relu() for b in levels["bbox_regression"]]
        sizes = [tuple(meta["img_shape"][:2]) for meta in metas]
        padded = metas[0].get("batch_input_shape", sizes[0])
        images = ImageList(maps[0][0].new_empty(0, 3, *padded), sizes)
        anchors = self.rest.anchor_generator(images, list(maps[0]))
        return levels, anchors, [m.shape[1] for m in levels["cls_logits"]]

    def _instances(self, found: dict[str, Tensor], meta: dict[str, Any], rescale: bool) -> InstanceData:
        kept = [place for place, number in enumerate(found["labels"].tolist()) if number in self.labels]
        labels = [self.labels[number] for number in found["labels"][kept].tolist()]
        boxes = found["boxes"][kept]
        if rescale:
            boxes = boxes / boxes.new_tensor(meta["scale_factor"]).repeat(2)
        return InstanceData(
            bboxes=boxes, scores=found["scores"][kept], labels=torch.tensor(labels, device=boxes.device).long()
        )


class TorchvisionPyramid(nn.Module):
    """torchvision's backbone with its pyramid, its dictionary turned into a tuple."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.layers(x).values())


@MODELS.register_module()
class TorchvisionDetector(SingleStageDetector):
    """RetinaNet or FCOS of ``torchvision.models.detection`` under mmdet's training and evaluation.

    torchvision's weights expect RGB images normalised with the ImageNet mean and std, and know COCO's 80 classes.

    Args:
        name: ``retinanet_resnet50_fpn``, ``retinanet_resnet50_fpn_v2`` or ``fcos_resnet50_fpn``.
        weights: ``None`` (random), a name that torchvision knows such as ``"DEFAULT"`` (it downloads them), or the
            path of such a ``.pth`` file.
        score_thr: scores below are left out; ``None`` is torchvision's own.
        data_preprocessor, init_cfg: as in mmdet's detectors.
        test_cfg, train_cfg: unused, mmdet gives them.

    Raises:
        ValueError: torchvision has no such detector, or a file of weights that does not exist or is another network's.

    >>> model = TorchvisionDetector("fcos_resnet50_fpn").eval()
    >>> [len(maps) for maps in model.bbox_head(model.extract_feat(torch.rand(1, 3, 64, 64)))]
    [5, 5, 5]
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        score_thr: float | None = None,
        data_preprocessor: Any = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: Any = None,
    ) -> None:
        BaseDetector.__init__(self, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        options = {} if score_thr is None else {"score_thresh": score_thr}
        network = torchvision_network("TorchvisionDetector", detection, name, weights, _UNFIT, **options)
        if name == _NO_EPS and weights is not None:
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = _SMALLEST
        self.backbone = TorchvisionPyramid(network.backbone)
        self.bbox_head = TorchvisionDetectionHead(network)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def init_weights(self) -> None:
        """torchvision has initialised or loaded them."""


def _flat(maps: Tensor, numbers: int) -> Tensor:
    """``[B, A·numbers, h, w]`` to ``[B, h·w·A, numbers]``, the order of torchvision's anchors."""
    batch, _, height, width = maps.shape
    return maps.view(batch, -1, numbers, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, numbers)
