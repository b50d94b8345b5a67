"""Changed files by the thousand, resumed where it ended: ``python tests/fuzz --count 30000 --seed 0 --record FILE``.

The record holds the seed, what is done, how often each outcome came, by kind of change, and every outcome that is wrong
with what it takes to make its file again. Exit status 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "plugin")]
sys.modules["tests"] = types.ModuleType("tests")  # a package of that name may be installed
sys.modules["tests"].__path__ = [str(HERE.parent)]

import torch  # noqa: E402

import snnconv  # noqa: E402
from snnconv.files.atomic import write_whole  # noqa: E402
from tests.fuzz.mutate import mutated  # noqa: E402
from tests.fuzz.outcomes import GOOD, read, watch_code  # noqa: E402
from tests.fuzz.samples import SAMPLES, inputs  # noqa: E402

MEMORY = 2**30
"""Bytes that reading one file may add to the process."""


def main(arguments: list[str] | None = None) -> int:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, default=Path("fuzz.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record = _started(options.record, options.seed)
    samples = {name: (sample, _saved(sample), sample.network()(inputs())) for name, sample in SAMPLES.items()}
    names = list(samples)
    watch_code()
    with tempfile.TemporaryDirectory() as folder:
        path, begin = Path(folder) / "changed.safetensors", time.monotonic()
        while record["done"] < options.count:
            number = record["done"]
            name = names[number % len(names)]
            sample, content, expected = samples[name]
            changed, how, sealed = mutated(content, options.seed * 10**9 + number)
            path.write_bytes(changed)
            before = _peak()
            outcome = read(path, sample, expected, sealed)
            found = outcome.name if _peak() - before < MEMORY else "memory"
            record["outcomes"][found] = record["outcomes"].get(found, 0) + 1
            for kind in set(how.split("+")):
                by_kind = record["changes"].setdefault(kind, {})
                by_kind[found] = by_kind.get(found, 0) + 1
            if found not in GOOD:
                record["wrong"].append([number, name, how, found, outcome.detail[:300]])
                print(*record["wrong"][-1], flush=True)
            record["done"] = number + 1
            if record["done"] % 250 == 0 or record["done"] == options.count:
                record["seconds"] += round(time.monotonic() - begin, 1)
                begin = time.monotonic()
                write_whole(options.record, (json.dumps(record, indent=1) + "\n").encode())
    print(
        json.dumps(
            {key: record[key] for key in ("release", "seed", "done", "seconds", "outcomes", "changes")}, indent=1
        )
    )
    return 1 if record["wrong"] else 0


def _started(path: Path, seed: int) -> dict[str, Any]:
    new = {"release": snnconv.__version__, "seed": seed, "done": 0, "seconds": 0.0, "outcomes": {}, "changes": {},
           "wrong": []}  # fmt: skip
    if not path.exists():
        return new
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found["seed"] != seed or found["release"] != snnconv.__version__:
        raise SystemExit(
            f"{path} is a record of seed {found['seed']}, release {found['release']}: give another --record"
        )
    return found


def _saved(sample: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        snnconv.save(sample.network(), Path(folder) / "net")
        return (Path(folder) / "net").read_bytes()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
