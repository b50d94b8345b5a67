"""Episodes as video files, the source policy's and every converted one's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnbench.data.clips import VideoWriter
from snnbench.results import slug

__all__ = ["EpisodeVideos"]

FASTEST = 30


class EpisodeVideos:
    """Writes some episodes of every network to ``<folder>/<network>-seed-<seed>.mp4``, frame by frame.

    Args:
        folder: where the videos go.
        seeds: of the episodes.
        policy: the model that plays them, see `snnbench.tasks.control.Policy`.
    """

    def __init__(self, folder: Path, seeds: Iterable[int], policy: Any) -> None:
        self.folder = folder
        self.seeds = set(seeds)
        self.open: dict[int, tuple[VideoWriter, int]] = {}
        self.frames: dict[int, int] = {}
        self.written: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        policy.record(self.seeds.__contains__, self.frame)

    def frame(self, seed: int, rate: int, picture: np.ndarray) -> None:
        """Take one frame; of fast environments every second, third … is enough."""
        every = max(1, round(rate / FASTEST))
        if seed not in self.open:
            self.open[seed] = VideoWriter(self.folder / f".{seed}.mp4", max(1, round(rate / every))), every
            self.frames[seed] = 0
        if self.frames[seed] % every == 0:
            self.open[seed][0].add(picture)
        self.frames[seed] += 1

    def add(self, name: str, samples: Sequence[Any], data: dict[str, Any]) -> None:
        """The episodes of network ``name`` are over."""
        for sample in samples:
            if sample.seed in self.open:
                writer, _ = self.open.pop(sample.seed)
                stem, number = f"{slug(name)}-seed-{sample.seed}", 1
                target = self.folder / f"{stem}.mp4"
                while target in self.written:  # several readouts of one network
                    number += 1
                    target = self.folder / f"{stem}-{number}.mp4"
                writer.finish(target)
                self.written.append(target)

    def finish(self) -> list[Path]:
        """Drop what is unfinished; returns the files."""
        for writer, _ in self.open.values():
            writer.drop()
        self.open.clear()
        return self.written
