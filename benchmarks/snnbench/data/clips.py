"""Video files to clips and back, through PyAV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnbench.data.roots import DataError
from snnconv import limits
from snnconv.files.atomic import replacing
from snnconv.files.refusal import brief, refused_as, regular

__all__ = ["ClipError", "VideoWriter", "clip_indices", "read_clips", "write_video"]


SLACK = 2  # packets of a whole file that give no frame of their own, as in AVI files with packed B-frames


class ClipError(DataError):
    """A video that cannot be decoded; the message names the file and says why."""


def clip_indices(count: int, native: float, frames: int, clips: int = 1, rate: float | None = None) -> list[list[int]]:
    """Which of ``count`` frames make up each clip, the clips spread evenly over the video.

    At another frame rate than its own the video is first thinned out (or repeated) to ⌊k · native / rate⌋, as
    torchvision's ``VideoClips`` does it. A video shorter than a clip begins again.

    Args:
        count: frames in the video.
        native: its frames a second.
        frames: frames of a clip.
        clips: how many.
        rate: frames a second of the clips; ``None``: the video's own.

    >>> clip_indices(10, 30.0, frames=2, clips=2, rate=15.0)
    [[0, 2], [6, 8]]
    >>> clip_indices(3, 30.0, frames=5)
    [[0, 1, 2, 0, 1]]
    """
    step = native / rate if rate else 1.0
    thinned = max(1, math.floor(count / step))  # as a number: a file may say that a frame lasts for years
    last = max(0, thinned - frames)
    starts = [math.floor(last * k / (clips - 1)) for k in range(clips)] if clips > 1 else [0]
    return [[math.floor((start + k) % thinned * step) for k in range(frames)] for start in starts]


def read_clips(
    path: Path, frames: int, clips: int = 1, rate: float | None = None, start: float | None = None
) -> list[Tensor]:
    """Clips of a video file, uint8 ``[frames, H, W, 3]`` each; only the frames that are needed become pixels.

    Args:
        path: the file.
        frames, clips, rate: as for :func:`clip_indices`.
        start: where a single clip begins, 0 (the first place) to 1 (the last); 0 by default.

    Raises:
        ClipError: damaged, without frames, no video, or frames of more than :data:`snnconv.limits.PIXELS`.
        ImportError: PyAV is not installed.
    """
    with _opened(path) as (container, stream):
        count = sum(1 for packet in container.demux(stream) if packet.size)  # not by time stamps: AVI may have none
        native = float(stream.average_rate or stream.guessed_rate or 0)
        if not count or native <= 0:
            raise ClipError(f"{path} holds no frames")
    if start is None:
        wanted = clip_indices(count, native, frames, clips, rate)
    else:
        places = clip_indices(count, native, frames, max(2, count), rate)
        wanted = [places[round(start * (len(places) - 1))]]
    found = _decoded(path, count, {i for indices in wanted for i in indices})
    return [torch.stack([found[i] for i in indices]) for indices in wanted]


def _decoded(path: Path, count: int, needed: set[int]) -> dict[int, Tensor]:
    """The frames ``needed`` of the ``count`` that a file announces, by number."""
    found: dict[int, Tensor] = {}
    number, frame = -1, None
    with _opened(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number in needed:
                found[number] = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            if len(found) == len(needed):
                return found
    if frame is None or number + 1 < count - SLACK:
        raise ClipError(f"{path} is damaged: {number + 1} of {count} frames can be decoded")
    last = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    return {i: found.get(i, last) for i in needed}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; whatever goes wrong in it is a ClipError that names the file."""
    av = _pyav()
    try:
        with refused_as(ClipError):
            regular(path)
        # whatever a file says, and whatever its name begins with, nothing but files of this machine is opened
        with av.open(f"file:{path}", container_options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video or container.streams.video[0].codec_context is None:
                raise ClipError(f"{path} is damaged, or holds no video that can be decoded")
            stream = container.streams.video[0]
            if (size := stream.width * stream.height) > limits.PIXELS:
                raise ClipError(
                    f"{path} has {size:,} pixels a frame, more than snnconv.limits.PIXELS = {limits.PIXELS:,}"
                )
            stream.codec_context.thread_count = 1  # data loaders bring their own processes
            yield container, stream
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ClipError):
            raise
        raise ClipError(f"{path} is damaged ({brief(error)})") from error


class VideoWriter:
    """An MPEG-4 file, frame by frame; it takes its name when it is finished.

    Args:
        path: where it is written.
        rate: frames a second.
        quality: quantiser scale of MPEG-4, 1 (best) to 31.

    Raises:
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path, rate: int, quality: int = 2) -> None:
        self.path = path
        self.rate, self.quality = rate, quality
        self.av = _pyav()
        self.container = self.av.open(str(path), "w", format="mp4")
        self.stream: Any = None

    def add(self, frame: np.ndarray) -> None:
        """Append an RGB frame ``[H, W, 3]`` uint8, all of one size.

        Raises:
            ValueError: another shape, or an odd height or width.
        """
        if frame.ndim != 3 or frame.shape[0] % 2 or frame.shape[1] % 2:
            raise ValueError(f"{self.path}: a video needs frames [H, W, 3] of even size, got {frame.shape}")
        if self.stream is None:
            self.stream = self.container.add_stream("mpeg4", rate=Fraction(self.rate))
            self.stream.height, self.stream.width = frame.shape[:2]
            self.stream.pix_fmt = "yuv420p"
            context = self.stream.codec_context
            context.qmin = context.qmax = self.quality
            # one thread and two slices everywhere: left alone, pictures depend on the number of processors
            context.thread_count, context.options = 1, {"slices": "2"}
        picture = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self.container.mux(self.stream.encode(picture))

    def finish(self, target: Path | None = None) -> None:
        """Complete the file, and move it to ``target`` in the same folder.

        Raises:
            ValueError: no frame was added.
        """
        if self.stream is None:
            self.drop()
            raise ValueError(f"{self.path}: a video needs at least one frame")
        self.container.mux(self.stream.encode())
        self.container.close()
        if target is not None:
            self.path.replace(target)

    def drop(self) -> None:
        """Leave nothing behind."""
        self.container.close()
        self.path.unlink(missing_ok=True)


def write_video(path: Path, frames: Iterable[np.ndarray], rate: int) -> None:
    """Write RGB frames ``[H, W, 3]`` uint8 as MPEG-4, whole or not at all.

    Args:
        path: the file, ``….mp4``.
        frames: of one size, height and width even.
        rate: frames a second.

    Raises:
        ValueError: no frames, or odd sizes.
        ImportError: PyAV is not installed.
    """
    with replacing(path) as temporary:
        writer = VideoWriter(temporary, rate)
        for frame in frames:
            writer.add(frame)
        writer.finish()


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError('video files are read with PyAV: pip install "snnconv-plugin[video]"') from error
    return av
