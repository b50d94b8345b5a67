"""Tiny data sets in the real file formats: a few drawn shapes, laid out as ``SNNCONV_DATA`` is.

``write_all(folder)`` fills a folder with ``VOCdevkit/``, ``coco/``, ``coco_stuff/``, ``camvid/`` and ``bccd/``; each
``write_*`` makes one of them. Pictures are 96×64 or 64×80 pixels.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
BCCD_CLASSES = ("RBC", "WBC", "Platelets")
SIZES = ((96, 64), (64, 80))


@dataclass(frozen=True)
class Shape:
    """A filled rectangle or ellipse: (x1, y1, x2, y2) in pixels, both ends drawn."""

    kind: str
    box: tuple[int, int, int, int]
    label: int

    def draw(self, canvas: ImageDraw.ImageDraw, fill: int | tuple[int, int, int]) -> None:
        (canvas.rectangle if self.kind == "rectangle" else canvas.ellipse)(self.box, fill=fill)

    @property
    def polygon(self) -> list[float]:
        x1, y1, x2, y2 = self.box
        return [x1, y1, x2 + 1, y1, x2 + 1, y2 + 1, x1, y2 + 1]


@dataclass(frozen=True)
class Scene:
    """Image size and shapes; the same for the same number and number of classes."""

    size: tuple[int, int]
    shapes: tuple[Shape, ...]

    def image(self) -> Image.Image:
        noise = np.random.default_rng(self.size[0]).integers(0, 40, (self.size[1], self.size[0], 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        canvas = ImageDraw.Draw(image)
        for shape in self.shapes:
            shape.draw(canvas, tuple(60 + 37 * (shape.label + k) % 190 for k in (0, 2, 5)))
        return image

    def mask(self, labels: Callable[[int], int], background: int) -> Image.Image:
        mask = Image.new("L", self.size, background)
        canvas = ImageDraw.Draw(mask)
        for shape in self.shapes:
            shape.draw(canvas, labels(shape.label))
        return mask


def scene(number: int, classes: int) -> Scene:
    """Two shapes that do not touch, one on each side."""
    width, height = SIZES[number % len(SIZES)]
    random = np.random.default_rng(number)
    shapes = []
    for side in range(2):
        low, high = side * width // 2 + 2, (side + 1) * width // 2 - 4
        x1, y1 = int(random.integers(low, low + 6)), int(random.integers(2, height // 3))
        x2, y2 = int(random.integers(high - 6, high)), int(random.integers(height // 2, height - 4))
        shapes.append(Shape(("rectangle", "ellipse")[(number + side) % 2], (x1, y1, x2, y2), (number + side) % classes))
    return Scene((width, height), tuple(shapes))


def write_all(folder: Path) -> Path:
    """Every data set; returns ``folder``, the value for ``SNNCONV_DATA``."""
    write_voc_detection(folder / "VOCdevkit" / "VOC2007", {"trainval": 3, "test": 2})
    write_voc_detection(folder / "VOCdevkit" / "VOC2012", {"trainval": 3})
    write_voc_segmentation(folder / "VOCdevkit" / "VOC2012")
    write_coco(folder / "coco")
    write_coco_stuff(folder / "coco_stuff")
    write_camvid(folder / "camvid")
    write_bccd(folder / "bccd")
    return folder


def write_voc_detection(root: Path, splits: dict[str, int], classes: tuple[str, ...] = VOC_CLASSES) -> None:
    """``JPEGImages``, ``Annotations`` and ``ImageSets/Main`` of Pascal VOC; boxes count from 1, as VOC's do."""
    number = 0
    for split, count in splits.items():
        names = []
        for _ in range(count):
            name = f"{number:06d}"
            names.append(name)
            picture = scene(number, len(classes))
            _save(picture.image(), root / "JPEGImages" / f"{name}.jpg")
            _save_xml(picture, classes, root / "Annotations" / f"{name}.xml")
            number += 1
        _save_lines(names, root / "ImageSets" / "Main" / f"{split}.txt")


def write_voc_segmentation(root: Path) -> None:
    """``SegmentationClass`` with train and val, ``SegmentationClassAug`` with aug: 0 background, 255 void."""
    number = 100
    for split, count in {"train": 2, "aug": 2, "val": 2}.items():
        names = []
        for _ in range(count):
            name = f"2012_{number:06d}"
            names.append(name)
            picture = scene(number, len(VOC_CLASSES))
            mask = picture.mask(lambda label: label + 1, 0)
            ImageDraw.Draw(mask).rectangle((0, 0, 3, 3), fill=255)
            mask.putpalette([value for k in range(256) for value in (k, k * 3 % 256, k * 7 % 256)])
            _save(picture.image(), root / "JPEGImages" / f"{name}.jpg")
            _save(mask, root / ("SegmentationClassAug" if split == "aug" else "SegmentationClass") / f"{name}.png")
            number += 1
        _save_lines(names, root / "ImageSets" / "Segmentation" / f"{split}.txt")


def write_coco(root: Path) -> None:
    """``train2017``, ``val2017`` and ``annotations/instances_*.json`` with polygons, and one run-length crowd."""
    # COCO's category ids have gaps: here every tenth id is missing
    ids = [k + 1 + k // 9 for k in range(80)]
    categories = [{"id": i, "name": name, "supercategory": "thing"} for i, name in zip(ids, COCO_CLASSES, strict=True)]
    for split, start, count in (("train2017", 1, 3), ("val2017", 50, 2)):
        images, annotations = [], []
        for number in range(start, start + count):
            picture = scene(number, 20)
            width, height = picture.size
            name = f"{number:012d}.jpg"
            _save(picture.image(), root / split / name)
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for shape in picture.shapes:
                x1, y1, x2, y2 = shape.box
                box = [x1, y1, x2 + 1 - x1, y2 + 1 - y1]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": ids[shape.label],
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                        "segmentation": [shape.polygon],
                    }
                )
        crowd = {"size": [images[0]["height"], images[0]["width"]], "counts": [0, 2]}
        crowd["counts"].append(crowd["size"][0] * crowd["size"][1] - 2)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": start,
                "category_id": ids[0],
                "bbox": [0, 0, 1, 2],
                "area": 2,
                "iscrowd": 1,
                "segmentation": crowd,
            }
        )
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def write_coco_stuff(root: Path) -> None:
    """``images/*`` and ``annotations/*_labelTrainIds.png``: things 0 … 79, stuff from 80, 255 void."""
    for split, start, count in (("train2017", 1, 3), ("val2017", 50, 2)):
        for number in range(start, start + count):
            picture = scene(number, 80)
            mask = picture.mask(lambda label: label, 150)
            ImageDraw.Draw(mask).rectangle((0, 0, 3, 3), fill=255)
            _save(picture.image(), root / "images" / split / f"{number:012d}.jpg")
            _save(mask, root / "annotations" / split / f"{number:012d}_labelTrainIds.png")


def write_camvid(root: Path, train: int = 3, test: int = 2) -> None:
    """``img_dir`` and ``ann_dir`` with train, val, test: 11 classes, 255 void."""
    number = 0
    for split, count in {"train": train, "val": 2, "test": test}.items():
        for _ in range(count):
            picture = scene(number, 11)
            mask = picture.mask(lambda label: label, 3)
            ImageDraw.Draw(mask).rectangle((0, 0, 3, 3), fill=255)
            _save(picture.image(), root / "img_dir" / split / f"{number:04d}.jpg")
            _save(mask, root / "ann_dir" / split / f"{number:04d}.png")
            number += 1


def write_bccd(root: Path) -> None:
    """BCCD is in Pascal VOC's layout, without a year's folder."""
    write_voc_detection(root, {"train": 3, "val": 2, "test": 2}, BCCD_CLASSES)
    sets = root / "ImageSets" / "Main"
    _save_lines(
        [*(sets / "train.txt").read_text().split(), *(sets / "val.txt").read_text().split()], sets / "trainval.txt"
    )


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _save_lines(lines: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _save_xml(picture: Scene, classes: tuple[str, ...], path: Path) -> None:
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = f"{path.stem}.jpg"
    size = ET.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*picture.size, 3), strict=True):
        ET.SubElement(size, name).text = str(value)
    for shape in picture.shapes:
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = classes[shape.label]
        ET.SubElement(item, "difficult").text = "0"
        box = ET.SubElement(item, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), shape.box, strict=True):
            ET.SubElement(box, name).text = str(value + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(path)
