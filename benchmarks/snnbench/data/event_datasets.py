"""Data sets of recordings for mmengine data loaders: event frames over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from snnbench.data.events import digit_recordings
from snnbench.data.image_datasets import take
from snnbench.registry import DATASETS

__all__ = ["EventDigits"]


@DATASETS.register_module()
class EventDigits(Dataset[dict[str, Tensor]]):
    """scikit-learn's digits as an event camera would see them: ``inputs`` ``[T, 2, 16, 16]`` and a label.

    Args:
        split: ``"train"`` (1,347 recordings) or ``"test"`` (450).
        steps: T, frames of a recording.
        accumulate: give the mean frame of each recording as one of a single frame: for training.
        indices: the first so many recordings of an order fixed once for all, or a list of places in that order.

    Raises:
        DataError: scikit-learn is not installed.
        ValueError: another split, or no step.
    """

    def __init__(
        self,
        split: str = "train",
        steps: int = 32,
        accumulate: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        frames, labels = digit_recordings(split, steps)
        kept = take(len(labels), indices)
        frames = frames.transpose(0, 1)[kept]
        self.frames = frames.mean(1, keepdim=True) if accumulate else frames
        self.labels = labels[kept]
        self.metainfo: dict[str, Any] = {"classes": tuple(str(n) for n in range(10))}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.frames[index], "data_samples": self.labels[index]}
