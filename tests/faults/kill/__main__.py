"""Jobs killed at many moments, resumed where it ended: ``python tests/faults/kill --count 50 --seed 0 --record FILE``.

The record holds, for every job, how many of its runs were killed, and every one after which something was wrong, with
the moment. Exit status 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
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

from snnconv.files.atomic import write_whole  # noqa: E402
from tests.faults.kill.jobs import JOBS  # noqa: E402
from tests.faults.kill.moments import killed, undisturbed  # noqa: E402
from tests.faults.resumed import resumed  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=tuple(JOBS))
    parser.add_argument("--record", type=Path, default=Path("kill.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop; another call goes on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    end = time.monotonic() + options.seconds
    record = resumed(options.record, options.seed, "killed")
    whole: dict[str, Any] = {}
    while sum(record["killed"].values()) < options.count and time.monotonic() < end:
        name = options.jobs[record["tried"] % len(options.jobs)]
        if name not in whole:
            whole[name] = undisturbed(JOBS[name])
        wrong, moment = killed(JOBS[name], whole[name], random.Random(options.seed * 10**6 + record["tried"]))
        record["tried"] += 1
        if wrong != "ended":
            record["killed"][name] = record["killed"].get(name, 0) + 1
        if wrong not in ("", "ended"):
            record["wrong"].append([record["tried"] - 1, name, *moment, wrong])
            print(*record["wrong"][-1], flush=True)
        write_whole(options.record, (json.dumps(record, indent=1) + "\n").encode())
    print({name: (value.writes, round(value.seconds, 1)) for name, value in whole.items()})
    print(record["tried"], "runs, killed:", record["killed"], "wrong:", len(record["wrong"]))
    return 1 if record["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
