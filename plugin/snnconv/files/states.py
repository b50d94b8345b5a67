"""States of long work in files of ``torch.save``, each whole or not there."""

from __future__ import annotations

import errno
import os
from typing import Any

import torch

from snnconv.files.atomic import replacing

__all__ = ["write_pickle"]


def write_pickle(path: str | os.PathLike[str], content: Any) -> None:
    """Write what :func:`~snnconv.files.untrusted.read_pickle` reads, whole or not at all.

    Raises:
        OSError: it cannot be written; the message names ``path``, which is as it was.

    >>> import tempfile
    >>> from snnconv.files.untrusted import read_pickle
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_pickle(f"{folder}/a.pt", {"done": 3})
    ...     read_pickle(f"{folder}/a.pt")
    {'done': 3}
    """
    with replacing(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch's own words for a disk that is full
            raise OSError(errno.EIO, str(error)) from error
