"""Zips of pictures by class, as a data set."""

from __future__ import annotations

import io
import os
import random
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from snnbench.data.archive import ArchiveError, unpack
from snnbench.data.images import decode_images
from snnbench.data.roots import DataError
from tests.fuzz.changes import Changed, changed_bytes, changed_member
from tests.fuzz.kind import Kind


def samples() -> dict[str, bytes]:
    """Six pictures in two classes, packed and as they are."""
    draw = np.random.default_rng(0)
    found = {}
    for name, packing in (("packed.zip", zipfile.ZIP_DEFLATED), ("stored.zip", zipfile.ZIP_STORED)):
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", packing) as archive:
            for number in range(6):
                picture = io.BytesIO()
                Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)).save(picture, "png")
                folder = ("cat", "dog")[number % 2]
                archive.writestr(zipfile.ZipInfo(f"{folder}/{number}.png"), picture.getvalue(), packing)
        found[name] = written.getvalue()
    return found


def change(content: bytes, draw: random.Random) -> Changed:
    """Bytes of the file or of a member."""
    return changed_bytes(content, draw) if draw.random() < 0.5 else changed_member(content, draw)


def read(path: Path) -> Any:
    """The decoded pictures, their labels and classes; and which files unpacking leaves, all inside of the folder."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"SNNCONV_CACHE": folder}):
        found = decode_images(path)
        target = unpack(path, Path(folder) / "unpacked" / "set")
        inside = {entry.relative_to(target).as_posix() for entry in target.rglob("*") if entry.is_file()}
        everything = {entry for entry in Path(folder).rglob("*") if entry.is_file()}
        outside = [entry for entry in everything if target not in entry.parents and entry.suffix != ".safetensors"]
        return found.images, found.labels, list(found.classes), sorted(inside), [entry.name for entry in outside]


def odd(found: Any) -> str:
    """What a data set cannot be."""
    images, labels, classes, _, outside = found
    if outside:
        return f"files outside of the folder: {outside}"
    return "" if len(images) and int(torch.max(labels)) < len(classes) else "labels without a class"


KIND = Kind(
    samples, change, read, (DataError, ArchiveError), odd=odd, checksums=frozenset({"packed.zip", "stored.zip"}),
    needs=("PIL", "filelock"),
)  # fmt: skip
