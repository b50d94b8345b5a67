"""Changed files by the thousand, resumed where it ended: ``python tests/fuzz --count 3000 --seed 0 --record FILE``.

The record holds the seed and, for every kind of file, what is done, how often each outcome came, by kind of change, and
every outcome that is wrong with what it takes to make its file again. Exit status 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "plugin"), str(ROOT / "benchmarks")]
sys.modules["tests"] = types.ModuleType("tests")  # a package of that name may be installed
sys.modules["tests"].__path__ = [str(HERE.parent)]

import torch  # noqa: E402

import snnconv  # noqa: E402
from snnconv.files.atomic import write_whole  # noqa: E402
from tests.fuzz.kind import KINDS, Kind, find  # noqa: E402
from tests.fuzz.outcomes import GOOD, expected_of, read, watch_code  # noqa: E402

EVERY = 50
"""Files after which the record is written."""


def main(arguments: list[str] | None = None) -> int:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--record", type=Path, default=Path("fuzz.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop; another call goes on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    record = _started(options.record, options.seed)
    end = time.monotonic() + options.seconds
    kinds = {name: find(name) for name in options.kinds}
    watch_code()
    for name, kind in kinds.items():
        new: dict[str, Any] = {"done": 0, "seconds": 0.0, "outcomes": {}, "changes": {}, "wrong": []}
        found = record["kinds"].setdefault(name, new)
        if found["done"] < options.count:
            _run(kind, name, options, record, found, end)
    for name, found in sorted(record["kinds"].items()):
        print(f"{name:12} {found['done']:6} files {found['seconds']:7.0f} s", found["outcomes"])
    return 1 if any(found["wrong"] for found in record["kinds"].values()) else 0


def _run(
    kind: Kind, name: str, options: argparse.Namespace, record: dict[str, Any], found: dict[str, Any], end: float
) -> None:
    """The files of one kind that are still to do."""
    with tempfile.TemporaryDirectory() as folder:
        samples = dict(kind.samples())
        expected = expected_of(kind, Path(folder))
        now = options.record.with_name(f"{options.record.name}.now")
        if now.exists() and now.read_text().startswith(f"{name} "):  # the process that read this file is gone
            _count(found, int(now.read_text().split()[1]), "", "process ended", "", "")
        begin, names = time.monotonic(), list(samples)
        while found["done"] < options.count and time.monotonic() < end:
            number = found["done"]
            sample = names[number % len(names)]
            changed = kind.change(samples[sample], random.Random(options.seed * 10**9 + number))
            path = Path(folder) / sample
            path.write_bytes(changed.content)
            now.write_text(f"{name} {number}")
            outcome = read(kind, path, expected[sample], changed.meant)
            path.unlink()
            _count(found, number, sample, outcome.name, changed.how, outcome.detail)
            if found["done"] % EVERY == 0:
                found["seconds"] = round(found["seconds"] + time.monotonic() - begin, 1)
                begin = time.monotonic()
                _store(options.record, record)
        found["seconds"] = round(found["seconds"] + time.monotonic() - begin, 1)
        _store(options.record, record)
        now.unlink(missing_ok=True)


def _count(found: dict[str, Any], number: int, sample: str, outcome: str, how: str, detail: str) -> None:
    found["outcomes"][outcome] = found["outcomes"].get(outcome, 0) + 1
    for change in set(how.split("+")) - {""}:
        by_change = found["changes"].setdefault(change, {})
        by_change[outcome] = by_change.get(outcome, 0) + 1
    if outcome not in GOOD:
        found["wrong"].append([number, sample, how, outcome, detail[:300]])
        print(*found["wrong"][-1], flush=True)
    found["done"] = number + 1


def _store(path: Path, record: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())


def _started(path: Path, seed: int) -> dict[str, Any]:
    if not path.exists():
        return {"release": snnconv.__version__, "seed": seed, "kinds": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "kinds" not in found or found["seed"] != seed or found["release"] != snnconv.__version__:
        raise SystemExit(f"{path} is no record of seed {seed}, release {snnconv.__version__}: give another --record")
    return found


if __name__ == "__main__":
    os.environ.pop("SNNCONV_DATA", None)  # what is read is the changed file alone
    sys.exit(main())
