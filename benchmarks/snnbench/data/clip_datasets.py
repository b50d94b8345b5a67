"""Data sets of video files for mmengine data loaders: class folders, Kinetics' flat folders, lists of files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from snnbench.data.clips import ClipError, read_clips
from snnbench.data.image_datasets import SKIPPED, take
from snnbench.data.moving_digits import moving_digits
from snnbench.data.roots import DataError, resolve
from snnbench.registry import DATASETS, TRANSFORMS

__all__ = ["MovingDigits", "VideoFolder"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".m4v")
Sample = dict[str, Any]


@DATASETS.register_module()
class VideoFolder(Dataset[Sample]):
    """Video files, decoded when they are asked for: ``inputs`` uint8 ``[K, C, frames, H, W]``, a label and the path.

    Args:
        root: folder, or a ``dataset:`` string. It holds one folder a class; or, as Kinetics is given out, files
            ``<YouTube id>_<start>_<end>.mp4`` side by side, whose labels lie in ``annotations/<folder's name>.csv`` (or
            ``<folder's name>.csv``) beside the folder.
        pipeline: transforms of a clip, uint8 ``[frames, C, H, W]``.
        frames: of a clip.
        clips: K, clips a video, spread evenly over it. With ``"random"`` there is one, at a random place.
        rate: frames a second of the clips; ``None``: the video's own.
        classes: names in the order of the labels (``_`` stands for a space); ``None`` sorts the folders;
            ``"kinetics400"`` stands for the 400 that torchvision's weights know.
        files: a text file that names the videos to take, a path under ``root`` a line (what follows a space is passed
            over), as UCF101's ``testlist01.txt``.
        indices: the first so many videos of an order fixed once for all, or a list of places in that order.
        skip_broken: a video that cannot be decoded becomes a black one labelled `SKIPPED`, which `ClipTopK` counts and
            names, instead of an error.
        keep: hold decoded clips in memory, for data sets that fit.

    Raises:
        DataError: no videos, a folder that is no class, or (when it is read) a damaged video.
    """

    def __init__(
        self,
        root: str,
        pipeline: Sequence[Any] = (),
        frames: int = 16,
        clips: int | str = 1,
        rate: float | None = None,
        classes: Sequence[str] | str | None = None,
        files: str | None = None,
        indices: int | Sequence[int] | None = None,
        skip_broken: bool = True,
        keep: bool = False,
    ) -> None:
        if clips != "random" and (isinstance(clips, str) or clips < 1):
            raise ValueError(f"clips is a number from 1 or 'random', got {clips!r}")
        self.root = Path(resolve(root))
        labelled = list(_labelled(self.root, files))
        if not labelled:
            raise DataError(f"{self.root} holds no videos: put one folder a class with video files there")
        folders = {name for _, name in labelled}
        if files is not None:  # a list need not name every class
            folders |= {entry.name for entry in self.root.iterdir() if entry.is_dir()}
        names = _class_names(sorted(folders), classes)
        known = {_plain(name): label for label, name in enumerate(names)}
        if foreign := [name for _, name in labelled if _plain(name) not in known]:
            raise DataError(f"{self.root}: {foreign[0]} is no class; move it away")
        videos = [(path, known[_plain(name)]) for path, name in labelled]
        self.videos = [videos[i] for i in take(len(videos), indices).tolist()]
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        self.frames, self.clips, self.rate = frames, clips, rate
        self.skip_broken = skip_broken
        self.kept: dict[int, Tensor] | None = {} if keep else None
        self._other: torch.Size | None = None
        self.metainfo = {"classes": tuple(names)}

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Sample:
        path, label = self.videos[index]
        try:
            inputs = self._clips(index, path)
        except ClipError:
            if not self.skip_broken:
                raise
            inputs, label = torch.zeros(self._shape(index), dtype=torch.uint8), SKIPPED
        return {
            "inputs": inputs,
            "data_samples": torch.tensor(label),
            "path": path.relative_to(self.root).as_posix(),
        }

    def _shape(self, index: int) -> torch.Size:
        """What a video that cannot be decoded would have been: as the next one that can."""
        if self._other is None:
            for k in range(1, len(self)):
                place = (index + k) % len(self)
                try:
                    self._other = self._clips(place, self.videos[place][0]).shape
                    break
                except ClipError:
                    continue
            else:
                raise DataError(f"{self.root}: not one video can be decoded")
        return self._other

    def _clips(self, index: int, path: Path) -> Tensor:
        if self.kept is not None and index in self.kept:
            return self.kept[index]
        if self.clips == "random":
            read = read_clips(path, self.frames, rate=self.rate, start=float(torch.rand(())))
        else:
            read = read_clips(path, self.frames, int(self.clips), self.rate)
        found = torch.stack([self._transformed(clip) for clip in read])
        if self.kept is not None:
            self.kept[index] = found
        return found

    def _transformed(self, clip: Tensor) -> Tensor:
        clip = clip.permute(0, 3, 1, 2)
        for transform in self.transforms:
            clip = transform(clip)
        return clip.transpose(0, 1).contiguous()


@DATASETS.register_module()
class MovingDigits(VideoFolder):
    """scikit-learn's digits in motion, 40 classes, written as MP4 files on first use; see `moving_digits`.

    Args:
        split: ``"train"`` (5,388 clips) or ``"test"`` (1,800 clips of other digit images).
        settings: of `VideoFolder`.
    """

    def __init__(self, split: str, **settings: Any) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', got {split!r}")
        super().__init__(str(moving_digits() / split), **{"frames": 8, "keep": True, **settings})


def _labelled(root: Path, files: str | None) -> Iterator[tuple[Path, str]]:
    """Every video with the name of its class."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    if files is not None:
        for line in Path(resolve(files)).read_text(encoding="utf-8").splitlines():
            if name := line.strip().split(" ")[0]:
                yield root / name, Path(name).parts[0]
        return
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if folders:
        for folder in folders:
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    yield path, folder.name
        return
    videos = sorted(path for path in root.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if videos:
        labels = _kinetics_labels(root)
        for path in videos:
            key = re.sub(r"_\d{6}_\d{6}$", "", path.stem)
            if key in labels:
                yield path, labels[key]


def _kinetics_labels(root: Path) -> dict[str, str]:
    """YouTube id → class, from the table beside the folder."""
    places = [root.parent / "annotations" / f"{root.name}.csv", root.parent / f"{root.name}.csv"]
    for place in places:
        if place.is_file():
            with open(place, newline="") as file:
                return {row["youtube_id"]: row["label"] for row in csv.DictReader(file)}
    raise DataError(
        f"{root} holds videos side by side, and no table names their classes: put Kinetics' {root.name}.csv at "
        f"{places[0]}, or the videos into one folder a class"
    )


def _class_names(found: list[str], classes: Sequence[str] | str | None) -> list[str]:
    if classes == "kinetics400":
        from torchvision.models.video import R3D_18_Weights

        return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    if isinstance(classes, str):
        raise ValueError(f"classes is a list of names, 'kinetics400' or None, got {classes!r}")
    return found if classes is None else list(classes)


def _plain(name: str) -> str:
    """A class name as folders and tables spell it, as one text."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
