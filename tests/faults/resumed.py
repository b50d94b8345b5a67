"""The record of a run of many tries, which goes on where it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import snnconv

__all__ = ["resumed"]


def resumed(path: Path, seed: int, counts: str) -> dict[str, Any]:
    """What the record in ``path`` holds; an empty one where there is none.

    Args:
        counts: the field in which outcomes are counted.

    Raises:
        SystemExit: it is a record of another release or seed.
    """
    if not path.exists():
        return {"release": snnconv.__version__, "seed": seed, "tried": 0, counts: {}, "wrong": []}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (record["release"], record["seed"]) != (snnconv.__version__, seed):
        raise SystemExit(
            f"{path} is a record of release {record['release']}, seed {record['seed']}: give another --record"
        )
    return record
