"""What a test pass has found so far, on disk, so that a killed pass goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snnconv.files.atomic import writable
from snnconv.files.states import write_pickle
from snnconv.files.untrusted import UntrustedFileError, read_pickle

__all__ = ["PartialState"]


class PartialState:
    """Results of the batches done, in one file a rank.

    Args:
        path: the file. It holds tensors, arrays of numbers and text, numbers and text in lists and dictionaries; a file
            with anything else in it is not used, and nothing of it is run.
        fingerprint: of the run; a file of another run is not used.

    Attributes:
        problem: why the file that is there was not used, after :meth:`done`; empty where it was used.

    >>> import tempfile, pathlib
    >>> state = PartialState(pathlib.Path(tempfile.mkdtemp()) / "s.pt", "a")
    >>> state.save(2, {("ANN", (0, 0)): [[1.0, 2.0]]}, {"ANN": 0.5})
    >>> state.done(), PartialState(state.path, "b").done()
    (2, 0)
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.problem = ""
        self._marks: list[tuple[int, dict[Any, list[int]], dict[str, float]]] = []

    def save(self, done: int, results: dict[Any, list[list[Any]]], seconds: dict[str, float]) -> None:
        """Store the results of the first ``done`` batches, whole or not at all."""
        counts = {key: [len(found) for found in lists] for key, lists in results.items()}
        # a rank may be killed before another one has stored the same batches: keep where each store ended
        self._marks = [*self._marks[-8:], (done, counts, dict(seconds))]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"fingerprint": self.fingerprint, "marks": self._marks, "results": results}
        write_pickle(self.path, content)

    def check(self) -> None:
        """Refuse a place that cannot be written, before the work whose state is to go there.

        Raises:
            OSError: the folder cannot be made or takes no files; the message names the file.
        """
        writable(self.path, make_folder=True)

    def _read(self) -> dict[str, Any] | None:
        self.problem = ""
        if not self.path.exists():
            return None
        try:
            content = read_pickle(self.path)
        except (UntrustedFileError, OSError) as error:  # damaged, or of another version: begin again
            self.problem = str(error)
            return None
        if not _is_state(content):
            self.problem = f"{self.path}: holds no state of a test pass"
            return None
        if content["fingerprint"] != self.fingerprint:
            self.problem = f"{self.path}: is the state of a run with other settings"
            return None
        found: dict[str, Any] = content
        return found

    def done(self, keys: Iterable[Any] = ()) -> int:
        """Batches whose results are stored, for all of ``keys``: 0 where those of one are not there."""
        content = self._read()
        if content is None:
            return 0
        missing = [key for key in keys if key not in content["results"]]
        if missing:
            self.problem = f"{self.path}: holds no results of {missing[0][0]}"
            return 0
        return int(content["marks"][-1][0])

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


def _is_state(content: Any) -> bool:
    """Whether a file's content is in the layout that :meth:`PartialState.save` writes."""
    if not isinstance(content, dict) or not isinstance(content.get("fingerprint"), str):
        return False
    marks, results = content.get("marks"), content.get("results")
    if not isinstance(marks, list) or not marks or not isinstance(results, dict):
        return False
    if not all(isinstance(lists, list) and all(type(found) is list for found in lists) for lists in results.values()):
        return False
    lengths = {key: [len(found) for found in lists] for key, lists in results.items()}
    return all(_is_mark(mark, lengths) for mark in marks)


def _is_mark(mark: Any, lengths: dict[Any, list[int]]) -> bool:
    """Whether a store's mark says batches, the number of results of every metric then, and seconds."""
    if not isinstance(mark, list | tuple) or len(mark) != 3:
        return False
    done, counts, seconds = mark
    return (
        type(done) is int
        and done >= 0
        and isinstance(counts, dict)
        and counts.keys() == lengths.keys()
        and all(
            isinstance(counts[key], list)
            and len(counts[key]) == len(most)
            and all(type(n) is int and 0 <= n <= m for n, m in zip(counts[key], most, strict=True))
            for key, most in lengths.items()
        )
        and isinstance(seconds, dict)
        and all(isinstance(value, int | float) for value in seconds.values())
    )
