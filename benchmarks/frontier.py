"""``python -m benchmarks.frontier``: accuracy against synaptic operations, and what each part of a conversion is worth.

CIFAR-10, ResNet-20, shifted threshold. The frontier: one T for all layers, and T layer by layer
(``timesteps="auto"``) at the operations that a uniform T takes. The ablation: thresholds, bias correction,
reconstruction and T by layer, each on and off, with the seconds of the conversion. Both go into one JSON file, from
which tables and plot are made; finished points are kept with ``--resume``. ``SNNCONV_DATA`` as in `benchmarks.cifar10`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import snnconv
from snnbench import results
from snnbench.networks.models import resnet20_cifar10
from snnbench.results.provenance import provenance
from snnconv import methods

from .classification import Batch, accuracy
from .data import DataError, cifar10, find
from .main import RESUMES, exit_with

OUT = Path(__file__).parent / "frontier.json"
BATCH = 100
PROFILED = 64


@dataclass(frozen=True)
class Wanted:
    """A point to be measured.

    Attributes:
        part: ``"frontier"`` or ``"ablation"``.
        label: of its row.
        method: with the T that its budget is that of, where ``share`` is given.
        share: T layer by layer, at this share of the operations that the method takes with T everywhere.
    """

    part: str
    label: str
    method: methods.Method
    share: float | None = None

    @property
    def key(self) -> str:
        return f"{self.part}: {self.label}, T = {self.method.timesteps}" + (f" x {self.share}" if self.share else "")


def wanted() -> list[Wanted]:
    """All points; a point with a share comes behind the one that it is a share of."""
    plain = methods.ShiftedThreshold(4)
    points = [Wanted("frontier", "uniform T", replace(plain, timesteps=t)) for t in (3, 4, 5, 6)]
    points += [Wanted("frontier", "T by layer", replace(plain, timesteps=t), share=1.0) for t in (3, 4, 5)]
    points.append(Wanted("frontier", "T by layer", replace(plain, timesteps=5), share=0.75))
    for t in (3, 4):
        at = replace(plain, timesteps=t)
        off = replace(at, correction="none")
        points += [
            Wanted("ablation", "thresholds: largest", replace(off, thresholds="max")),
            Wanted("ablation", "thresholds: 99.9 %", replace(off, thresholds="99.9%")),
            Wanted("ablation", "thresholds: squared error", off),
            Wanted("ablation", "+ bias", at),
            Wanted("ablation", "+ reconstruction", replace(at, correction="reconstruct")),
            Wanted("ablation", "+ T by layer, bias", at, share=1.0),
            Wanted("ablation", "+ T by layer, reconstruction", replace(at, correction="reconstruct"), share=1.0),
        ]
    return points


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=__doc__)
    parser.add_argument("--limit", type=int, metavar="N", help="N test images drawn with the seed (default: all)")
    parser.add_argument("--calibration", type=int, default=1024, metavar="N", help="training images, at most 1024")
    parser.add_argument("--only", metavar="WORD", help="only points whose name contains this")
    parser.add_argument("--resume", action="store_true", help="keep finished points of the same settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the frontier")
    options = parser.parse_args(arguments)
    if not 1 <= options.calibration <= 1024:
        raise DataError(f"--calibration is between 1 and 1024, got {options.calibration}")
    results.check_out(options.out)
    points = [p for p in wanted() if not options.only or options.only in p.key]
    if not points:
        raise DataError(f"--only {options.only} is in none of: {'; '.join(p.key for p in wanted())}")
    model = resnet20_cifar10(find("resnet20_cifar10.safetensors")).eval()
    train = cifar10("train").shuffled(options.seed).first(options.calibration)
    test = list(cifar10("test").shuffled(options.seed).first(options.limit).batches(BATCH))
    images = sum(len(y) for _, y in test)
    settings = {"images": images, "calibration": options.calibration, "weights": results.digest(model)}
    record = _begin(options.out, settings, options.resume)
    record |= {"settings": settings, **provenance(options.seed)}
    if "ann" not in record:
        record["ann"] = accuracy(model, test)
    calibration = [x for x, _ in train.batches(BATCH)]
    for point in points:
        if point.key not in record["points"]:
            record["points"][point.key] = measured(model, point, record["points"], calibration, test, options.seed)
            results.write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
            print(f"{point.key:<60} {record['points'][point.key]['top1']:.2f} %", flush=True)
    print(tables(record))
    if options.plot:
        plot(record, options.plot)
    return 0


def _begin(path: Path, settings: dict[str, Any], resume: bool) -> dict[str, Any]:
    """What is stored, where it is to be gone on with and was measured in the same way."""
    if resume and path.exists():
        stored: dict[str, Any] = json.loads(path.read_text())
        if stored.get("settings") == settings:
            return stored
    return {"points": {}}


def measured(
    model: Any, point: Wanted, before: dict[str, Any], calibration: list[Any], test: Sequence[Batch], seed: int
) -> dict[str, Any]:
    """Accuracy, operations and seconds of a point."""
    auto: dict[str, Any] = {}
    if point.share is not None:
        uniform = next(
            (p for k, p in before.items() if p["timesteps"] == point.method.timesteps and not p["share"]), None
        )
        if uniform is None:
            raise DataError(f"{point.key} takes a share of what uniform T = {point.method.timesteps} takes: measure it")
        auto = {"timesteps": "auto", "budget": {"sops": point.share * uniform["sops"]}}
    start = time.perf_counter()
    snn = snnconv.convert(model, point.method, list(calibration), seed=seed, progress=False, **auto)
    seconds = time.perf_counter() - start
    top1 = accuracy(snn, test)
    figures = snnconv.profile(model, snn, [test[0][0][:PROFILED]])
    return {
        "part": point.part,
        "label": point.label,
        "timesteps": point.method.timesteps,
        "share": point.share,
        "method": snn.report.method,
        "top1": top1,
        "sops": figures.sops,
        "seconds": seconds,
    }


def tables(record: dict[str, Any]) -> str:
    """The ablation and the frontier in Markdown."""
    points = record["points"].values()
    frontier = sorted((p for p in points if p["part"] == "frontier"), key=lambda p: (p["label"], p["sops"]))
    lines = ["| steps | at the operations of | SOPs an image | top-1 |", "| --- | --- | ---: | ---: |"]
    for p in frontier:
        like = f"{p['share'] or 1:.0%} of T = {p['timesteps']}" if p["share"] else f"T = {p['timesteps']}"
        lines.append(f"| {p['label']} | {like} | {p['sops'] / 1e6:.2f} M | {p['top1']:.2f} |")
    steps = sorted({p["timesteps"] for p in points if p["part"] == "ablation"})
    rows = list(dict.fromkeys(p["label"] for p in points if p["part"] == "ablation"))
    if rows:
        heads = " | ".join(f"T = {t} | SOPs | convert (s)" for t in steps)
        lines += ["", f"| conversion | {heads} |", f"| --- |{' ---: | ---: | ---: |' * len(steps)}"]
    for row in rows:
        found = {p["timesteps"]: p for p in points if p["part"] == "ablation" and p["label"] == row}
        cells = [
            f"{found[t]['top1']:.2f} | {found[t]['sops'] / 1e6:.1f} M | {found[t]['seconds']:.0f}"
            if t in found
            else " | | "
            for t in steps
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines += ["", f"Source network: {record['ann']:.2f} % of {record['settings']['images']:,} test images."]
    return "\n".join(lines)


def plot(record: dict[str, Any], path: Path) -> None:
    """Accuracy against operations."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    points = [p for p in record["points"].values() if p["part"] == "frontier"]
    for label in dict.fromkeys(p["label"] for p in points):
        row = sorted((p["sops"] / 1e6, p["top1"]) for p in points if p["label"] == label)
        axes.plot([x for x, _ in row], [y for _, y in row], marker="o", label=label)
    axes.axhline(record["ann"], color="grey", linestyle="--", label="source network")
    axes.set(xlabel="synaptic operations an image (millions)", ylabel="top-1 (%)", title="CIFAR-10, ResNet-20")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    exit_with(main, RESUMES)
