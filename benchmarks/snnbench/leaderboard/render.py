"""Boards as Markdown and as one HTML page; equal files give equal text."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from snnbench.leaderboard import wording
from snnbench.leaderboard.boards import Board, Network, build
from snnbench.leaderboard.entries import Entry, Row
from snnbench.leaderboard.published import Published, read_published
from snnbench.results import Record, ResultError, read_all

__all__ = ["load", "to_html", "to_markdown"]

_PACKAGE = "snnbench.leaderboard"
VENDORED = ("chart.umd.min.js", "dataTables.min.js")


def load(results: str | os.PathLike[str], published: str | os.PathLike[str] | None = None) -> list[Board]:
    """The boards of a folder of result files, with the published numbers of another one.

    Raises:
        ResultError: no result, or bad files: one sentence each with file, line and field.
    """
    found: dict[PurePath, Record] = {path.relative_to(results): record for path, record in read_all(results).items()}
    if not found:
        raise ResultError(f"{results}: holds no result file (*.json)")
    return build(found, read_published(published) if published is not None else ())


def to_markdown(boards: Sequence[Board]) -> str:
    """The boards as Markdown.

    >>> print(to_markdown([]).splitlines()[0])
    # Leaderboard
    """
    template = _environment(autoescape=False).get_template("leaderboard.md.j2")
    return str(template.render(boards=boards)).strip() + "\n"


def to_html(boards: Sequence[Board]) -> str:
    """The boards as one HTML page that needs nothing else: styles, scripts and data are in it.

    >>> to_html([]).startswith("<!doctype html>")
    True
    """
    template = _environment(autoescape=True).get_template("page.html.j2")
    scripts = [_resource("vendor", name).partition("\n//# sourceMappingURL=")[0] for name in VENDORED]
    text = template.render(
        boards=boards,
        style=_resource("templates", "page.css"),
        scripts=[*scripts, _resource("templates", "plots.js"), _resource("templates", "page.js")],
    )
    return str(text).strip() + "\n"


def _resource(*parts: str) -> str:
    return files(_PACKAGE).joinpath(*parts).read_text(encoding="utf-8")


@functools.cache
def _environment(autoescape: bool) -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ImportError('the leaderboard needs jinja2: pip install "snnconv-plugin[leaderboard]"') from error
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=autoescape,
        lstrip_blocks=autoescape,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "ensure_ascii": False, "separators": (",", ":")}
    environment.filters |= {
        "code": wording.code,
        "commands": _commands,
        "count": wording.count,
        "epochs": _epochs,
        "figure": wording.figure,
        "md": wording.markdown,
        "metric": wording.metric,
        "plot_data": _plot_data,
        "published_steps": _published_steps,
        "rank": wording.rank,
        "settings": _settings,
        "sortable": _rounded,
        "spread": wording.spread,
        "stated": _stated,
        "value": wording.value,
    }
    return environment


def _commands(entry: Entry) -> list[tuple[str, str]]:
    """Each command that measured the entry, with the latencies it measured."""
    found: dict[str, list[int]] = {}
    for row in entry.rows:
        found.setdefault(row.command, []).append(row.latency)
    for record in entry.records[1:]:
        found.setdefault(record["command"], [row.latency for row in entry.rows])
    return [(command, ", ".join(map(str, latencies))) for command, latencies in found.items()]


def _epochs(number: float | None) -> str:
    return wording.EMPTY if number is None else f"{number:g}"


def _stated(number: float | None) -> str:
    return wording.EMPTY if number is None else f"{number:g}" if abs(number) < 1 else f"{number:.2f}"


def _published_steps(number: Published) -> str:
    if number.timesteps is None:
        return wording.EMPTY
    return f"{number.pre_timesteps} + {number.timesteps}" if number.pre_timesteps else str(number.timesteps)


def _settings(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value, nested ones in JSON."""
    return [
        (name, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, sort_keys=True))
        for name, item in values.items()
    ]


def _plot_data(board: Board) -> dict[str, Any]:
    """What the plots and filters need: rows in the table's order."""
    labels: list[str] = []
    rows: list[dict[str, Any]] = []
    for number, network in enumerate(board.networks):
        for entry in network.entries:
            if entry.label not in labels:
                labels.append(entry.label)
            rows += [_plot_row(network, number, entry, labels.index(entry.label), row) for row in entry.rows]
    return {
        "metric": wording.metric(board.metric),
        "higher": board.higher_is_better,
        "labels": labels,
        "networks": [
            {"name": n.architecture, "samples": n.samples, "anns": [_rounded(a.value) for a in n.anns[:4]]}
            for n in board.networks
        ],
        "rows": rows,
        "published": [
            {"t": p.latency, "v": p.value, "name": f"{p.method}, {p.architecture or 'network not stated'}, {p.paper}"}
            for p in board.published
            if p.latency is not None and p.value is not None and p.metric == board.metric
        ],
    }


def _plot_row(network: Network, number: int, entry: Entry, label: int, row: Row) -> dict[str, Any]:
    return {
        "id": entry.name,
        "n": number,
        "l": label,
        "t": row.latency,
        "e": _rounded(row.energy_ratio),
        "v": _rounded(row.estimate.value),
        "s": _rounded(row.estimate.sampling),
        "f": [int("latency" in row.front), int("energy" in row.front)],
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.6g}")
