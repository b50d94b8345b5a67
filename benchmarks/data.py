"""Image data sets as tensors, decoded once into a cache.

``SNNCONV_DATA`` names a folder that is only read; what is decoded goes into ``SNNCONV_CACHE`` (default
``~/.cache/snnconv``). A file in the cache is written under a temporary name and moved into place when
complete, so a killed process leaves nothing half-written.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
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


class DataError(RuntimeError):
    """Data that is absent or damaged; the message names the file and says what to do."""


@dataclass(frozen=True)
class ImageSet:
    """``images`` uint8 ``[N, C, H, W]`` and ``labels`` int64 ``[N]``."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def shuffled(self, seed: int = 0) -> ImageSet:
        """All images in an order that depends on ``seed`` alone; the files come sorted by class."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return ImageSet(self.images[order], self.labels[order])

    def first(self, count: int | None) -> ImageSet:
        """The first ``count`` images, all of them for None."""
        if count is not None and count < 1:
            raise ValueError(f"a subset needs at least one image, got {count}")
        return ImageSet(self.images[:count], self.labels[:count])

    def batches(
        self,
        batch_size: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Normalised float batches with their labels, in order."""
        for start in range(0, len(self), batch_size):
            stop = start + batch_size
            yield normalise(self.images[start:stop], mean, std), self.labels[start:stop]


def normalise(
    images: torch.Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> torch.Tensor:
    """uint8 images to ``(x / 255 − mean) / std``, one mean and std a channel."""
    shape = (1, -1, 1, 1)
    scaled = images.float().div_(255)
    return scaled.sub_(torch.tensor(mean).view(shape)).div_(torch.tensor(std).view(shape))


def data_dir() -> Path | None:
    """The folder ``SNNCONV_DATA`` names, or None where the variable is unset."""
    value = os.environ.get("SNNCONV_DATA")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(f"SNNCONV_DATA names {folder}, which is not a folder")
    return folder


def cache_dir() -> Path:
    """The folder for decoded data: ``SNNCONV_CACHE``, default ``~/.cache/snnconv``."""
    return Path(os.environ.get("SNNCONV_CACHE") or "~/.cache/snnconv").expanduser()


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
            return decode_zip(archive, CIFAR10_CLASSES)
        if (folder / "cifar-10-batches-py").is_dir():
            return _cifar10_originals(folder, split, download=False)
    if download or (cache_dir() / "cifar-10-batches-py").is_dir():
        return _cifar10_originals(cache_dir(), split, download)
    raise DataError(
        f"CIFAR-10 is needed: set SNNCONV_DATA to a folder that holds cifar10_{split}.zip or "
        "cifar-10-batches-py, or pass --download to fetch the originals with torchvision"
    )


def _cifar10_originals(root: Path, split: str, download: bool) -> ImageSet:
    from torchvision.datasets import CIFAR10

    source = CIFAR10(root=str(root), train=split == "train", download=download)
    images = torch.from_numpy(np.ascontiguousarray(source.data.transpose(0, 3, 1, 2)))
    return ImageSet(images, torch.tensor(source.targets, dtype=torch.int64))


def decode_zip(archive: Path, classes: tuple[str, ...]) -> ImageSet:
    """The images of an ImageFolder in a zip (``<class>/<name>.jpg``), all of one size, through the cache."""
    from safetensors import SafetensorError, safe_open

    stat = archive.stat()
    origin = f"{archive.name} {stat.st_size}"
    cached = cache_dir() / f"{archive.stem}.safetensors"
    if cached.exists():
        try:
            with safe_open(str(cached), "pt") as file:
                if (file.metadata() or {}).get("origin") == origin:
                    return ImageSet(file.get_tensor("images"), file.get_tensor("labels"))
        except (SafetensorError, OSError, KeyError):
            pass  # damaged: decoded again below
    images, labels = _decode(archive, classes)
    store_tensors(cached, {"images": images, "labels": labels}, {"origin": origin})
    return ImageSet(images, labels)


def _decode(archive: Path, classes: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    from PIL import Image, UnidentifiedImageError
    from tqdm import tqdm

    index = {name: i for i, name in enumerate(classes)}
    arrays: list[np.ndarray] = []
    labels: list[int] = []
    try:
        with zipfile.ZipFile(archive) as source:
            names = sorted(n for n in source.namelist() if n.lower().endswith((".jpg", ".jpeg", ".png")))
            if not names:
                raise DataError(f"{archive} holds no images")
            for name in tqdm(names, desc=f"decoding {archive.name}", unit="image", disable=len(names) < 2000):
                label = name.rstrip("/").split("/")[-2] if "/" in name else ""
                if label not in index:
                    raise DataError(f"{archive}: {name} lies in no folder named after a class ({', '.join(classes)})")
                try:
                    with Image.open(io.BytesIO(source.read(name))) as image:
                        array = np.asarray(image.convert("RGB"))
                except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
                    raise DataError(f"{archive}: {name} is damaged ({error}); get the file again") from error
                if arrays and array.shape != arrays[0].shape:
                    raise DataError(f"{archive}: {name} is {array.shape}, the images before it {arrays[0].shape}")
                arrays.append(array)
                labels.append(index[label])
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{archive} is damaged or truncated ({error}); get the file again") from error
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(labels, dtype=torch.int64)


def store_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all."""
    from safetensors.torch import save

    write_whole(path, save(tensors, metadata))


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file; a reader sees the old content or the new."""
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"no space left for {path} ({len(content) / 2**20:.0f} MiB): free some, or name a "
                "roomier folder with SNNCONV_CACHE"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise DataError(f"{path.parent} cannot be written: name a writable folder with SNNCONV_CACHE") from error
        raise
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
