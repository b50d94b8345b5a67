"""Rows as a table and as a plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from snnbench.results import Point, Record, write_whole


def by_steps(record: Record) -> dict[int, Point]:
    """Every step that runs → point."""
    return {point["latency"]: point for point in record["points"]}


def table(
    records: Sequence[Record], timesteps: Sequence[int], failed: Mapping[tuple[str, int], str] | None = None
) -> Table:
    """Top-1 accuracy at each number of steps; spikes, energy and time at the largest one of the row."""
    failed = failed or {}
    rows: dict[str, Record | None] = {record["label"]: record for record in records}
    for label, _ in failed:
        rows.setdefault(label, None)
    images = max((record["samples"] for record in records), default=0)
    first = records[0] if records else {"dataset": "", "architecture": ""}
    result = Table(title=f"{first['dataset']}, {first['architecture']}: top-1 accuracy (%) on {images:,} test images")
    result.add_column("method", no_wrap=True)
    for t in timesteps:
        result.add_column(f"T={t}", justify="right")
    for name in ("bits/\nstep", "ANN", "spikes/\nneuron", "energy\nSNN/ANN", "convert\ns", "run\nms/image"):
        result.add_column(name, justify="right")
    for label, record in rows.items():
        points = by_steps(record) if record else {}
        cells = [
            f"{points[t]['metrics']['top1']:.1f}" if t in points else "failed" if (label, t) in failed else ""
            for t in timesteps
        ]
        if not record:
            result.add_row(label, *cells)
            continue
        last = points[max(points)]
        seconds = last["seconds"]
        per_image = None if seconds["evaluate"] is None else 1000 * seconds["evaluate"] / record["samples"]
        result.add_row(
            label,
            *cells,
            _figure(last.get("bits_per_step"), 2),
            f"{record['ann']['metrics']['top1']:.1f}",
            _figure(last["spikes_per_neuron"], 2),
            _figure(last["energy_ratio"], 3),
            _figure(seconds["convert"], 1),
            _figure(per_image, 2),
        )
    result.caption = (
        "T counts every step run, τ + T for SRP. Spikes, energy and time belong to the largest T of the row; "
        "energy is empty where synaptic operations are not counted."
    )
    return result


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def print_table(
    records: Sequence[Record], timesteps: Sequence[int], failed: Mapping[tuple[str, int], str] | None = None
) -> None:
    # a fixed width where the output is no terminal, so that no column of figures is cut
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 80 + 8 * len(timesteps)))
    console.print(table(records, timesteps, failed))
    for (label, t), message in (failed or {}).items():
        console.print(f"[red]{label} at T={t} failed:[/red] {message}", highlight=False)


def plot(records: Sequence[Record], path: Path) -> None:
    """Accuracy against T with the ANN's line, as a PNG."""
    from matplotlib.figure import Figure

    from snnconv import plot as plots

    figure = Figure(figsize=(8.5, 5.5), layout="constrained")
    axes = figure.subplots()
    curves = {
        record["label"]: {t: point["metrics"]["top1"] for t, point in sorted(by_steps(record).items())}
        for record in records
    }
    dashed = {label for label in curves if label.startswith("SpikingJelly")}
    plots.accuracy(curves, ann=records[0]["ann"]["metrics"]["top1"], dashed=dashed, axes=axes)
    axes.set_title(f"{records[0]['dataset']}, {records[0]['architecture']}")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_whole(path, content.getvalue())
