"""Sets of small images as tensors, decoded once into a cache.

What is decoded goes into ``SNNCONV_CACHE`` (default ``~/.cache/snnconv``). A file there is written under a temporary
name and moved into place when complete, so a killed process leaves nothing half-written.
"""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from snnbench.data.roots import DataError, cache_dir
from snnconv.files import atomic as files
from snnconv.files.pictures import open_rgb
from snnconv.files.refusal import brief
from snnconv.files.untrusted import UntrustedFileError, read_safetensors, refused_as
from snnconv.files.zips import fingerprint, opened
from snnconv.progress import bars

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
CIFAR_FOLDERS = {"cifar-10-batches-py": "CIFAR10", "cifar-100-python": "CIFAR100"}  # → class of torchvision.datasets


@dataclass(frozen=True)
class ImageSet:
    """``images`` uint8 ``[N, C, H, W]``, ``labels`` int64 ``[N]`` and, where known, the names of the classes."""

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def shuffled(self, seed: int = 0) -> ImageSet:
        """All images in an order that depends on ``seed`` alone; the files come sorted by class."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return ImageSet(self.images[order], self.labels[order], self.classes)

    def first(self, count: int | None) -> ImageSet:
        """The first ``count`` images, all of them for None."""
        if count is not None and count < 1:
            raise ValueError(f"a subset needs at least one image, got {count}")
        return ImageSet(self.images[:count], self.labels[:count], self.classes)

    def batches(
        self,
        batch_size: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Normalised float batches with their labels, in order."""
        for start in range(0, len(self), batch_size):
            stop = start + batch_size
            yield normalise(self.images[start:stop], mean, std), self.labels[start:stop]


def normalise(
    images: torch.Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> torch.Tensor:
    """uint8 images ``[B, C, H, W]``, or clips ``[B, C, T, H, W]``, to ``(x / 255 − mean) / std`` of each channel.

    >>> normalise(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), mean=[0.5], std=[0.25]).item()
    2.0
    """
    shape = (1, -1, *[1] * (images.dim() - 2))
    scaled = images.float().div_(255)
    centre = torch.tensor(mean, device=images.device).view(shape)
    return scaled.sub_(centre).div_(torch.tensor(std, device=images.device).view(shape))


def load_images(root: Path, split: str, classes: Sequence[str] | None = None) -> ImageSet:
    """The images of ``root``, which is one of

    - ``cifar-10-batches-py`` or ``cifar-100-python`` as its authors give it out, or a folder that holds one;
    - a zip, or a folder, of ``<class>/<name>.png`` (or ``.jpg``); in a folder, ``<split>/<class>/...`` goes first.

    Raises:
        DataError: no such images, or one of them is damaged.
    """
    for folder, name in CIFAR_FOLDERS.items():
        if root.name == folder:
            return load_originals(name, root.parent, split)
        if (root / folder).is_dir():
            return load_originals(name, root, split)
    return decode_images(root / split if (root / split).is_dir() else root, classes)


def load_originals(name: str, root: Path, split: str, download: bool = False) -> ImageSet:
    """``CIFAR10`` or ``CIFAR100`` through torchvision; ``root`` holds the folder that its authors give out.

    Raises:
        DataError: torchvision is not installed, or the files are absent or damaged.
    """
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError("reading CIFAR's own files needs torchvision: pip install torchvision") from error
    try:
        source = getattr(datasets, name)(root=str(root), train=split == "train", download=download)
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(f"{name} in {root} is absent or damaged ({brief(error)}); get it again") from error
    images = torch.from_numpy(np.ascontiguousarray(source.data.transpose(0, 3, 1, 2)))
    return ImageSet(images, torch.tensor(source.targets, dtype=torch.int64), tuple(source.classes))


def decode_images(source: Path, classes: Sequence[str] | None = None) -> ImageSet:
    """The images of a zip or a folder (``<class>/<name>.jpg``), all of one size, through the cache.

    ``classes`` are the names of the class folders in the order of the labels; None takes all folders, sorted.

    Raises:
        DataError: ``source`` is damaged, holds no images, images of several sizes, or a folder that is no class.
    """
    origin = json.dumps([_fingerprint(source), classes])
    name = f"{source.parent.name}_{source.name}" if source.is_dir() else source.stem
    cached = cache_dir() / f"{name}.safetensors"
    images = _cached(cached, origin)
    if images is None:
        _check_place(cached)
        images = _decode(source, classes)
        metadata = {"origin": origin, "classes": json.dumps(images.classes), "crc": _crc(images)}
        store_tensors(cached, {"images": images.images, "labels": images.labels}, metadata)
    return images


def _cached(path: Path, origin: str) -> ImageSet | None:
    """What was decoded from ``origin``; ``None`` where the file is of something else, or not what was stored."""
    if not path.is_file():
        return None
    try:
        tensors, metadata = read_safetensors(path)
        names = json.loads(metadata["classes"])
        found = ImageSet(tensors["images"], tensors["labels"], tuple(names))
    except (UntrustedFileError, OSError, KeyError, TypeError, ValueError):
        return None
    shapes = found.images.dtype == torch.uint8 and found.images.dim() == 4 and found.labels.dtype == torch.int64
    if metadata.get("origin") != origin or not shapes or found.labels.shape != found.images.shape[:1]:
        return None
    return found if metadata.get("crc") == _crc(found) else None


def _crc(images: ImageSet) -> str:
    parts = (value.contiguous().view(torch.uint8).numpy() for value in (images.images, images.labels))
    return " ".join(f"{zlib.crc32(part.data):08x}" for part in parts)


def _fingerprint(source: Path) -> str:
    """Changes with the files of ``source``: in a zip with their names, sizes and CRCs, in a folder with their times."""
    if not source.is_dir():
        try:
            with refused_as(DataError):
                return fingerprint(source)
        except FileNotFoundError as error:
            raise DataError(f"{source} does not exist") from error
    files = []
    for path in source.glob("*/*"):
        found = path.stat()
        # the last is when the file changed here, which no copy that keeps its time can set
        times = found.st_mtime_ns, found.st_ctime_ns
        files.append((path.relative_to(source).as_posix(), found.st_size, *times))
    return f"{source} {len(files)} {zlib.crc32(repr(sorted(files)).encode())}"


def _decode(source: Path, classes: Sequence[str] | None) -> ImageSet:
    arrays: list[np.ndarray] = []
    labels: list[int] = []
    with _opened(source) as (everything, read), bars(None) as tell:
        names = sorted(n for n in everything if n.lower().endswith(IMAGE_SUFFIXES))
        if not names:
            raise DataError(f"{source} holds no images")
        folders = [_folder(name) for name in names]
        found = tuple(classes) if classes is not None else tuple(sorted(set(folders)))
        index = {name: i for i, name in enumerate(found)}
        for done, (name, folder) in enumerate(zip(names, folders, strict=True), 1):
            if not folder or folder not in index:
                raise DataError(f"{source}: {name} lies in no folder named after a class ({', '.join(found)})")
            with refused_as(DataError):
                array = np.asarray(open_rgb(read(name), f"{source}: {name}"))
            if arrays and array.shape != arrays[0].shape:
                raise DataError(f"{source}: {name} is {array.shape}, the images before it {arrays[0].shape}")
            arrays.append(array)
            labels.append(index[folder])
            tell(f"decoding {source.name}", done, len(names))
    images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(labels, dtype=torch.int64), found)


def _folder(name: str) -> str:
    return name.split("/")[-2] if "/" in name else ""


@contextmanager
def _opened(source: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """The names of the files in a zip or a folder of class folders, and a function that reads one."""
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.glob("*/*")]
        yield names, lambda name: (source / name).read_bytes()
        return
    with refused_as(DataError), opened(source) as archive:
        yield archive.namelist(), archive.read


def store_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all."""
    from safetensors.torch import save

    write_whole(path, save(tensors, metadata))


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` through a temporary file; a reader sees the old content or the new."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"no space left for {path} ({len(content) / 2**20:.0f} MiB): free some, or name a "
                "roomier folder with SNNCONV_CACHE"
            ) from error
        raise _unwritable(path, error) from error


def _check_place(path: Path) -> None:
    """Refuse a cache that cannot be written, before the pictures are decoded."""
    try:
        files.writable(path, make_folder=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written ({error.strerror or error}): name a writable folder with SNNCONV_CACHE")
