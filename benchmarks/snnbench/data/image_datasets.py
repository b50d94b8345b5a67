"""Data sets of images for mmengine data loaders: whole batches from memory, or files of class folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from snnbench.data.images import load_images
from snnbench.data.roots import DataError, resolve
from snnbench.registry import DATASETS, TRANSFORMS
from snnconv.files.pictures import open_rgb
from snnconv.files.untrusted import UntrustedFileError

__all__ = ["SKIPPED", "ImageFolder", "InMemoryImages", "take"]

SKIPPED = -1  # label of an image that could not be read: no part of loss or accuracy
FOLDER_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp", ".tif", ".tiff")
Sample = dict[str, Any]


def take(count: int, indices: int | Sequence[int] | None) -> Tensor:
    """Which samples to keep, of ``count`` in an order that is the same every time: files come sorted by class."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    if indices is None:
        return order
    if isinstance(indices, int):
        if indices < 1:
            raise ValueError(f"indices is a number of samples from 1 or a list, got {indices}")
        return order[:indices]
    return order[list(indices)]


@DATASETS.register_module()
class InMemoryImages(Dataset[Sample]):
    """Images of one size, decoded once, cached and held in memory; the loader gets whole batches.

    A loader asks for a batch by its list of indices (``__getitems__``), and the batch is cut, augmented and handed
    over as a whole, so that an epoch costs no more than its arithmetic. Samplers, batch size, sharding over ranks and
    epoch seeds are mmengine's own. The random numbers of a batch follow from ``seed`` and the batch's indices alone:
    a shuffling sampler gives new ones in every epoch, and a resumed run the same ones as one that was never stopped.

    Args:
        root: folder or zip, or a ``dataset:`` string; see `image_data.load_images`.
        split: ``"train"`` or ``"test"``.
        pipeline: batch transforms (`augment`), for instance ``[dict(type="BatchFlip")]``.
        classes: names of the class folders in the order of the labels; None sorts them.
        indices: the first so many images of an order fixed once for all, or a list of places in that order.
        seed: of the augmentation.

    Raises:
        DataError: no such images, or damaged ones.
    """

    def __init__(
        self,
        root: str,
        split: str = "train",
        pipeline: Sequence[Any] = (),
        classes: Sequence[str] | None = None,
        indices: int | Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', got {split!r}")
        images = load_images(Path(resolve(root)), split, classes)
        kept = take(len(images), indices)
        self.images, self.labels = images.images[kept], images.labels[kept]
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        self.seed = seed
        self.metainfo = {"classes": images.classes}

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int]) -> Sample:
        """uint8 ``inputs`` ``[B, C, H, W]`` and ``data_samples``: labels ``[B]`` or class weights ``[B, classes]``."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        images, labels = self.images[index], self.labels[index]
        generator = torch.Generator().manual_seed(_seed(self.seed, index))
        for transform in self.transforms:
            images, labels = transform(images, labels, generator)
        return {"inputs": images, "data_samples": labels}

    def __getitem__(self, index: int) -> Sample:
        return {key: value[0] for key, value in self.batch([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        # one item that is a batch: mmengine's pseudo_collate passes it on, the preprocessor takes it as it is
        return [self.batch(indices)]


def _seed(seed: int, index: Tensor) -> int:
    digest = hashlib.blake2b(index.numpy().tobytes(), digest_size=8, salt=seed.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little") >> 1


@DATASETS.register_module()
class ImageFolder(Dataset[Sample]):
    """Image files in one folder a class (``<root>/<class>/<name>.JPEG``), read when they are asked for.

    Args:
        root: folder, or a ``dataset:`` string.
        pipeline: transforms of one PIL image, the last of which gives a uint8 tensor ``[3, H, W]``.
        classes: names of the class folders in the order of the labels; None sorts them; ``"imagenet"`` stands for the
            1,000 wnids of ILSVRC 2012, sorted, of which some may be absent.
        indices: the first so many images of an order fixed once for all, or a list of places in that order.
        skip_broken: an image that cannot be read becomes a black one labelled `SKIPPED`, which `TopK` counts apart,
            instead of an error.

    Raises:
        DataError: no class folders, a folder that is no class, or (when it is read) a damaged image.
    """

    def __init__(
        self,
        root: str,
        pipeline: Sequence[Any],
        classes: Sequence[str] | str | None = None,
        indices: int | Sequence[int] | None = None,
        skip_broken: bool = False,
    ) -> None:
        self.root = Path(resolve(root))
        folders = _class_folders(self.root)
        names = _class_names(folders, classes)
        if foreign := [name for name in folders if name not in names]:
            raise DataError(f"{self.root}: {foreign[0]} is no class; move it away")
        files = [(os.path.join(name, file), names[name]) for name in folders for file in _images(self.root / name)]
        if not files:
            raise DataError(f"{self.root} holds no images in its class folders")
        self.files = [files[i] for i in take(len(files), indices).tolist()]
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        self.skip_broken = skip_broken
        self.metainfo = {"classes": tuple(names)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        from PIL import Image

        file, label = self.files[index]
        try:
            image = open_rgb(self.root / file)
        except (UntrustedFileError, OSError) as error:
            if not self.skip_broken:
                raise DataError(f"{error}, or set skip_broken=True") from error
            image, label = Image.new("RGB", (256, 256)), SKIPPED
        for transform in self.transforms:
            image = transform(image)
        return {"inputs": image, "data_samples": torch.tensor(label)}


def _class_folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise DataError(f"{root} has no class folders: the images must lie in one folder a class, not side by side")
    return folders


def _class_names(folders: list[str], classes: Sequence[str] | str | None) -> dict[str, int]:
    """Class name → label."""
    if classes == "imagenet":
        names = folders if len(folders) == 1000 else _wnids()
    elif isinstance(classes, str):
        raise ValueError(f"classes is a list of names, 'imagenet' or None, got {classes!r}")
    else:
        names = folders if classes is None else list(classes)
    return {name: label for label, name in enumerate(names)}


def _wnids() -> list[str]:
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise DataError(
            "a part of ImageNet (fewer than 1,000 class folders) needs timm for the full list of wnids: "
            "pip install timm"
        ) from error
    return sorted(ImageNetInfo("imagenet-1k").label_names())


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.lower().endswith(FOLDER_SUFFIXES))
