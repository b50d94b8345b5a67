"""``python -m benchmarks.speed.early_exit``: accuracy, mean steps and time of early exit on CIFAR-10.

``SNNCONV_DATA`` names the folder with CIFAR-10 and the ResNet-20 weights. Each row is run in turn with the plain
run of all steps on the same images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnconv
from snnbench import results
from snnbench.networks.models import ResNet20, resnet20_cifar10
from snnbench.results.provenance import provenance
from snnconv import methods

from ..data import cifar10, find
from ..main import exit_with

OUT = Path(__file__).parent / "results" / "early_exit.json"
CONFIDENCES = (0.6, 0.8, 0.9, 0.95, 0.99)
METHODS = {"signed IF": methods.SignedIF(16), "IF": methods.IF(32)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = parsed(__doc__ or "", "early_exit", OUT, 1000, arguments)
    model, calibration, batches = cifar(options)
    images = sum(len(y) for _, y in batches)
    rows = []
    print("| method | confidence | accuracy | mean T | time / plain run |\n|---|---:|---:|---:|---:|")
    for name, method in METHODS.items():
        snn = snnconv.convert(model, method, calibration, progress=False)
        plain = accuracy([snn(x) for x, _ in batches], batches)
        rows.append({"method": name, "confidence": None, "accuracy": plain, "steps": method.timesteps, "time": 1.0})
        print(f"| {name} | all steps | {plain:.2f} | {method.timesteps} | 1 |", flush=True)
        for confidence in CONFIDENCES:
            found = [snn.early_exit(x, confidence=confidence) for x, _ in batches]
            steps = sum(float(r.steps.sum()) for r in found) / images
            right = accuracy([r.output for r in found], batches)
            ratios = []
            for _ in range(options.repeats):
                early = seconds(lambda x, c=confidence, n=snn: n.early_exit(x, confidence=c), batches)
                ratios.append(early / seconds(snn, batches))
            ratio = statistics.median(ratios)
            rows.append({"method": name, "confidence": confidence, "accuracy": right, "steps": steps, "time": ratio})
            print(f"| {name} | {confidence} | {right:.2f} | {steps:.2f} | {ratio:.2f} |", flush=True)
    store(options, rows)
    return 0


def parsed(description: str, name: str, out: Path, images: int, arguments: Sequence[str] | None) -> Any:
    """The options of a command that compares runs on CIFAR-10."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.speed.{name}", description=description)
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args(arguments)
    results.check_out(options.out)
    return options


def cifar(options: Any) -> tuple[ResNet20, list[Tensor], list[tuple[Tensor, Tensor]]]:
    """The network, calibration images and batches of labelled test images."""
    torch.set_num_threads(options.threads)
    model = resnet20_cifar10(find("resnet20_cifar10.safetensors"))
    calibration = [x for x, _ in cifar10("train").shuffled(0).first(1024).batches(64)]
    return model, calibration, list(cifar10("test").shuffled(0).first(options.images).batches(options.batch))


def store(options: Any, rows: list[dict[str, Any]]) -> None:
    """Write the rows, with all that it takes to repeat them."""
    setting = {name: getattr(options, name) for name in ("images", "batch", "repeats", "threads")}
    content = json.dumps({**setting, "rows": rows, **provenance(0)}, indent=1) + "\n"
    results.write_whole(options.out, content.encode())


def accuracy(outputs: Sequence[Tensor], batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Per cent of the images whose label is the largest output."""
    right = sum(int((out.argmax(1) == y).sum()) for out, (_, y) in zip(outputs, batches, strict=True))
    return 100 * right / sum(len(y) for _, y in batches)


def seconds(run: Callable[[Tensor], Any], batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Seconds that ``run`` takes for all of them."""
    start = time.perf_counter()
    for x, _ in batches:
        run(x)
    return time.perf_counter() - start


if __name__ == "__main__":
    exit_with(main)
