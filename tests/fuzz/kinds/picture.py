"""Pictures: PNG in colour and in 16-bit grey, JPEG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnconv.files.pictures import open_rgb
from snnconv.files.untrusted import UntrustedFileError
from tests.fuzz.changes import changed_bytes
from tests.fuzz.kind import Kind


def samples() -> dict[str, bytes]:
    """One of each."""
    from PIL import Image

    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (16, 12, 3), dtype=np.uint8))
    grey = Image.fromarray(draw.integers(0, 2**16, (9, 7), dtype=np.uint16))
    found = {}
    for name, picture in (("colour.png", colour), ("grey.png", grey), ("colour.jpg", colour)):
        written = io.BytesIO()
        picture.save(written, "jpeg" if name.endswith("jpg") else "png")
        found[name] = written.getvalue()
    return found


def read(path: Path) -> Any:
    """The pixels."""
    return torch.from_numpy(np.array(open_rgb(path)))


KIND = Kind(
    samples, changed_bytes, read, (UntrustedFileError,), checksums=frozenset({"colour.png", "grey.png"}), needs=("PIL",)
)
