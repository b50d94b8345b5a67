"""A small disk that is full at many moments: ``python tests/faults/disk --count 200 --seed 0 --record FILE``, as root.

Every file that the project writes, and every command that writes several, on a file system of a few megabytes with so
many bytes left. The record holds, for each, how often it ended with an error and how often it still had room, and
everything that was wrong. Exit status 1 where there is one; where it was stopped it goes on.
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

os.environ["OMP_NUM_THREADS"] = "1"  # forks of a process with threads may hang
HERE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HERE.parent / "plugin"), str(HERE.parent / "benchmarks")]
sys.modules["tests"] = types.ModuleType("tests")  # a package of that name may be installed
sys.modules["tests"].__path__ = [str(HERE)]

import torch  # noqa: E402
from _pytest.outcomes import Skipped  # noqa: E402

from snnconv.files.atomic import write_whole  # noqa: E402
from tests.faults.disk.small import small  # noqa: E402
from tests.faults.disk.tries import TRIES, needed  # noqa: E402
from tests.faults.resumed import resumed  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="tries in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", nargs="+", choices=TRIES, default=tuple(TRIES))
    parser.add_argument("--megabytes", type=int, default=8, help="size of the file system")
    parser.add_argument("--record", type=Path, default=Path("disk.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop; another call goes on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    end = time.monotonic() + options.seconds
    record = resumed(options.record, options.seed, "ended")
    whole: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, small(Path(name), options.megabytes) as place:
        while record["tried"] < options.count and time.monotonic() < end:
            what = options.of[record["tried"] % len(options.of)]
            if what not in whole:
                try:
                    whole[what] = needed(TRIES[what], place)
                except Skipped as error:
                    whole[what] = None
                    print(f"{what}: {error}", flush=True)
            if whole[what] is None:
                record["tried"] += 1
                continue
            draw = random.Random(options.seed * 10**6 + record["tried"])
            left = draw.randrange(whole[what].size + 4096)
            outcome, wrong = TRIES[what].run(place, left, whole[what])
            ended = record["ended"].setdefault(what, {})
            ended[outcome] = ended.get(outcome, 0) + 1
            if wrong:
                record["wrong"].append([record["tried"], what, left, wrong[:600]])
                print(*record["wrong"][-1], flush=True)
            record["tried"] += 1
            write_whole(options.record, (json.dumps(record, indent=1) + "\n").encode())
    print({name: (value.size, round(value.seconds, 2)) for name, value in whole.items() if value})
    print(record["tried"], "tries:", record["ended"], "wrong:", len(record["wrong"]))
    return 1 if record["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
