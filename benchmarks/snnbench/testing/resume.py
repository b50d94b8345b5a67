"""What a test pass has found so far, on disk, so that a killed pass goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnconv.files.atomic import replacing

__all__ = ["PartialState"]


class PartialState:
    """Results of the batches done, in one file a rank.

    Args:
        path: the file.
        fingerprint: of the run; a file of another run is not used.

    >>> import tempfile, pathlib
    >>> state = PartialState(pathlib.Path(tempfile.mkdtemp()) / "s.pt", "a")
    >>> state.save(2, {("ANN", (0, 0)): [[1.0, 2.0]]}, {"ANN": 0.5})
    >>> state.done(), PartialState(state.path, "b").done()
    (2, 0)
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._marks: list[tuple[int, dict[Any, list[int]], dict[str, float]]] = []

    def save(self, done: int, results: dict[Any, list[list[Any]]], seconds: dict[str, float]) -> None:
        """Store the results of the first ``done`` batches, whole or not at all."""
        counts = {key: [len(found) for found in lists] for key, lists in results.items()}
        # a rank may be killed before another one has stored the same batches: keep where each store ended
        self._marks = [*self._marks[-8:], (done, counts, dict(seconds))]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"fingerprint": self.fingerprint, "marks": self._marks, "results": results}
        with replacing(self.path) as temporary:
            torch.save(content, temporary)

    def _read(self) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        from numpy._core import multiarray

        allowed: list[Any] = [np.dtype, np.ndarray, multiarray._reconstruct, multiarray.scalar]
        allowed += [type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8", "u1", "bool")]
        try:
            with torch.serialization.safe_globals(allowed):
                content = torch.load(self.path, weights_only=True)
        except Exception:  # a damaged file, or one of another version: begin again
            return None
        return content if content.get("fingerprint") == self.fingerprint else None

    def done(self) -> int:
        """Batches whose results are stored."""
        content = self._read()
        return int(content["marks"][-1][0]) if content is not None else 0

    def load(self, done: int) -> tuple[dict[Any, list[list[Any]]], dict[str, float]]:
        """Results of exactly the first ``done`` batches, and the seconds spent on them.

        Raises:
            RuntimeError: the file does not reach back to that batch.
        """
        content = self._read()
        for mark, counts, seconds in content["marks"] if content is not None else ():
            if mark == done and content is not None:
                results = {
                    key: [found[:n] for found, n in zip(lists, counts[key], strict=True)]
                    for key, lists in content["results"].items()
                }
                return results, dict(seconds)
        raise RuntimeError(f"{self.path.name} does not hold the state after batch {done}: start again without --resume")

    def delete(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
