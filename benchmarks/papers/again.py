"""``python -m benchmarks.papers.again``: commands for the result files that were measured before a method changed."""

from __future__ import annotations

import shlex

from benchmarks.papers.row import committed
from snnbench.results import Record

__all__ = ["command", "main", "stale"]

_LTB = "LocalThresholdBalancing"
_OPTIONS = ("--out", "--work-dir", "--methods", "--timesteps")
"""Of the command that a file names: not for the next one."""


def stale(record: Record) -> bool:
    """Whether a row of LTB has the delay of before: estimated by channels, and not rounded down.

    Files name every setting; ``calibration_samples`` became one when the delay became the paper's.
    """
    method = record["method"]
    fields = method["fields"]
    return method["name"] == _LTB and fields.get("delay") == "auto" and "calibration_samples" not in fields


def command(record: Record) -> str:
    """What measures the row again.

    >>> command({"command": "snnconv bench a.py --out res --resume --methods LTB,IF", "label": "LTB"})
    'snnconv bench a.py --methods LTB'
    """
    words, kept = shlex.split(record["command"]), []
    while words:
        word = words.pop(0)
        if word in _OPTIONS:
            del words[:1]
        elif word != "--resume":
            kept.append(word)
    return shlex.join([*kept, "--methods", record["label"]])


def main() -> int:
    """Print a line a file."""
    found = [record for record in committed().values() if stale(record)]
    for record in found:
        print(command(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
