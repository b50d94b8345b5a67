"""Which seeds were tried, where: a record that goes with the code, so that a long run can be shared among machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snnbench.results import write_whole
from snnbench.results.files import read_json

__all__ = ["add", "generator", "ranges", "read", "seeds_of"]

DRAWING = ("draw.py", "generator.py", "images.py", "network.py", "relus.py", "tokens.py")
WHERE = ("commit", "torch", "processor")


def generator() -> str:
    """A hash of what draws: with another one, seeds are other networks."""
    found = hashlib.sha256()
    for name in DRAWING:
        found.update(Path(__file__).with_name(name).read_bytes().replace(b"\r\n", b"\n"))
    return found.hexdigest()[:16]


def ranges(seeds: Iterable[int]) -> list[list[int]]:
    """Runs of neighbouring numbers, each as its first and the one after its last.

    >>> ranges([3, 0, 1, 7, 2])
    [[0, 4], [7, 8]]
    """
    found: list[list[int]] = []
    for seed in sorted(seeds):
        if found and found[-1][1] == seed:
            found[-1][1] += 1
        else:
            found.append([seed, seed + 1])
    return found


def seeds_of(record: Mapping[str, Any]) -> set[int]:
    """All seeds of a record.

    >>> seeds_of({"runs": [{"seeds": [[0, 2]]}, {"seeds": [[5, 6]]}]})
    {0, 1, 5}
    """
    return {seed for run in record["runs"] for first, end in run["seeds"] for seed in range(first, end)}


def read(path: Path) -> dict[str, Any]:
    """A record, or an empty one where there is none or the networks were drawn otherwise.

    Raises:
        ResultError: the file is damaged.
    """
    if path.exists():
        record: dict[str, Any] = read_json(path)[0]
        if record["generator"] == generator():
            return record
    return {"generator": generator(), "runs": []}


def add(path: Path, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add seeds on which nothing failed; each counts once, where it was first tried. Return the whole record.

    Args:
        path: of the record.
        lines: a line a seed: ``seed``, ``failed``, ``refused``, ``commit``, ``torch``, ``processor``.
    """
    record = read(path)
    known = seeds_of(record)
    new: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["seed"] not in known and not line["failed"]:
            new.setdefault(tuple(str(line[key]) for key in WHERE), []).append(line)
    for where, those in new.items():
        described = dict(zip(WHERE, where, strict=True))
        run = next((r for r in record["runs"] if all(r[key] == described[key] for key in WHERE)), None)
        if run is None:
            run = {**described, "seeds": [], "refused": 0}
            record["runs"].append(run)
        run["seeds"] = ranges(seeds_of({"runs": [run]}) | {line["seed"] for line in those})
        run["refused"] += sum(bool(line["refused"]) for line in those)
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
    return record
