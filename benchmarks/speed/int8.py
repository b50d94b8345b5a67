"""``python -m benchmarks.speed.int8``: what 8-bit weights cost in accuracy and save in time, on CIFAR-10.

``SNNCONV_DATA`` names the folder with CIFAR-10 and the ResNet-20 weights. Each row is run in turn with float32 on the
same images.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import snnconv
import torch
from snnconv import methods, results
from snnconv.provenance import provenance

from ..data import cifar10, find
from ..main import exit_with
from ..models import resnet20_cifar10
from .early_exit import accuracy, seconds

OUT = Path(__file__).parent / "results" / "int8.json"
METHODS = {
    "shifted threshold, T = 4": methods.ShiftedThreshold(4),
    "signed IF, T = 16": methods.SignedIF(16),
    "IF, T = 32": methods.IF(32),
    "SRP, T = 4 + 16": methods.SRP(16, pre_timesteps=4),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.int8", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = resnet20_cifar10(find("resnet20_cifar10.safetensors"))
    calibration = [x for x, _ in cifar10("train").shuffled(0).first(1024).batches(64)]
    batches = list(cifar10("test").shuffled(0).first(options.images).batches(options.batch))
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
    setting = {"images": options.images, "batch": options.batch, "repeats": options.repeats, "threads": options.threads}
    record = {**setting, "rows": rows, **provenance(0)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results.write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    exit_with(main)
