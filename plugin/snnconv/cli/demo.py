"""``snnconv demo``: digits, a network trained on them, every method's accuracy against time steps."""

from __future__ import annotations

import inspect
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from snnconv.cli.inputs import InputError
from snnconv.cli.outcome import Drawn, say, write_picture
from snnconv.files.atomic import replacing, write_whole

if TYPE_CHECKING:
    from torch import nn

__all__ = ["demo"]


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the picture, the networks and the test images.")] = Path(
        "snnconv-demo"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 25,
) -> Drawn:
    """Train a small network on handwritten digits, convert it by every method, show the table; under a minute.

    Examples:
        snnconv demo
        snnconv demo --out first --json
    """
    from snnconv import demo as digits_demo
    from snnconv import plot
    from snnconv.demo.digits import one_thread
    from snnconv.dynamics.kernels.backends import auto_is
    from snnconv.metrics.evaluating import evaluate

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    digits = digits_demo.load_digits()
    say(f"training a small network on {len(digits.y_train):,} digits, then 24 conversions; results in {out}/")
    model = digits_demo.train(digits_demo.small_cnn(), digits, epochs)
    trained = time.perf_counter() - start
    rows = []
    for row in digits_demo.measure(model, digits):
        rows.append(row)
        say(f"{row.label:<21} T={row.latency:<3} {row.accuracy:6.2f} %")
    with one_thread(), auto_is("eager"):
        ann = evaluate(rows[0].network, (digits.x_test, digits.y_test), model=model, timesteps=[1]).ann
    assert ann is not None
    curves = digits_demo.curves(rows)
    table = _table(rows, ann, len(digits.y_test))
    seconds = time.perf_counter() - start
    table.caption = f"T counts every step that runs; trained in {trained:.0f} s, all in {seconds:.0f} s"

    def draw(axes: Any) -> None:
        plot.accuracy(curves, ann=ann, axes=axes)

    picture = out / "accuracy.png"
    write_picture(picture, draw)
    saved, source = _write(out, rows, model, digits)
    plain = [
        {"method": row.label, "steps": row.latency, "accuracy": row.accuracy, "energy_ratio": row.energy_ratio}
        for row in rows
    ]
    page = f"snnconv report {shlex.quote(str(saved))} --model {source} --html {shlex.quote(str(out / 'report.html'))}"
    return Drawn(
        table,
        {"samples": len(digits.y_test), "ann": ann, "rows": plain},
        plain,
        draw,
        wrote=[picture, saved],
        then=[page, f"snnconv eval {source} --at 2,4,8", f"snnconv recommend {source} --budget drop=1.0"],
    )


def _table(rows: list[Any], ann: float, samples: int) -> Table:
    steps = sorted({row.latency for row in rows})
    table = Table(title=f"digits: top-1 accuracy (%) after T steps, {samples} test images; ANN {ann:.2f}")
    table.add_column("method")
    for t in steps:
        table.add_column(f"T={t}", justify="right")
    table.add_column("energy ÷ ANN\nat T = 8 (5)", justify="right")
    for label in dict.fromkeys(row.label for row in rows):
        own = {row.latency: row for row in rows if row.label == label}
        ratio = own[max(t for t in own if t <= 8)].energy_ratio
        cells = [f"{own[t].accuracy:.1f}" if t in own else "" for t in steps]
        table.add_row(label, *cells, "" if ratio is None else f"{ratio:.2f}")
    return table


def _write(out: Path, rows: list[Any], model: nn.Module, digits: Any) -> tuple[Path, str]:
    """Write a converted network, its source network's code and weights, and the test images.

    Returns:
        The converted network's file, and the words that name the source network and the images to a command.
    """
    import torch

    import snnconv
    from snnconv.demo import network

    names = ("digits.snn.safetensors", "network.py", "weights.pth", "test.npz")
    saved, code, weights, test = (out / name for name in names)
    best = next(row for row in rows if row.label == "signed IF" and row.latency == 8)
    snnconv.save(best.network, saved)
    write_whole(code, inspect.getsource(network).encode())
    with replacing(weights) as temporary:
        torch.save(model.state_dict(), temporary)
    _save_test(test, digits)
    return saved, shlex.join([f"{code}:small_cnn", "--weights", str(weights), "--data", str(test)])


def _save_test(path: Path, digits: Any) -> None:
    import numpy as np

    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, x=digits.x_test.numpy(), y=digits.y_test.numpy())
