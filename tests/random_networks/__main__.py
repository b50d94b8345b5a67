"""Random networks by the thousand, resumed where it ended: ``python tests/random_networks --seeds 0:5000 --out FILE``.

The file has a line of JSON a seed: its seconds on the processor, the properties that failed, each with how, those
that it was refused for, and where it ran. Seeds that ``tried.json`` beside this file names were run on some machine
and commit without a failure and are not run again, unless ``--all`` asks for it; ``--record`` adds those of ``--out``.
``--show SEED`` prints a network and what fails on it, shrunk. The exit status is 1 where anything failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import types
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRIED = HERE / "tried.json"
sys.path[:0] = [str(ROOT / "plugin"), str(ROOT / "benchmarks")]
sys.modules["tests"] = types.ModuleType("tests")  # a package of that name may be installed
sys.modules["tests"].__path__ = [str(HERE.parent)]

import torch  # noqa: E402

from snnbench.results import provenance  # noqa: E402
from tests.random_networks import record  # noqa: E402
from tests.random_networks.generator import drawn  # noqa: E402
from tests.random_networks.properties import ALL, exported, failures  # noqa: E402
from tests.random_networks.shrink import shrunk  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=_range, default=range(60), metavar="FIRST:END", help="END is left out")
    parser.add_argument("--out", type=Path, default=Path("random_networks.jsonl"))
    parser.add_argument("--again", action="store_true", help="run anew the seeds that failed")
    parser.add_argument("--all", action="store_true", help="also the seeds of tried.json")
    parser.add_argument("--record", action="store_true", help="add what is done to tried.json")
    parser.add_argument("--show", type=int, metavar="SEED")
    parser.add_argument("--export", action="store_true", help="capture by torch.export alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.show is not None:
        return show(options.show)
    lines = _read(options.out)
    where = provenance(0)
    where = {"commit": where["commit"], "torch": torch.__version__, "processor": where["machine"]["processor"]}
    tried = set() if options.all or options.export else record.seeds_of(record.read(TRIED))
    for seed in options.seeds:
        if seed in lines and not (options.again and lines[seed]["failed"]):
            continue
        if seed in tried and seed not in lines:
            continue
        begin = time.process_time()
        with exported() if options.export else nullcontext():
            failed, refused = failures(drawn(seed))
        lines[seed] = {
            "seed": seed,
            "seconds": round(time.process_time() - begin, 2),
            "failed": failed,
            "refused": refused,
            **where,
        }
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[seed]) + "\n")
        for name, how in failed.items():
            print(f"seed {seed}: {name}: {how[:300]}", flush=True)
        if seed % 50 == 49:
            print(_figures(lines, options.seeds), flush=True)
    print(_figures(lines, options.seeds))
    if options.record and not options.export:
        record.add(TRIED, lines.values())
    if tried:
        print(f"{len(tried.intersection(options.seeds))} more were tried before, without a failure: {TRIED.name}")
    return 1 if any(lines[seed]["failed"] for seed in options.seeds if seed in lines) else 0


def show(seed: int) -> int:
    """Print a network and, of every property that fails on it, the smallest network that fails too."""
    network = drawn(seed)
    print(*network.network.described(), sep="\n")
    print("inputs:", *(tuple(x.shape) for x in network.inputs))
    failed, refused = failures(network)
    for name, sentence in refused.items():
        print(f"\n{name}: refused: {sentence}")
    for name in failed:
        less, how = shrunk(network, next(p for p in ALL if p.__name__ == name))
        print(f"\n{name}: {how}", *less.network.described(), sep="\n")
    return 1 if failed else 0


def _range(text: str) -> range:
    first, _, end = text.partition(":")
    return range(int(first), int(end))


def _read(path: Path) -> dict[int, dict[str, Any]]:
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return {line["seed"]: line for line in lines}


def _figures(lines: dict[int, dict[str, Any]], seeds: range) -> str:
    here = [line for seed, line in lines.items() if seed in seeds]
    wrong = Counter(name for line in here for name in line["failed"])
    refused = sum(bool(line["refused"]) for line in here)
    seconds = sum(line["seconds"] for line in here)
    return (
        f"{len(here)} of {len(seeds)} networks, {sum(bool(line['failed']) for line in here)} with failures "
        f"({dict(wrong)}), {refused} refused in part or whole, {seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
