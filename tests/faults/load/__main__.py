"""Calls for minutes, with memory and open files: ``python tests/faults/load --seconds 1800 --seed 0 --record FILE``.

Every network is called with changing batches, plainly, as a stream, with early exit and in a thread; conversions for
another T and saving and loading come between. The record holds memory and open files at equal distances of time.
Exit status 1 where either has grown: the last quarter's median is more than the second's by over the bound.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(HERE.parent / "plugin")]
sys.modules["tests"] = types.ModuleType("tests")  # a package of that name may be installed
sys.modules["tests"].__path__ = [str(HERE)]

import torch  # noqa: E402

import snnconv  # noqa: E402
from snnconv import methods  # noqa: E402
from snnconv.files.atomic import writable, write_whole  # noqa: E402
from tests.fuzz.samples import BY_GRAPH, METHODS, Loop, Traced, inputs  # noqa: E402

GROWTH = 24 * 2**20
"""Bytes by which memory may differ between the second quarter and the last: what the allocator keeps."""
MARKS = 40
"""Measurements in all."""


def main(arguments: list[str] | None = None) -> int:
    """Call, measure, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, default=Path("load.json"))
    options = parser.parse_args(arguments)
    writable(options.record)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    draw = random.Random(options.seed)
    programs = [(name, kind) for name in METHODS for kind in (Traced, Loop) if kind is Traced or name not in BY_GRAPH]
    networks = {f"{name}.{kind.__name__}": _converted(name, kind) for name, kind in programs}
    for call in CALLS.values():  # what is made once
        for name in networks:
            call(networks, name, draw)
    begin, calls, marks = time.monotonic(), dict.fromkeys(CALLS, 0), [_taken()]
    while (elapsed := time.monotonic() - begin) < options.seconds:
        kind = draw.choice(list(CALLS))
        CALLS[kind](networks, draw.choice(list(networks)), draw)
        calls[kind] += 1
        if elapsed > len(marks) * options.seconds / MARKS:
            marks.append(_taken())
    quarter = len(marks) // 4
    second, last = ([mark[0] for mark in part] for part in (marks[quarter : 2 * quarter], marks[3 * quarter :]))
    growth = statistics.median(last) - statistics.median(second)
    files = max(mark[1] for mark in marks) - marks[0][1]
    threads = marks[-1][2] - marks[0][2]
    record = {
        "release": snnconv.__version__, "seed": options.seed, "seconds": options.seconds, "calls": calls,
        "growth_mib": round(growth / 2**20, 2), "more_files": files, "more_threads": threads, "marks": marks,
    }  # fmt: skip
    write_whole(options.record, (json.dumps(record, indent=1) + "\n").encode())
    print({key: value for key, value in record.items() if key != "marks"})
    return int(growth > GROWTH or files > 0 or threads > 0)


def _converted(name: str, kind: type[torch.nn.Module], timesteps: int | None = None) -> snnconv.SpikingNetwork:
    torch.manual_seed(5)
    model = kind(name == "rate_norm")
    model.train()(inputs())
    method: Any = METHODS[name]
    if timesteps is not None:
        method = type(method)(timesteps) if not isinstance(method, methods.SRP) else methods.SRP(timesteps, 2)
    return snnconv.convert(model.eval(), method, inputs(), progress=False)


def _taken() -> list[int]:
    """Bytes in memory, open files, threads."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return [pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threading.active_count()]


Networks = dict[str, snnconv.SpikingNetwork]


def _plain(networks: Networks, name: str, draw: random.Random) -> None:
    networks[name](inputs(draw.randint(1, 24)))


def _stream(networks: Networks, name: str, draw: random.Random) -> None:
    if name == "shifted_threshold.Loop":
        return  # has no single steps, and says so
    for _ in networks[name].stream(inputs(draw.randint(1, 8))):
        pass


def _exit(networks: Networks, name: str, draw: random.Random) -> None:
    if name.startswith("if."):
        networks[name].early_exit(inputs(draw.randint(1, 8)), margin=0.1)


def _thread(networks: Networks, name: str, draw: random.Random) -> None:
    worker = threading.Thread(target=networks[name], args=(inputs(draw.randint(1, 8)),))
    worker.start()
    worker.join()


def _convert(networks: Networks, name: str, draw: random.Random) -> None:
    method, kind = name.split(".")
    networks[name] = _converted(method, {"Traced": Traced, "Loop": Loop}[kind], draw.randint(2, 9))


def _store(networks: Networks, name: str, draw: random.Random) -> None:
    kind = name.split(".")[1]
    with tempfile.TemporaryDirectory() as folder:
        snnconv.save(networks[name], Path(folder) / "net")
        model = Loop(name.startswith("rate_norm")) if kind == "Loop" else None
        networks[name] = snnconv.load(Path(folder) / "net", model=model)


CALLS: dict[str, Callable[[Networks, str, random.Random], None]] = {
    "plain": _plain, "stream": _stream, "early exit": _exit, "thread": _thread, "convert": _convert,
    "save and load": _store,
}  # fmt: skip
"""What is done, by name."""

if __name__ == "__main__":
    sys.exit(main())
