"""COCO's instance annotations as segmentation masks, in Pascal VOC's classes or in COCO's own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get_text, join_path
from mmseg.datasets import BaseSegDataset, COCOStuffDataset, PascalVOCDataset
from mmseg.registry import DATASETS, TRANSFORMS

__all__ = ["COCOMaskDataset", "LoadCOCOMasks", "draw"]

VOID = 255
# Pascal VOC's names where COCO uses other ones
VOC_IN_COCO = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


@DATASETS.register_module()
class COCOMaskDataset(BaseSegDataset):
    """Segmentation from ``instances_*.json``: class 0 is background, other categories than the chosen are background.

    Masks are drawn by the transform `LoadCOCOMasks`, which takes the place of mmseg's ``LoadAnnotations``.

    Args:
        ann_file: the json file, below ``data_root``.
        classes: ``"voc"``: the 20 classes of Pascal VOC in its order, as torchvision's segmentation weights are
            trained; ``"coco"``: COCO's 80.
        min_area: leave out images whose chosen instances have at most this many pixels in all (torchvision trains
            with 1000).
        **kwargs: of mmseg's ``BaseSegDataset``.

    Raises:
        ValueError: other ``classes``, a category that the json file lacks, or no image left.
    """

    def __init__(self, ann_file: str, classes: str = "voc", min_area: float = 0, **kwargs: Any) -> None:
        if classes == "voc":
            names = PascalVOCDataset.METAINFO["classes"]
            palette = PascalVOCDataset.METAINFO["palette"]
        elif classes == "coco":
            names = ("background", *COCOStuffDataset.METAINFO["classes"][:80])  # "things" come first
            palette = [[0, 0, 0], *COCOStuffDataset.METAINFO["palette"][:80]]
        else:
            raise ValueError(f"COCOMaskDataset: classes must be 'voc' or 'coco', got {classes!r}")
        self.kind = classes
        self.min_area = min_area
        super().__init__(ann_file=ann_file, metainfo=dict(classes=names, palette=palette), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        content = json.loads(get_text(self.ann_file, backend_args=self.backend_args))
        ids = {category["name"]: category["id"] for category in content["categories"]}
        labels = {}
        for label, name in enumerate(self.metainfo["classes"][1:], 1):
            coco_name = VOC_IN_COCO.get(name, name)
            if coco_name not in ids:
                raise ValueError(f"{self.ann_file} has no category {coco_name!r}")
            labels[ids[coco_name]] = label
        instances: dict[Any, list[Any]] = defaultdict(list)
        area: dict[Any, float] = defaultdict(float)
        for one in content["annotations"]:
            if one["category_id"] in labels:
                mask = dict(label=labels[one["category_id"]], segmentation=one["segmentation"])
                instances[one["image_id"]].append(mask)
                area[one["image_id"]] += one["area"]
        found = [
            dict(
                img_path=join_path(self.data_prefix["img_path"], image["file_name"]),
                mask_shape=(image["height"], image["width"]),
                instances=instances[image["id"]],
                label_map=None,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for image in content["images"]
            if not self.min_area or area[image["id"]] > self.min_area
        ]
        if not found:
            raise ValueError(
                f"{self.ann_file} has no image with more than {self.min_area} pixels of its {self.kind} classes"
            )
        return found


@TRANSFORMS.register_module()
class LoadCOCOMasks(BaseTransform):
    """Draws ``gt_seg_map`` (``[H, W]``, uint8) from the instances that `COCOMaskDataset` lists.

    Behind a ``Resize`` it keeps the image's own size, as mmseg's ``LoadAnnotations`` does.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results["gt_seg_map"] = draw(results["instances"], *results["mask_shape"])
        results["seg_fields"].append("gt_seg_map")
        return results


def draw(instances: Sequence[dict[str, Any]], height: int, width: int) -> np.ndarray:
    """Label of every pixel; 0 outside of all instances, 255 (void) where several overlap, as in torchvision.

    Args:
        instances: each a ``label`` and a ``segmentation`` in COCO's format (polygons, or a run-length code).
        height, width: of the image.

    >>> square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    >>> draw([dict(label=7, segmentation=square)], 3, 3)
    array([[7, 7, 0],
           [7, 7, 0],
           [0, 0, 0]], dtype=uint8)
    """
    from pycocotools import mask as coco

    out = np.zeros((height, width), np.uint8)
    covered = np.zeros((height, width), bool)
    for instance in instances:
        code = instance["segmentation"]
        if isinstance(code, list):
            code = coco.merge(coco.frPyObjects(code, height, width))
        elif isinstance(code["counts"], list):
            code = coco.frPyObjects(code, height, width)
        inside = coco.decode(code).astype(bool)
        out[inside] = instance["label"]
        out[inside & covered] = VOID
        covered |= inside
    return out
