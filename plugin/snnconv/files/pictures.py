"""Pictures from strangers as RGB: none that is damaged, clipped, or takes all memory."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import IO, TYPE_CHECKING

from snnconv import limits
from snnconv.files.refusal import UntrustedFileError, brief, regular

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["open_rgb"]

_CHUNK = struct.Struct(">I4s")
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""Tags of a TIFF."""
_SIGNED, _WHITE_IS_ZERO = 2, 0
_WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def open_rgb(source: str | os.PathLike[str] | bytes | IO[bytes], name: str | None = None) -> Image:
    """A picture in 8-bit RGB; grey ones of 16 bits are scaled, 257 values to one.

    Args:
        source: the file, or what it holds.
        name: what to call it in messages, where ``source`` is no path.

    Raises:
        FileNotFoundError: there is no such file.
        UntrustedFileError: it is damaged, no picture, has other pixels than numbers of 8 or 16 bits, or more of them
            than :data:`snnconv.limits.PIXELS`.
    """
    import numpy as np
    from PIL import Image

    name = name or str(source)
    if isinstance(source, str | os.PathLike):
        regular(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            width, height = image.size
            if width * height > limits.PIXELS:
                raise UntrustedFileError(
                    f"{name} has {width:,} x {height:,} pixels, more than snnconv.limits.PIXELS = {limits.PIXELS:,}; "
                    "make it smaller, or raise that limit"
                )
            if image.format == "PNG" and image.fp is not None:
                _check_chunks(image.fp)
            if why := _other_pixels(image):
                raise UntrustedFileError(f"{name} holds {why}; store it with 8 or 16 bits")
            if image.mode not in _WIDE:
                return image.convert("RGB")
            values = np.asarray(image)
    except (FileNotFoundError, UntrustedFileError):
        raise
    except Exception as error:  # Pillow raises a dozen types for a damaged file
        raise UntrustedFileError(f"{name} is damaged ({brief(error)}); get the file again") from error
    if values.min() < 0 or values.max() > 0xFFFF:
        raise UntrustedFileError(f"{name} holds pixels of {values.min()} to {values.max()}; store it with 8 or 16 bits")
    return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")


def _other_pixels(image: Image) -> str:
    """Pixels that Pillow would hand over as something else, or that have no largest value; empty where it is fine."""
    if image.mode == "F":
        return "floating-point pixels"
    if image.format != "TIFF":
        return ""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if image.mode == "I":
        return f"pixels of {tags.get(_BITS, (32,))[0]} bits"
    if any(kind == _SIGNED for kind in tags.get(_SAMPLE_FORMAT, ())):
        return "pixels with a sign"
    if image.mode in _WIDE and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return "16-bit pixels of which 0 is white"
    return ""


def _check_chunks(file: IO[bytes]) -> None:
    """Refuse a PNG of which a checksum does not fit: Pillow looks at none of pixels. The file stays where it is."""
    place = file.tell()
    file.seek(8)  # the signature
    kind = b""
    while kind != b"IEND":
        head = file.read(_CHUNK.size)
        if len(head) < _CHUNK.size:
            raise ValueError("it ends early")
        length, kind = _CHUNK.unpack(head)
        data = file.read(length + 4)
        if len(data) < length + 4 or zlib.crc32(kind + data[:-4]) != int.from_bytes(data[-4:], "big"):
            raise ValueError(f"the checksum of its {kind!r} does not fit")
    file.seek(place)
