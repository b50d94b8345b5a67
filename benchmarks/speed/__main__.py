"""``python -m benchmarks.speed``: seconds, ratio and peak memory against the ANN, SpikingJelly and snnTorch."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnbench import results
from snnbench.results.provenance import provenance

from ..main import GOES_ON, exit_with
from .engines import ENGINES, MOST_BITS, Engine, Run, Unavailable
from .memory import peak
from .networks import NETWORKS

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--networks", type=_words, default=list(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--timesteps", type=_numbers, default=[4, 16, 64])
    parser.add_argument("--batches", type=_numbers, default=[1, 8, 64])
    parser.add_argument("--engines", type=_words, default=[], help="only rows whose name contains one of these words")
    parser.add_argument("--repeats", type=int, default=5, help="the median of so many runs counts")
    parser.add_argument("--limit", type=float, default=60.0, help="leave out what would take longer a run, in seconds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="JSON file; a cell that it has is not measured again")
    options = parser.parse_args(arguments)
    for name in options.networks:
        if name not in NETWORKS:
            parser.error(f"unknown network {name!r}: choose of {', '.join(NETWORKS)}")
    torch.set_num_threads(options.threads)
    out = options.out or RESULTS / f"{options.device}.json"
    results.check_out(out)
    record = _load(out)
    rows = [n for n in ENGINES if not options.engines or any(w.lower() in n.lower() for w in options.engines)]
    for network in options.networks:
        for batch in options.batches:
            cells = [(t, n) for t in options.timesteps for n in rows if not (ENGINES[n].sums and t > MOST_BITS)]
            wanted = [c for c in cells if _find(record, network, batch, *c) is None]
            if wanted:
                measure_batch(record, network, batch, wanted, options, out)
    print(table(record))
    return 0


def measure_batch(
    record: dict[str, Any], network: str, batch: int, cells: list[tuple[int, str]], options: Any, out: Path
) -> None:
    """Measure ``cells`` (T, engine) on one batch, each beside the ANN, and write after each."""
    device = torch.device(options.device)
    model, calibration = NETWORKS[network].build()
    model, calibration = model.to(device), calibration.to(device)
    x = torch.randn(batch, *NETWORKS[network].shape, device=device)
    unit = ENGINES["ANN"].prepare(model, calibration, 1)
    pass_seconds = statistics.median(_time(unit, x) for _ in range(3))
    for timesteps, name in cells:
        engine = ENGINES[name]
        cell: dict[str, Any] = {"network": network, "batch": batch, "timesteps": timesteps, "engine": name}
        expected = pass_seconds * (1 if engine.sums else 3 * engine.steps(timesteps))
        if expected > options.limit:
            cell["left_out"] = f"about {expected:.0f} s a run"
        else:
            try:
                cell |= measure(engine, unit, model, calibration, x, timesteps, options.repeats)
            except Unavailable as error:
                cell["left_out"] = str(error)
        cell["threads"] = torch.get_num_threads()
        record["cells"].append(cell)
        record |= provenance(0)
        out.parent.mkdir(parents=True, exist_ok=True)
        results.write_whole(out, (json.dumps(record, indent=1) + "\n").encode())
        print(line(cell), flush=True)


def measure(
    engine: Engine, unit: Run, model: torch.nn.Module, calibration: Tensor, x: Tensor, timesteps: int, repeats: int
) -> dict[str, Any]:
    """Median seconds of an engine and of the ANN, run in turn, and the memory that each takes beyond its weights."""
    run = engine.prepare(model, calibration, timesteps)
    given = x.to(engine.dtype)
    first = _time(run, given)
    _time(run, given)
    seconds, anns = [], []
    for _ in range(repeats):
        anns.append(_time(unit, x))
        seconds.append(_time(run, given))
    median, ann = statistics.median(seconds), statistics.median(anns)
    return {
        "seconds": median,
        "spread": [min(seconds), max(seconds)],
        "ann_seconds": ann,
        "first_seconds": first,
        "steps": engine.steps(timesteps),
        "ratio": median / (ann * (1 if engine.sums else engine.steps(timesteps))),
        "peak_bytes": peak(run, given),
        "ann_peak_bytes": peak(unit, x),
        "repeats": repeats,
    }


def _time(run: Run, x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _load(path: Path) -> dict[str, Any]:
    return results.read_json(path)[0] if path.is_file() else {"cells": []}


def _find(record: dict[str, Any], network: str, batch: int, timesteps: int, engine: str) -> dict[str, Any] | None:
    key = (network, batch, timesteps, engine)
    names = ("network", "batch", "timesteps", "engine")
    return next((c for c in record["cells"] if tuple(c[n] for n in names) == key), None)


def line(cell: dict[str, Any]) -> str:
    """One cell as a line of the table."""
    start = f"| {cell['network']} | {cell['batch']} | {cell['timesteps']} | {cell['engine']} |"
    if "left_out" in cell:
        return f"{start} left out: {cell['left_out']} | | |"
    peak = cell["peak_bytes"]
    memory = "" if peak is None else f"{peak / 2**20:.0f}"
    return f"{start} {1e3 * cell['seconds'] / cell['batch']:.2f} | {cell['ratio']:.2f} | {memory} |"


def table(record: dict[str, Any]) -> str:
    """Every cell as Markdown."""
    head = "| network | batch | T | engine | ms an image | ratio | peak MiB |\n|---|---:|---:|---|---:|---:|---:|"
    order = {name: index for index, name in enumerate(ENGINES)}
    cells = sorted(
        record["cells"],
        key=lambda c: (list(NETWORKS).index(c["network"]), c["batch"], c["timesteps"], order[c["engine"]]),
    )
    return "\n".join([head, *map(line, cells)])


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    exit_with(main, GOES_ON)
