"""Boards as Markdown and as one HTML page; equal files give equal text."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from snnbench.leaderboard import wording
from snnbench.leaderboard.boards import Board, build
from snnbench.leaderboard.budgets import Answer, answers
from snnbench.leaderboard.page import page_data
from snnbench.leaderboard.published import Published, read_published
from snnbench.results import Record, ResultError, read_all, read_answers

__all__ = ["load", "to_html", "to_markdown"]

_PACKAGE = "snnbench.leaderboard"
SCRIPTS = ("plot.js", "table.js", "page.js")


def load(results: str | os.PathLike[str], published: str | os.PathLike[str] | None = None) -> list[Board]:
    """The boards of a folder of result files, with the published numbers of another one.

    Raises:
        ResultError: no result, or bad files: one sentence each with file, line and field.
    """
    found: dict[PurePath, Record] = {path.relative_to(results): record for path, record in read_all(results).items()}
    if not found:
        raise ResultError(f"{results}: holds no result file (*.json)")
    kept = {path: read_answers(Path(results) / path, record) for path, record in found.items()}
    answers = {path: own for path, own in kept.items() if own is not None}
    return build(found, read_published(published) if published is not None else (), answers)


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
    text = template.render(
        boards=[board for board in boards if board.networks],
        data=page_data(boards),
        style=_resource("templates", "page.css"),
        scripts=[_resource("templates", name) for name in SCRIPTS],
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
        "md": wording.markdown,
        "metric": wording.metric,
        "published_steps": _published_steps,
        "spread": wording.spread,
        "stated": _stated,
        "answers": answers,
        "plural": wording.plural,
        "units": _units,
        "value": wording.value,
    }
    return environment


def _units(answer: Answer) -> str:
    """What an answer's T stands for, in brackets; empty where its file does not tell."""
    row, told = answer.row, []
    if row.network_latency is not None and (row.network_latency != row.latency or row.pipeline is not None):
        told.append(f"network {row.network_latency}")
    if row.pipeline is not None:
        told.append("pipeline {}, then every {}".format(*row.pipeline))
    if row.bits_per_step is not None:
        told.append(f"{row.bits_per_step:.3g} {'bit' if row.bits_per_step == 1 else 'bits'} a step")
    return f" ({'; '.join(told)})" if told else ""


def _stated(number: float | None) -> str:
    return wording.EMPTY if number is None else f"{number:g}" if abs(number) < 1 else f"{number:.2f}"


def _published_steps(number: Published) -> str:
    if number.timesteps is None:
        return wording.EMPTY
    return f"{number.pre_timesteps} + {number.timesteps}" if number.pre_timesteps else str(number.timesteps)
