"""Where the CIFAR-10 benchmark finds its images and weights; decoding and caching are `snnbench.data.images`."""

from __future__ import annotations

from pathlib import Path

from snnbench.data.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageSet,
    decode_images,
    load_originals,
    normalise,
    store_tensors,
    write_whole,
)
from snnbench.data.roots import DataError, cache_dir, data_dir

__all__ = [
    "CIFAR10_CLASSES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "DataError",
    "ImageSet",
    "cache_dir",
    "cifar10",
    "data_dir",
    "decode_images",
    "find",
    "normalise",
    "store_tensors",
    "write_whole",
]

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def find(name: str) -> Path:
    """The file ``name`` in ``SNNCONV_DATA``."""
    folder = data_dir()
    if folder is None:
        raise DataError(f"{name} is needed: set SNNCONV_DATA to the folder that holds it")
    path = folder / name
    if not path.exists():
        raise DataError(f"{name} is not in {folder} (SNNCONV_DATA): put it there, or point SNNCONV_DATA elsewhere")
    return path


def cifar10(split: str, download: bool = False) -> ImageSet:
    """CIFAR-10, ``split`` "train" or "test".

    Looked for in this order: ``cifar10_<split>.zip`` (an ImageFolder of JPEG files) and
    ``cifar-10-batches-py`` (the originals) in ``SNNCONV_DATA``; the originals in the cache, which
    ``download=True`` fetches with torchvision.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is 'train' or 'test', got {split!r}")
    folder = data_dir()
    if folder is not None and not download:
        archive = folder / f"cifar10_{split}.zip"
        if archive.exists():
            return decode_images(archive, CIFAR10_CLASSES)
        if (folder / "cifar-10-batches-py").is_dir():
            return load_originals("CIFAR10", folder, split)
    if download or (cache_dir() / "cifar-10-batches-py").is_dir():
        return load_originals("CIFAR10", cache_dir(), split, download)
    raise DataError(
        f"CIFAR-10 is needed: set SNNCONV_DATA to a folder that holds cifar10_{split}.zip or "
        "cifar-10-batches-py, or pass --download to fetch the originals with torchvision"
    )
