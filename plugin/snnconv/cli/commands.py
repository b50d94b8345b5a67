"""``snnconv convert | eval | compare | profile | doctor``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from snnconv.cli.data import Data
from snnconv.cli.given import Given
from snnconv.cli.inputs import InputError, check_out
from snnconv.cli.outcome import Drawn, Outcome
from snnconv.progress import bars

if TYPE_CHECKING:
    from snnconv.metrics.evaluating import Evaluation, Metric
    from snnconv.network import SpikingNetwork

__all__ = ["compare", "convert", "doctor", "eval_", "profile"]

Snn = Annotated[Path | None, typer.Option("--snn", help="A network saved by convert, instead of converting.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only N inputs, spread evenly over the data.")]
Cost = Annotated[
    str,
    typer.Option(help="The cost model of energies: 45nm, int8, bit-operations, lemaire, loihi or 77fj."),
]


def convert(
    given: Given,
    *,
    out: Annotated[Path, typer.Option(help="File to write, for instance net.snn.safetensors.")],
) -> Outcome:
    """Convert a network and save the spiking one.

    Examples:
        snnconv convert torchvision:resnet18 --pretrained --data val/ --timesteps 8 --out net.snn.safetensors
        snnconv convert net.py:make --weights net.pth --data train.npz --method shifted-threshold --timesteps 4 --out net.snn.safetensors
    """  # noqa: E501
    import snnconv

    check_out(out)
    snn = given.spiking()
    snnconv.save(snn, out)
    rows = [dataclasses.asdict(site) for site in snn.report.spiking]
    return Outcome(
        snn.report,
        {"file": str(out), **snn.report.to_dict()},
        rows,
        wrote=[out],
        then=[
            given.again("eval", "--snn", str(out)),
            given.page(out),
        ],
    )


def eval_(
    given: Given,
    *,
    at: Annotated[
        str | None,
        typer.Option(help="Convert once for each of these: 4,8,16. Default: --timesteps alone."),
    ] = None,
    metric: Annotated[str, typer.Option(help="top1 or top5: percent of right answers.")] = "top1",
    snn: Snn = None,
    limit: Limit = None,
) -> Drawn:
    """Accuracy against time steps, beside the source network's.

    Examples:
        snnconv eval torchvision:resnet18 --pretrained --data val/ --at 4,8,16 --plot accuracy.png
        snnconv eval net.py:make --weights net.pth --data val.npz --snn net.snn.safetensors --json
    """
    from snnconv import plot
    from snnconv.metrics.evaluating import METRICS
    from snnconv.tables import named

    named(METRICS, metric, "metric")  # an unknown one is refused before the work
    test = given.test
    if not test.labelled:
        raise InputError(f"{given.data} holds no labels: eval needs y beside x, or a subfolder a class")
    numbers = _conversions(given, at, snn)
    given.check_classes(test)
    label = snn.name if snn is not None else given.method
    curve: dict[int, float] = {}
    ann: float | None = None
    for number in numbers:
        net = given.spiking(saved=snn) if number is None else given.spiking(timesteps=number)
        found = _evaluated(given, net, metric, limit, course=number is None, with_ann=ann is None)
        ann = found.ann if ann is None else ann
        curve.update(found.curve)
    rows = [{"network": label, "T": t, "value": value} for t, value in curve.items()]
    of, count = found.metric, _count(test, limit)
    plain = {"metric": of.name, "unit": of.unit, "samples": count, "pre_timesteps": found.pre_timesteps, "ann": ann}
    then = [given.again("compare", "--snn", str(snn))]
    if snn is None:
        then = [given.again("convert", "--out", "net.snn.safetensors", method=net.method)]
    return Drawn(
        _accuracies(of, ann, rows, count, test.count),
        {**plain, "networks": rows},
        [{"network": "ANN", "T": None, "value": ann}, *rows],
        lambda axes: plot.accuracy({label: curve}, ann=ann, label=of.label, axes=axes),
        then=then,
    )


def _conversions(given: Given, at: str | None, snn: Path | None) -> Sequence[str | None]:
    """T of each conversion that is evaluated; None: the saved network runs as it is.

    Raises:
        InputError: options that do not go together.
    """
    frames = given.frames
    if frames and at is not None:
        raise InputError("--input sequence reads out after each frame of a recording: leave out --at")
    if frames and given.settings.get("timesteps") is None:
        given.settings["timesteps"] = str(frames)
    if snn is not None and at is not None:
        raise InputError("--at converts; a saved network runs as it is, so leave out --at or --snn")
    if snn is not None:
        return [None]
    if at is not None:
        return _whole_numbers(at, "--at")
    if given.settings.get("timesteps") is None:
        raise InputError("eval needs --timesteps N or --at 4,8,16 (or --snn FILE)")
    return [str(given.settings["timesteps"])]


def _evaluated(
    given: Given, net: SpikingNetwork, metric: str, limit: int | None, course: bool, with_ann: bool
) -> Evaluation:
    """A network on the test data, after its last step; ``course``: and after each power of two of steps."""
    import snnconv

    test, last = given.test, given.frames or net.timesteps
    shown = {last} | ({2**k for k in range(last.bit_length())} if course or given.frames else set())
    with bars(None) as progress:
        return snnconv.evaluate(
            net,
            test.batches(limit),
            metric,
            model=given.network if with_ann else None,
            timesteps=shown,
            progress=lambda what, done, total: progress(what, done, _count(test, limit)),
        )


def _accuracies(of: Metric, ann: float | None, rows: list[dict[str, Any]], count: int, available: int) -> Table:
    some = f" of {available:,}, spread evenly" if count < available else ""
    table = Table(title=f"{of.title} on {count:,} inputs{some}")
    for name in ("network", "T", of.label):
        table.add_column(name, justify="left" if name == "network" else "right")
    table.add_row("ANN", "", f"{ann:.2f}")
    for row in rows:
        table.add_row(row["network"], str(row["T"]), f"{row['value']:.2f}")
    return table


def _count(test: Data, limit: int | None) -> int:
    """How many inputs ``--limit`` leaves."""
    return min(limit or test.count, test.count)


def compare(given: Given, *, snn: Snn = None, limit: Limit = 64) -> Drawn:
    """Error of every layer, spiking against source: where the spiking network departs.

    Examples:
        snnconv compare net.py:make --weights net.pth --data val.npz --snn net.snn.safetensors
        snnconv compare timm:resnet26 --pretrained --data val/ --method if --timesteps 16 --plot layers.png
    """
    import snnconv
    from snnconv import plot

    net = given.spiking(saved=snn)
    found = snnconv.compare(given.network, net, given.test.inputs(limit))
    return Drawn(
        found,
        dataclasses.asdict(found),
        [dataclasses.asdict(row) for row in found.rows],
        lambda axes: plot.layer_error(found, axes=axes),
        then=[given.again("profile", "--snn", str(snn)) if snn else given.again("profile", method=net.method)],
    )


def profile(given: Given, *, snn: Snn = None, limit: Limit = 64, cost: Cost = "45nm") -> Drawn:
    """Spikes, synaptic operations, energy and latency of a spiking network.

    Examples:
        snnconv profile net.py:make --weights net.pth --data val.npz --snn net.snn.safetensors
        snnconv profile torchvision:resnet18 --pretrained --data val/ --timesteps 8 --csv
        snnconv profile net.py:make --weights net.pth --data val.npz --cost lemaire
    """
    import snnconv
    from snnconv import plot
    from snnconv.metrics import costs

    if cost not in costs.COSTS:
        raise InputError(f"--cost {cost}: there is no such cost model; there are {', '.join(costs.COSTS)}")
    net = given.spiking(saved=snn)
    found = snnconv.profile(given.network, net, given.test.inputs(limit), cost=cost)
    return Drawn(
        found,
        found.to_dict(),
        [dataclasses.asdict(layer) for layer in found.layers],
        lambda axes: plot.energy(found, axes=axes),
        then=[given.again("compare", "--snn", str(snn)) if snn else given.again("compare", method=net.method)],
    )


def doctor() -> Outcome:
    """What is installed, which backends work, what is missing and how to get it.

    Examples:
        snnconv doctor
        snnconv doctor --json
    """
    from snnconv.cli.doctor import Report, advice, check_all, versions

    checks = check_all()
    missing = any(check.required and check.state != "ok" for check in checks)
    rows = [dataclasses.asdict(check) for check in checks]
    return Outcome(
        Report(checks),
        {**versions(), "checks": rows},
        rows,
        then=[] if missing else ["snnconv demo"],
        status=2 if missing else 0,
        notes=advice(checks),  # unlike a table's cells they are not folded: they can be copied
    )


def _whole_numbers(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{option} takes whole numbers from 1 on, separated by commas, got {text!r}")
    return parts
