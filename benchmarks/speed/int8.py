"""``python -m benchmarks.speed.int8``: what 8-bit weights cost in accuracy and save in time, on CIFAR-10.

``SNNCONV_DATA`` names the folder with CIFAR-10 and the ResNet-20 weights. Each row is run in turn with float32 on the
same images.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import snnconv
from snnconv import methods

from ..main import exit_with
from .early_exit import accuracy, cifar, parsed, seconds, store

OUT = Path(__file__).parent / "results" / "int8.json"
METHODS = {
    "shifted threshold, T = 4": methods.ShiftedThreshold(4),
    "signed IF, T = 16": methods.SignedIF(16),
    "IF, T = 32": methods.IF(32),
    "SRP, T = 4 + 16": methods.SRP(16, pre_timesteps=4),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = parsed(__doc__ or "", "int8", OUT, 10_000, arguments)
    model, calibration, batches = cifar(options)
    rows = []
    print("| method | float32 | int8 | same class | time / float32 |\n|---|---:|---:|---:|---:|")
    for name, method in METHODS.items():
        snn = snnconv.convert(model, method, calibration, progress=False)
        plain = [snn(x) for x, _ in batches]
        snn.precision = "int8"
        found = [snn(x) for x, _ in batches]
        same = sum(int((p.argmax(1) == f.argmax(1)).sum()) for p, f in zip(plain, found, strict=True))
        ratios = []
        timed = batches[: max(1, 1000 // options.batch)]
        for _ in range(options.repeats):
            eight = seconds(snn, timed)
            snn.precision = "float32"
            ratios.append(eight / seconds(snn, timed))
            snn.precision = "int8"
        row = {
            "method": name,
            "float32": accuracy(plain, batches),
            "int8": accuracy(found, batches),
            "same": 100 * same / sum(len(y) for _, y in batches),
            "time": statistics.median(ratios),
            "float_layers": snn.float_layers,
        }
        rows.append(row)
        print(
            f"| {name} | {row['float32']:.2f} | {row['int8']:.2f} | {row['same']:.2f} | {row['time']:.2f} |", flush=True
        )
    store(options, rows)
    return 0


if __name__ == "__main__":
    exit_with(main)
