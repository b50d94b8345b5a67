"""A digest in the header of a safetensors file, by which it is as it was written."""

from __future__ import annotations

import hashlib
import struct

__all__ = ["UNSEALED", "is_sealed", "sealed"]

UNSEALED = b"0" * 64
"""What stands in the place of a digest while it is computed."""


def sealed(content: bytes) -> bytes:
    """A safetensors file with its digest where its metadata says `UNSEALED`."""
    at = _digest_at(content, UNSEALED)
    return content[:at] + _digest(content, at) + content[at + len(UNSEALED) :]


def is_sealed(content: bytes, digest: str) -> bool:
    """Whether a file is as it was written: ``digest`` is the SHA-256 of it, with zeros in the digest's own place."""
    try:
        at = _digest_at(content, digest.encode("ascii"))
    except ValueError:
        return False
    return _digest(content, at) == digest.encode("ascii")


def _digest_at(content: bytes, digest: bytes) -> int:
    if len(digest) != len(UNSEALED):
        raise ValueError(f"{digest!r} is no digest")
    (size,) = struct.unpack("<Q", content[:8])
    return content.index(b'"' + digest + b'"', 8, 8 + size) + 1


def _digest(content: bytes, at: int) -> bytes:
    whole = memoryview(content)
    total = hashlib.sha256(whole[:at])
    total.update(UNSEALED)
    total.update(whole[at + len(UNSEALED) :])
    return total.hexdigest().encode("ascii")
