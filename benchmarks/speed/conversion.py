"""``python -m benchmarks.speed.conversion``: where the time of a conversion goes, in forward passes over its inputs.

The unit is the source network's own pass (BatchNorm folded) over the calibration inputs, in batches as a conversion
takes them, timed before and after each conversion. Peak memory of the calibration pass is beside the network's own at
that batch, each in a process of its own.
"""

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

import snnconv
from snnbench import results
from snnbench.results.provenance import provenance
from snnconv import methods

from ..main import exit_with
from .memory import alone, ann_peak, peak
from .networks import NETWORKS, folded

OUT = Path(__file__).parent / "results" / "conversion.json"
BATCH = 64
METHODS: dict[str, methods.Method] = {
    "calibrate": methods.ShiftedThreshold(4, correction="none"),
    "shifted threshold, T = 4": methods.ShiftedThreshold(4),
    "signed IF, T = 8": methods.SignedIF(8),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.conversion", description=__doc__)
    parser.add_argument("--networks", type=lambda text: text.split(","), default=["resnet20", "resnet18"])
    parser.add_argument("--inputs", type=int, default=256, help="calibration inputs")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many conversions counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    for name in options.networks:
        if name not in NETWORKS:
            parser.error(f"unknown network {name!r}: choose of {', '.join(NETWORKS)}")
    torch.set_num_threads(options.threads)
    results.check_out(options.out)
    rows = [row for name in options.networks for row in measure(name, options.inputs, options.repeats)]
    memory = {}
    for name in options.networks:
        size = min(BATCH, options.inputs)
        own, calibrating = (alone(f, name, size, options.threads) for f in (ann_peak, calibration_peak))
        memory[name] = {"ann": own, "calibration": calibrating}
    record = {"inputs": options.inputs, "threads": options.threads, "rows": rows, "memory": memory, **provenance(0)}
    results.write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))
    return 0


def measure(name: str, inputs: int, repeats: int) -> list[dict[str, Any]]:
    """Seconds of each phase of a conversion and of a forward pass, the median of ``repeats``."""
    model, _ = NETWORKS[name].build()
    x = torch.randn(inputs, *NETWORKS[name].shape)
    plain = folded(model)
    forward(plain, x[:BATCH])
    rows = []
    for label, method in METHODS.items():
        phases: dict[str, list[float]] = {}
        units, totals = [], []
        for _ in range(repeats):
            before = forward(plain, x)
            start = time.perf_counter()
            snn = snnconv.convert(model, method, x, progress=False)
            totals.append(time.perf_counter() - start)
            units.append((before + forward(plain, x)) / 2)
            for phase, seconds in snn.report.seconds.items():
                phases.setdefault(phase, []).append(seconds)
        row = {"network": name, "method": label, "forward": statistics.median(units)}
        row |= {"total": statistics.median(totals), "phases": {k: statistics.median(v) for k, v in phases.items()}}
        rows.append(row)
    return rows


@torch.no_grad()
def forward(model: torch.nn.Module, x: Tensor) -> float:
    """Seconds of one pass over the inputs."""
    start = time.perf_counter()
    for part in x.split(BATCH):
        model(part)
    return time.perf_counter() - start


def calibration_peak(network: str, batch: int, threads: int) -> int | None:
    """The peak of a calibration on one batch in bytes, without keeping samples."""
    torch.set_num_threads(threads)
    model, few = NETWORKS[network].build()
    x = torch.randn(batch, *NETWORKS[network].shape)
    snnconv.calibrate(model, few, samples=0, progress=False)
    return peak(lambda given: snnconv.calibrate(model, given, samples=0, progress=False), x)


def table(record: dict[str, Any]) -> str:
    """Forward passes that each phase takes."""
    phases = list(dict.fromkeys(phase for row in record["rows"] for phase in row["phases"]))
    header = ["network", "method", "pass (s)", *phases, "all"]
    lines = [_line(header), _line(["---", "---", *["---:"] * (len(header) - 2)])]
    for row in record["rows"]:
        cells = [f"{row['phases'][p] / row['forward']:.2f}" if p in row["phases"] else "" for p in phases]
        whole = f"{row['total'] / row['forward']:.2f}"
        lines.append(_line([row["network"], row["method"], f"{row['forward']:.2f}", *cells, whole]))
    for name, peaks in record["memory"].items():
        if all(peaks.values()):
            share = peaks["calibration"] / peaks["ann"]
            lines.append(f"\n{name}: peak memory of calibration / of the network: {share:.2f}")
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    exit_with(main)
