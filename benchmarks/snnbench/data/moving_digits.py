"""scikit-learn's handwritten digits in motion, as video files: 40 classes, digit × direction."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from snnbench.data.clips import write_video
from snnbench.data.roots import DataError, cache_dir
from snnconv.files.fingerprint import config_hash
from snnconv.progress import bars

__all__ = ["DIRECTIONS", "draw_clip", "moving_digits"]

DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
SETTINGS = {
    "size": 32,
    "frames": 8,
    "scale": 2,
    "slowest": 1,
    "fastest": 2,
    "rate": 8,
    "test_images": 450,
    "version": 1,
}


def draw_clip(image: np.ndarray, direction: str, draw: np.random.Generator) -> np.ndarray:
    """Frames ``[8, 32, 32, 3]`` uint8 of a digit that crosses the picture, at a place and speed drawn at random.

    Args:
        image: ``[8, 8]``, 0 to 16; it is shown at twice its size.
        direction: a key of `DIRECTIONS`.
        draw: of the place, and of the speed of 1 to 2 pixels a frame.

    >>> clip = draw_clip(np.full((8, 8), 16.0), "right", np.random.default_rng(0))
    >>> clip.shape, bool(clip[-1].nonzero()[1].min() > clip[0].nonzero()[1].min())
    ((8, 32, 32, 3), True)
    """
    s = SETTINGS
    sprite = np.kron(image * (255 / 16), np.ones((s["scale"], s["scale"]))).round().astype(np.uint8)
    room = s["size"] - len(sprite)
    speed = draw.uniform(s["slowest"], s["fastest"])
    path = speed * (s["frames"] - 1)
    along, across = draw.uniform(0, room - path), draw.integers(0, room + 1)
    clip = np.zeros((s["frames"], s["size"], s["size"], 3), np.uint8)
    rows, columns = DIRECTIONS[direction]
    for t in range(s["frames"]):
        ahead = round(along + speed * t)
        place = ahead if rows + columns > 0 else room - ahead
        top, left = (place, int(across)) if rows else (int(across), place)
        clip[t, top : top + len(sprite), left : left + len(sprite)] = sprite[..., None]
    return clip


def moving_digits() -> Path:
    """The folder with ``train/`` and ``test/``, a folder of MP4 files a class; written once into the cache.

    Every image of scikit-learn's 1,797 makes four clips, one a direction. The 450 images of the test clips are none of
    the training's.

    Raises:
        DataError: scikit-learn is not installed, or the cache cannot be written.
    """
    folder = cache_dir() / f"moving_digits_{config_hash(SETTINGS)}"
    if folder.is_dir():
        return folder
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError('the digit images come with scikit-learn: pip install "snnconv-plugin[bench]"') from error
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise DataError(f"{folder.parent} cannot be written ({error}): name another with SNNCONV_CACHE") from error
    try:
        with bars(None) as tell:
            for place, index in enumerate(order):
                split = "test" if place < SETTINGS["test_images"] else "train"
                draw = np.random.default_rng(int(index))
                for direction in DIRECTIONS:
                    clip = draw_clip(bunch.images[index], direction, draw)
                    target = building / split / f"{bunch.target[index]}-{direction}"
                    target.mkdir(parents=True, exist_ok=True)
                    write_video(target / f"{index:04d}.mp4", clip, SETTINGS["rate"])
                tell("writing digits in motion", place + 1, len(order))
        building.chmod(0o755)
        os.rename(building, folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster
            raise DataError(f"{folder} cannot be written ({error}): name another folder with SNNCONV_CACHE") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder
