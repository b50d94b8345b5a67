"""Pictures as an event camera would see them: a simulated saccade, with polarity and noise.

The camera moves along a triangle and back to where it began, as in N-MNIST's recordings (Orchard et al., 2015). Each
pixel remembers the logarithm of the light at which it last sent an event. At each of ``steps`` equal moments the
picture is shifted (bilinear, its border repeated); where the logarithm has moved by the pixel's contrast threshold or
more, the pixel sends one event of that polarity and moves its memory by the threshold, so that a large change takes
several moments. Thresholds differ from pixel to pixel (a normal distribution), and every pixel sends events of its own
accord at a low rate, both polarities alike (background activity). All of it is drawn from ``seed``.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from snnbench.data.roots import DataError

__all__ = ["digit_recordings", "saccade", "tonic_frames"]

CORNERS = ((0.0, 0.0), (-1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
"""Of the path, in units of the amplitude: (down, right)."""
DARK = 0.05
"""Light that is added before the logarithm: the sensor's own."""


def saccade(
    pictures: Tensor,
    steps: int = 32,
    *,
    amplitude: float = 2.0,
    contrast: float = 0.25,
    mismatch: float = 0.03,
    noise: float = 0.001,
    seed: int = 0,
) -> Tensor:
    """Event frames of pictures ``[B, C, H, W]`` of values from 0 to 1: ``[T, B, 2, H, W]`` of 0 and 1, ON then OFF.

    Args:
        pictures: colours are averaged, as the sensor has none.
        steps: T.
        amplitude: of the movement, in pixels.
        contrast: threshold of a pixel, a difference of natural logarithms.
        mismatch: standard deviation of the thresholds.
        noise: probability that a pixel sends an event of its own accord, a step and polarity.
        seed: of thresholds and noise.

    Raises:
        ValueError: pictures of another shape or range, or no step.

    >>> events = saccade(torch.rand(4, 1, 8, 8), steps=10)
    >>> events.shape, sorted(set(events.unique().tolist()))
    (torch.Size([10, 4, 2, 8, 8]), [0.0, 1.0])
    """
    if pictures.dim() != 4 or steps < 1:
        raise ValueError(f"pictures are [B, C, H, W] and steps 1 or more, got {list(pictures.shape)} and {steps}")
    if not 0 <= float(pictures.min()) <= float(pictures.max()) <= 1:
        raise ValueError(f"pictures are of values from 0 to 1, got {float(pictures.min())} to {float(pictures.max())}")
    drawn = torch.Generator().manual_seed(seed)
    light = pictures.float().mean(1, keepdim=True)
    batch, _, height, width = light.shape
    threshold = (contrast + mismatch * torch.randn(batch, height, width, generator=drawn)).clamp(min=contrast / 4)
    memory = torch.log(_moved(light, 0.0, 0.0) + DARK)
    frames = torch.zeros(steps, batch, 2, height, width)
    for t in range(steps):
        down, right = _place((t + 1) / steps)
        change = torch.log(_moved(light, amplitude * down, amplitude * right) + DARK) - memory
        on, off = change >= threshold, change <= -threshold
        memory = memory + threshold * on - threshold * off
        own = torch.rand(2, batch, height, width, generator=drawn) < noise
        frames[t, :, 0], frames[t, :, 1] = on | own[0], off | own[1]
    return frames


def _place(part: float) -> tuple[float, float]:
    """Where the camera looks after a part of the path."""
    lengths = [math.dist(a, b) for a, b in pairwise(CORNERS)]
    left = part * sum(lengths)
    for (a, b), length in zip(pairwise(CORNERS), lengths, strict=True):
        if left <= length:
            return a[0] + (b[0] - a[0]) * left / length, a[1] + (b[1] - a[1]) * left / length
        left -= length
    return CORNERS[-1]


def _moved(light: Tensor, down: float, right: float) -> Tensor:
    """Pictures ``[B, 1, H, W]`` shifted by parts of pixels ``[B, H, W]``."""
    height, width = light.shape[2:]
    rows = (torch.arange(height) + down) * 2 / max(height - 1, 1) - 1
    columns = (torch.arange(width) + right) * 2 / max(width - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1).expand(len(light), -1, -1, -1)
    return F.grid_sample(light, grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]


def digit_recordings(split: str, steps: int) -> tuple[Tensor, Tensor]:
    """scikit-learn's digits, 16 pixels wide, as recordings ``[T, N, 2, 16, 16]``, and their labels ``[N]``.

    Args:
        split: ``"train"`` (1,347) or ``"test"`` (450), of other pictures.
        steps: T.

    Raises:
        DataError: scikit-learn is not installed.
        ValueError: another split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is 'train' or 'test', got {split!r}")
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DataError('the digit images come with scikit-learn: pip install "snnconv-plugin[bench]"') from error
    x, y = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    pictures, labels, seed = (train, train_labels, 1) if split == "train" else (test, test_labels, 2)
    small = torch.tensor(pictures, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    wide = F.interpolate(small, 16, mode="bilinear").clamp(0, 1)
    return saccade(wide, steps, seed=seed), torch.tensor(labels)


def tonic_frames(dataset: object, steps: int, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Frames and labels of a data set of tonic (``tonic.datasets.NMNIST(...)``): ``[N, T, 2, H, W]`` and ``[N]``.

    tonic is GPL-3: it is called where it is installed (``pip install tonic``), and no part of it is here.

    Args:
        dataset: with ``sensor_size``; gives (events, label).
        steps: T, of equal length in time.
        count: samples, spread evenly over the data set; all by default.

    Raises:
        ImportError: tonic is not installed.
    """
    try:
        from tonic.transforms import ToFrame
    except ImportError as error:
        raise ImportError("reading event data sets needs tonic: pip install tonic (GPL-3)") from error
    size: int = len(dataset)  # type: ignore[arg-type]
    places = torch.linspace(0, size - 1, min(count or size, size)).round().long().tolist()
    to_frame = ToFrame(sensor_size=dataset.sensor_size, n_time_bins=steps)  # type: ignore[attr-defined]
    found = [dataset[i] for i in places]  # type: ignore[index]
    frames = torch.stack([torch.from_numpy(to_frame(events).astype("float32")) for events, _ in found])
    return frames, torch.tensor([int(label) for _, label in found])
