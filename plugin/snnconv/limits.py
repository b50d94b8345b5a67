"""What is refused because it would run or grow without end, whoever asks for it.

Each limit is a plain number that a caller with good reason may raise for the whole process, before the work:

>>> from snnconv import limits, methods
>>> methods.IF(timesteps=2**20)
Traceback (most recent call last):
ValueError: methods.IF: timesteps is 1048576, more than snnconv.limits.TIMESTEPS = 65536; ...
>>> limits.TIMESTEPS = 2**20
>>> methods.IF(timesteps=2**20).timesteps
1048576
>>> limits.TIMESTEPS = 2**16
"""

from __future__ import annotations

__all__ = [
    "CONSTANT", "EXPANSION", "LADDER", "LADDERS", "OTHERS", "PIXELS", "SIZE", "TENSORS", "TIMESTEPS", "UNPACKED",
    "VALUES",
]  # fmt: skip

TIMESTEPS = 2**16
"""Time steps of a method, in each of its phases: a run of so many takes minutes for the smallest of networks."""

CONSTANT = 2**26
"""Elements of a tensor that the graph of a file makes out of numbers alone (``torch.zeros``, ``torch.arange``)."""

LADDER = 2**25
"""Thresholds of the ladder of one population of neurons: they are found by bisection, all at a time."""

LADDERS = 2**26
"""Thresholds of all ladders that are kept; those used longest ago are found again."""

SIZE = 2**53
"""Largest whole number in the graph of a file, and the largest that it may compute from its input's shape."""

VALUES = 2**28
"""Elements that an operator of a file's graph may give for one sample."""

OTHERS = 2**16
"""Folders, and files that are no images, below one class of a folder of images: with more, it is another folder."""

PIXELS = 2**26
"""Pixels of one picture that is read; as many as 8,192 x 8,192 take 200 MB, and a gigabyte as a network's input."""

TENSORS = 2**16
"""Tensors in one safetensors file."""

UNPACKED = 2**30
"""Bytes that any zip, tensor or array in HDF5 may grow to; one that is large itself may grow to :data:`EXPANSION` times
its size."""

EXPANSION = 100
"""How many times its own size a file may grow to beyond :data:`UNPACKED`; pictures and videos hardly grow."""
