"""``python -m benchmarks.speed.profile``: where the time of a run goes, for each engine.

One thread, so that shares add up: convolutions and linear layers, neurons (the kernels' scans, or, for the other
engines, element-wise operators), copies and layout changes, and what is left, which is Python between operators.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ..main import exit_with
from .engines import ENGINES, Run, Unavailable
from .networks import NETWORKS

SCAN = "snnconv::scan"
LAYERS = ("conv", "addmm", "linear", "mm")
COPIES = ("copy_", "clone", "contiguous", "cat", "repeat", "_to_copy", "pad", "reorder", "stack")
"""Parts of operators' names."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.profile", description=__doc__)
    parser.add_argument("--network", choices=list(NETWORKS), default="resnet20")
    parser.add_argument("--timesteps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--engines", nargs="*", default=[], help="only rows whose name contains one of these words")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    model, calibration = NETWORKS[options.network].build()
    x = torch.randn(options.batch, *NETWORKS[options.network].shape)
    print("| engine | ms | layers % | neurons % | copies % | Python % |\n|---|---:|---:|---:|---:|---:|")
    for name, engine in ENGINES.items():
        if options.engines and not any(word.lower() in name.lower() for word in options.engines):
            continue
        try:
            run = engine.prepare(model, calibration, options.timesteps)
        except Unavailable:
            continue
        shares = where(run, x.to(engine.dtype), options.repeats)
        total = shares.pop("total")
        print(
            f"| {name} | {1e3 * total:.1f} | " + " | ".join(f"{100 * s:.0f}" for s in shares.values()) + " |",
            flush=True,
        )
    return 0


def where(run: Run, x: torch.Tensor, repeats: int) -> dict[str, float]:
    """Median seconds of a run on one thread, and the shares of them.

    The shares are of a run under the profiler, whose own time between operators is taken out. The profiler sees the
    thread that started it; parts of a batch would run on others.
    """
    with _one_thread():
        run(x)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run(x)
            seconds.append(time.perf_counter() - start)
        total = statistics.median(seconds)
        with _scans_recorded(), profile(activities=[ProfilerActivity.CPU]) as record:
            for _ in range(repeats):
                run(x)
    shares = {"layers": 0.0, "neurons": 0.0, "copies": 0.0}
    for event in record.key_averages():
        shares[_kind(event.key)] += event.self_cpu_time_total / 1e6 / repeats / total
    if not shares["layers"]:
        raise RuntimeError("torch's profiler saw no convolution or linear layer")
    return {"total": total, **shares, "python": max(0.0, 1 - sum(shares.values()))}


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kind(name: str) -> str:
    short = name.split("::")[-1]
    if name != SCAN and any(word in short for word in LAYERS):
        return "layers"
    return "copies" if name != SCAN and any(word in short for word in COPIES) else "neurons"


@contextmanager
def _scans_recorded() -> Iterator[None]:
    """Kernels under a name that the profiler sees."""
    if find_spec("numba") is None:
        yield
        return
    from snnconv.dynamics.kernels.numba_cpu import launch

    original = launch.run_blocks

    def recorded(*arguments: object) -> None:
        with record_function(SCAN):
            original(*arguments)  # type: ignore[arg-type]

    launch.run_blocks = recorded  # type: ignore[assignment]
    try:
        yield
    finally:
        launch.run_blocks = original


if __name__ == "__main__":
    exit_with(main)
