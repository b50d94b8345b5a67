"""Records as a table and as a plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .data import write_whole
from .records import Record


def by_label(records: Sequence[Record]) -> dict[str, dict[int, Record]]:
    """label → number of steps → record, labels in the order they came."""
    rows: dict[str, dict[int, Record]] = {}
    for record in records:
        rows.setdefault(record["label"], {})[int(record["timesteps"])] = record
    return rows


def table(
    records: Sequence[Record], timesteps: Sequence[int], failed: Mapping[tuple[str, int], str] | None = None
) -> Table:
    """Top-1 accuracy at each number of steps; spikes, energy and time at the largest one of the row."""
    failed = failed or {}
    rows = by_label(records)
    for label, _ in failed:
        rows.setdefault(label, {})
    images = max((r["config"]["test_images"] for r in records), default=0)
    first = records[0] if records else {"dataset": "", "architecture": ""}
    result = Table(title=f"{first['dataset']}, {first['architecture']}: top-1 accuracy (%) on {images:,} test images")
    result.add_column("method", no_wrap=True)
    for t in timesteps:
        result.add_column(f"T={t}", justify="right")
    for name in ("ANN", "spikes/\nneuron", "energy\nSNN/ANN", "convert\ns", "run\nms/image"):
        result.add_column(name, justify="right")
    for label, row in rows.items():
        cells = [
            f"{row[t]['metrics']['top1']:.1f}" if t in row else "failed" if (label, t) in failed else ""
            for t in timesteps
        ]
        if not row:
            result.add_row(label, *cells)
            continue
        last = row[max(row)]
        energy = last.get("energy")
        spikes = last.get("spikes_per_neuron")
        result.add_row(
            label,
            *cells,
            f"{last['ann']['top1']:.1f}",
            "" if spikes is None else f"{spikes:.2f}",
            "" if not energy else f"{energy['ratio']:.3f}",
            f"{last['seconds']['convert']:.1f}",
            f"{1000 * last['seconds']['evaluate'] / last['config']['test_images']:.2f}",
        )
    result.caption = (
        "T counts every step run, τ + T for SRP. Spikes, energy and time belong to the largest T of the row; "
        "energy is empty where synaptic operations are not counted."
    )
    return result


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
    rows = by_label(records)
    curves = {label: {t: record["metrics"]["top1"] for t, record in sorted(row.items())} for label, row in rows.items()}
    dashed = {label for label in rows if label.startswith("SpikingJelly")}
    plots.accuracy(curves, ann=records[0]["ann"]["top1"], dashed=dashed, axes=axes)
    axes.set_title(f"{records[0]['dataset']}, {records[0]['architecture']}")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_whole(path, content.getvalue())
