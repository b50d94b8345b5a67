"""The inputs that the command line names: a folder of pictures, or a file of tensors, checked as it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from snnconv import limits
from snnconv.cli.inputs import InputError
from snnconv.cli.preprocessing import Preprocessing
from snnconv.files.pictures import open_rgb
from snnconv.files.plain import odd
from snnconv.files.refusal import brief
from snnconv.files.untrusted import read_pickle, read_safetensors, refused_as
from snnconv.files.zips import read_arrays

__all__ = ["Data", "load_data"]

BATCH = 50
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files that are read as pictures."""


@dataclass(frozen=True)
class Data:
    """Inputs ``x`` with labels ``y`` where there are any; pictures are read when a batch is asked for.

    Attributes:
        source: ``{"x": ..., "y": ...}``, or a sequence of pairs.
        count: how many.
        labelled: whether there are labels.
        name: what they come from, for messages.
        words: what is made of pictures and bytes; "" of tensors, which are taken as they are.
        classes: names of a folder's classes, in the order of the labels.
    """

    source: Any
    count: int
    labelled: bool
    name: str = "the data"
    classes: tuple[str, ...] | None = None
    words: str = ""

    def batches(self, limit: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Batches of ``limit`` inputs, spread evenly over the whole set: a folder of pictures is sorted by class."""
        picked = self._picked(limit)
        for start in range(0, len(picked), BATCH):
            yield self._read(picked[start : start + BATCH])

    def inputs(self, limit: int | None = None) -> list[torch.Tensor]:
        """The inputs alone, of :meth:`batches`."""
        return [x for x, _ in self.batches(limit)]

    def tensors(self, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What :meth:`batches` gives, in one tensor."""
        return self._read(self._picked(limit))

    def check_classes(self, outputs: int) -> None:
        """Refuse labels that a network of so many outputs cannot give.

        Raises:
            InputError: as many class folders as outputs are needed, or the label that is too large.
        """
        if self.classes is not None and len(self.classes) != outputs:
            raise InputError(
                f"{self.name} has {len(self.classes)} class folders ({', '.join(self.classes[:3])} ...), the network "
                f"{outputs} outputs; a label is a folder's place in their sorted order: make an empty folder for each "
                f"class that is missing, or, for a torchvision or timm network of these classes, use --classes "
                f"{len(self.classes)}"
            )
        if self.classes is None and self.labelled:
            y = self.source["y"]
            if int(y.max()) >= outputs:
                place = int((y >= outputs).nonzero()[0])
                raise InputError(
                    f"{self.name}: label {int(y[place])} of input {place} is none of the network's {outputs} outputs, "
                    f"which are counted from 0 to {outputs - 1}"
                )

    def _picked(self, limit: int | None) -> list[int]:
        count = self.count if limit is None else min(limit, self.count)
        if count == self.count:
            return list(range(count))
        return [int(place) for place in torch.linspace(0, self.count - 1, count).round()]

    def _read(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        if isinstance(self.source, dict):
            return self.source["x"][index], self.source["y"][index] if self.labelled else None
        items = [self.source[i] for i in index]
        shapes = {tuple(x.shape) for x, _ in items}
        if len(shapes) > 1:
            raise InputError(f"{self.name}: pictures become tensors of several shapes, {sorted(shapes)[:2]}; crop them")
        x = torch.stack([x for x, _ in items])
        if not bool(x.isfinite().all()):
            raise InputError(f"{self.name}: the transform gives NaN or infinite values")
        return x, torch.tensor([y for _, y in items]) if self.labelled else None


def load_data(path: Path, preprocessing: Preprocessing) -> Data:
    """A folder of pictures, labelled by its subfolders if there are any, or a file with a tensor x, and y for labels.

    Tensors in a file are taken as they are, uint8 excepted, which is scaled and normalised like a picture.

    Args:
        path: a folder with a subfolder of pictures a class, or with pictures; a ``.npz``, ``.pt`` or ``.safetensors``.
        preprocessing: of pictures.

    Raises:
        InputError: nothing of the kind, damaged, NaN or infinite inputs, labels that are no class numbers.
    """
    if path.is_dir():
        return _image_folder(path, preprocessing)
    tensors, words = _read_tensors(path), ""
    for name in ("x", "y"):
        if isinstance(tensors.get(name), torch.Tensor) and (what := odd(tensors[name])):
            raise InputError(f"{path}: {name} is {what}; store it as a plain tensor")
    x, y = (v.detach() if isinstance(v, torch.Tensor) else v for v in map(tensors.get, ("x", "y")))
    if not isinstance(x, torch.Tensor):
        raise InputError(f"{path} holds no tensor 'x'; it has: {brief(', '.join(map(str, tensors)) or 'nothing')}")
    if x.dim() < 2 or not len(x):
        raise InputError(f"{path}: x has shape {tuple(x.shape)}; it needs a leading batch axis and an input")
    if x.dtype == torch.uint8:
        mean, std = preprocessing.mean, preprocessing.std
        if x.dim() != 4 or x.shape[1] not in (1, len(mean)):
            raise InputError(
                f"{path}: x is uint8 of shape {tuple(x.shape)}; images are [N, C, H, W], with as many channels as "
                f"--mean has numbers ({len(mean)}), or with 1; other inputs are stored as floats"
            )
        view = (1, -1, 1, 1)
        words = f"bytes of {path}: divided by 255, mean {_list(mean)}, std {_list(std)}"
        if x.shape[1] != len(mean):
            words += f"; 1 channel becomes {len(mean)}: give --mean and --std one number to keep it"
        x = (x.float() / 255 - torch.tensor(mean).view(view)) / torch.tensor(std).view(view)
    elif x.is_floating_point():
        x = x.float()
    elif x.is_complex():
        raise InputError(f"{path}: x is {x.dtype}; real numbers are needed")
    if x.is_floating_point():
        finite = x.isfinite().flatten(1).all(1)
        if not bool(finite.all()):
            places = (~finite).nonzero().flatten()
            raise InputError(
                f"{path}: {len(places)} of {len(x)} inputs hold NaN or infinite values, the first is input "
                f"{int(places[0])}; leave them out"
            )
    if y is not None:
        y = _labels(path, y, len(x))
    return Data({"x": x, "y": y}, len(x), y is not None, str(path), words=words)


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _labels(path: Path, y: Any, count: int) -> torch.Tensor:
    """Class numbers of so many inputs."""
    if not isinstance(y, torch.Tensor) or y.dim() != 1 or len(y) != count:
        got = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise InputError(f"{path}: y has shape {got}, expected [{count}] class numbers")
    if y.is_floating_point() or y.is_complex():
        raise InputError(f"{path}: y is {y.dtype}; class numbers are whole: store it as integers")
    labels: torch.Tensor = y.long()
    if int(labels.min()) < 0:
        place = int((labels < 0).nonzero()[0])
        raise InputError(f"{path}: label {int(labels[place])} of input {place} is below 0; classes are counted from 0")
    return labels


def _read_tensors(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"data file {path} does not exist")
    with refused_as(InputError):
        if path.suffix == ".safetensors":
            return dict(read_safetensors(path)[0])
        if path.suffix == ".npz":
            return dict(read_arrays(path))
        if path.suffix not in (".pt", ".pth"):
            raise InputError(f"{path}: data is a folder of images, or a .npz, .pt or .safetensors file with x, and y")
        content = read_pickle(path)
    if isinstance(content, torch.Tensor):
        return {"x": content}
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not named tensors")
    return dict(content)


def _image_folder(path: Path, preprocessing: Preprocessing) -> Data:
    """A folder with a subfolder of pictures a class; or one that holds pictures itself, which have no labels."""
    try:
        own = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise InputError(f"{path} cannot be listed: {error.strerror}") from error
    if own:
        return Data(_Pictures(own, preprocessing), len(own), False, str(path), words=preprocessing.words)
    classes = sorted(p.name for p in path.iterdir() if p.is_dir())
    found = [(picture, label) for label, name in enumerate(classes) for picture in _below(path, name)]
    if not found:
        raise InputError(
            f"{path} holds no image ({', '.join(SUFFIXES)}), nor do its subfolders: give a folder with a subfolder of "
            "images a class, or with images for calibration"
        )
    pictures, labels = zip(*found, strict=True)
    source = _Pictures(pictures, preprocessing, labels)
    return Data(source, len(found), True, str(path), tuple(classes), preprocessing.words)


def _below(path: Path, name: str) -> list[Path]:
    """Pictures of a class, in the order of their names; every folder once, whatever links there are.

    Raises:
        InputError: a folder that cannot be listed, or one of other things.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed: {error.strerror}") from error

    found: list[tuple[str, list[str]]] = []
    seen: set[tuple[int, int]] = set()
    others = 0
    for folder, inner, files in os.walk(path / name, onerror=refuse, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        found.append((folder, [file for file in files if file.lower().endswith(SUFFIXES)]))
        others += 1 + len(files) - len(found[-1][1])
        if others > limits.OTHERS:
            raise InputError(
                f"{path} is not a folder of images, one subfolder a class: {name} has more than snnconv.limits.OTHERS "
                f"= {limits.OTHERS} folders and files that are no images; give the folder of the images"
            )
    return [Path(folder, file) for folder, files in sorted(found) for file in sorted(files)]


@dataclass(frozen=True)
class _Pictures:
    """Pictures, read one by one, with their classes where there are any."""

    paths: Sequence[Path]
    preprocessing: Preprocessing
    labels: Sequence[int] | None = None

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        label = -1 if self.labels is None else self.labels[place]
        return self.preprocessing.picture(_picture(str(self.paths[place]))), label


def _picture(path: str) -> Any:
    with refused_as(InputError):
        return open_rgb(path)
