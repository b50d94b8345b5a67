"""``snnconv report``: one page on a converted network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from snnconv.cli.data import Data
from snnconv.cli.given import Given
from snnconv.cli.inputs import check_out
from snnconv.cli.outcome import Outcome
from snnconv.progress import bars

__all__ = ["report"]


def report(
    inputs: Given,
    file: Annotated[Path, typer.Argument(help="A network saved by convert.")],
    *,
    html: Annotated[Path, typer.Option(help="The page to write; it loads nothing from elsewhere.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Inputs, with labels for accuracy: a folder of images, or a .npz, .pt or .safetensors."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The source network, as convert takes it: its accuracy, every layer's error.")
    ] = None,
    metric: Annotated[str, typer.Option(help="top1 or top5: percent of right answers.")] = "top1",
    limit: Annotated[int, typer.Option(min=1, help="Inputs to evaluate at most, spread evenly over the data.")] = 1000,
) -> Outcome:
    """One HTML page on a converted network: accuracy, errors, energy, spikes, thresholds, what stays analog.

    Examples:
        snnconv report net.snn.safetensors --html report.html
        snnconv report net.snn.safetensors --data val.npz --model net.py:make --weights net.pth --html report.html
    """
    import snnconv

    check_out(html, "--html")
    snn = inputs.load(file) if model is None else inputs.spiking(saved=file)
    given: Any = None
    count = 0
    if data is not None:
        found = inputs.read(data)
        if model is not None:
            inputs.check_classes(found)
        given, count = _Batches(found, limit), min(found.count, limit)
    with bars(None) as progress:
        missing = snnconv.write_page(
            snn,
            html,
            data=given,
            model=None if model is None else inputs.network,
            metric=metric,
            name=file.name,
            limit=None,
            progress=lambda what, done, total: progress(what, done, max(count, total)),
        )
    notes = [f"left out: {sentence}" for sentence in missing]
    if data is None:
        notes.append("give --data, with labels, for accuracy and energy; --model for the source network beside it")
    plain = {"page": str(html), "left_out": missing}
    return Outcome(None, plain, [plain], wrote=[html], notes=notes)


@dataclass(frozen=True)
class _Batches:
    """The batches of some data, as often as they are asked for: pairs, or inputs where there are no labels."""

    data: Data
    limit: int

    def __iter__(self) -> Iterator[Any]:
        for x, y in self.data.batches(self.limit):
            yield x if y is None else (x, y)
