"""``python -m benchmarks.speed.memory``: peak memory of a run for several budgets, beside the ANN's.

Each figure is of a process of its own, beyond what it held before the run (weights, libraries, the batch). The ANN is
measured at the whole batch, and at what one part of the spiking run sends through a layer: its inputs × T.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnconv
from snnbench import results
from snnbench.results.provenance import provenance
from snnconv import methods

from ..main import exit_with
from .engines import ENGINES, Run
from .networks import NETWORKS

OUT = Path(__file__).parent / "results" / "memory.json"
MIB = 2**20
METHODS: dict[str, type[methods.Method]] = {"IF": methods.IF, "signed IF": methods.SignedIF}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.memory", description=__doc__)
    parser.add_argument("--network", choices=list(NETWORKS), default="resnet18")
    parser.add_argument("--method", choices=list(METHODS), default="signed IF")
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--budgets", type=int, nargs="*", default=[16, 64, 256], help="MiB")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    results.check_out(options.out)
    setting = (options.network, options.method, options.timesteps, options.threads)
    whole = alone(ann_peak, options.network, options.batch, options.threads)
    rows = []
    print("| budget | inputs a part | SNN | ANN, inputs × T | ANN, batch |\n|---:|---:|---:|---:|---:|")
    for budget in options.budgets:
        part, peak = alone(snn_peak, *setting, options.batch, budget * MIB)
        unit = alone(ann_peak, options.network, part * options.timesteps, options.threads)
        rows.append({"budget": budget * MIB, "part": part, "peak": peak, "ann_at_part": unit, "ann": whole})
        print(f"| {budget} | {part} | " + " | ".join(_mib(n) for n in (peak, unit, whole)) + " |", flush=True)
    names = ("network", "method", "timesteps", "batch", "threads")
    record = {**{n: getattr(options, n) for n in names}, "rows": rows, **provenance(0)}
    results.write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
    return 0


def _mib(size: int | None) -> str:
    return "?" if size is None else f"{size / MIB:.0f} MiB"


def alone(function: Any, *arguments: Any) -> Any:
    """What ``function`` returns in a new process, whose memory no run before has touched."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def snn_peak(
    network: str, method: str, timesteps: int, threads: int, batch: int, budget: int
) -> tuple[int, int | None]:
    """Inputs that a thread takes at once, and the peak of one run in bytes."""
    torch.set_num_threads(threads)
    model, calibration = NETWORKS[network].build()
    snn = snnconv.convert(model, METHODS[method](timesteps), calibration, progress=False)
    snn.memory_budget = budget
    x = torch.randn(batch, *NETWORKS[network].shape)
    snn(torch.randn(2, 3, 32, 32))  # loads kernels
    return snn.simulation().plan.batch_size(x), peak(snn, x)


def ann_peak(network: str, batch: int, threads: int) -> int | None:
    """The peak of one run in bytes."""
    torch.set_num_threads(threads)
    model, calibration = NETWORKS[network].build()
    run = ENGINES["ANN"].prepare(model, calibration, 1)
    x = torch.randn(batch, *NETWORKS[network].shape)
    run(torch.randn(2, 3, 32, 32))
    return peak(run, x)


def peak(run: Run, x: Tensor) -> int | None:
    """Bytes that a run takes at most beyond what was there before; None where the system does not tell."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only: give back what was freed
        ctypes.CDLL(None).malloc_trim(0)
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(x)
        return int(torch.cuda.max_memory_allocated()) - before
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        before = _status(status, "VmRSS")
        clear.write_text("5")  # resets the high-water mark
    except OSError:
        return None
    run(x)
    return max(0, _status(status, "VmHWM") - before)


def _status(path: Path, key: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in path.read_text().splitlines() if line.startswith(key))


if __name__ == "__main__":
    exit_with(main)
