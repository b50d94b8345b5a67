"""What a command found, and how it is printed: as a table, as JSON or as CSV, as a picture; and what to do next."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from snnconv.cli.inputs import InputError, check_out
from snnconv.files.atomic import replacing

__all__ = ["PICTURES", "Drawn", "Outcome", "check_picture", "emit", "say", "write_picture"]

PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        shown: prints as a table.
        plain: the same as plain values, for ``--json``.
        rows: its rows, for ``--csv``.
        draw: draws it on axes that it is given, for ``--plot``.
        wrote: files that were written.
        then: commands to go on with.
        status: exit status; 1: it ran, and the answer is no.
        notes: lines below the table.
    """

    shown: Any
    plain: Any
    rows: Sequence[Mapping[str, Any]] = ()
    draw: Callable[[Any], Any] | None = None
    wrote: Sequence[Path] = ()
    then: Sequence[str] = ()
    status: int = 0
    notes: Sequence[str] = field(default=())


class Drawn(Outcome):
    """What a command found that can be drawn: it has ``--plot``."""


def say(text: str, colour: str | None = None) -> None:
    """A line to the terminal that is no result: to stderr, in colour where that is wanted (NO_COLOR is not set)."""
    typer.secho(text, fg=colour, err=True, color=False if os.environ.get("NO_COLOR") else None)


def check_picture(path: Path | None) -> None:
    """Refuse a ``--plot`` that cannot be written, before the work.

    Raises:
        InputError: no picture's name, or its folder takes no files.
    """
    if path is None:
        return
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"--plot {path}: give the name of a picture that ends in {', '.join(PICTURES)}")
    check_out(path, "--plot")


def emit(outcome: Outcome, form: str = "table", picture: Path | None = None) -> None:
    """Print an outcome in the form asked for (``table``, ``json``, ``csv``); draw it; say what to do next."""
    if form == "json":
        typer.echo(json.dumps(_finite(outcome.plain), indent=2, ensure_ascii=False, default=str))
    elif form == "csv":
        typer.echo(_csv(outcome.rows), nl=False)
    elif hasattr(outcome.shown, "__rich__") or hasattr(outcome.shown, "__rich_console__"):
        Console().print(outcome.shown)
    elif outcome.shown is not None:
        typer.echo(str(outcome.shown))
    written = list(outcome.wrote)
    if picture is not None and outcome.draw is not None:
        write_picture(picture, outcome.draw)
        written.append(picture)
    for note in outcome.notes:
        typer.echo(note, err=form != "table")
    for path in written:
        typer.echo(f"wrote {path}", err=form != "table")
    if outcome.then:
        say("\nnext:")
    for command in outcome.then:  # on a line of its own, to be copied
        say(command)


def write_picture(path: Path, draw: Callable[[Any], Any]) -> None:
    """What ``draw`` draws on axes, as the file ``path``, whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    draw(figure.subplots())
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _finite(value: Any) -> Any:
    """Plain values without NaN and infinities, which JSON does not have: null stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
