"""Quantised networks put beside points that were stored without one; the points stay as they were measured."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnbench.results.files import stored
from snnbench.results.storing import write_with_answers
from snnbench.results.validation import Point, Record, ResultError, key_of, validate
from snnconv.files.lock import LockTimeout, locked

__all__ = ["another", "lacking", "put"]

_ROW = ("task", "dataset", "split", "samples", "architecture", "label", "metric", "method", "weights", "config")
"""Fields that say which row a file holds."""


def lacking(path: str | os.PathLike[str], row: Record) -> list[Point]:
    """The points of a row's file without a quantised network beside them.

    Args:
        path: the file.
        row: fields of the row as a command would measure it now.

    Raises:
        ResultError: there is no such file, or it holds another row; the message names the field.
    """
    return [item for item in _row_of(Path(path), row)["points"] if not item.get("twin")]


def another(found: Point, measured: Point, metric: str) -> str | None:
    """Why a conversion made now is not the one that a stored point was measured with; None where the metric is equal.

    >>> a, b = ({"timesteps": 4, "pre_timesteps": 0, "metrics": {"top1": v}} for v in (87.64, 87.6))
    >>> another(a, b, "top1")
    'T = 4: top1 is 87.6 now and 87.64 in the file, so its quantised network is another; measure the row again'
    >>> another(a, a, "top1")
    """
    now, then = measured["metrics"].get(metric), found["metrics"].get(metric)
    if now is not None and then is not None and math.isclose(now, then, rel_tol=1e-6):
        return None
    shown = ["not known" if value is None else f"{value:.6g}" for value in (now, then)]
    return (
        f"T = {_steps(found)}: {metric} is {shown[0]} now and {shown[1]} in the file, so its quantised network is "
        "another; measure the row again"
    )


def put(path: str | os.PathLike[str], row: Record, measured: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """Put the quantised networks of ``measured`` beside the stored points at the same steps that have none.

    Args:
        path: the row's file.
        row: fields of the row, with ``command`` and ``commit`` of this run, which a note tells.
        measured: points of this run with their ``twin``.

    Returns:
        The points that have one now; a sentence for each that was left, because this run's metric is another.

    Raises:
        ResultError: there is no such file, it holds another row, or it cannot be written: it is as it was.
    """
    path = Path(path)
    done: list[Point] = []
    left: list[str] = []
    try:
        with locked(path):
            found = _row_of(path, row)
            points = list(found["points"])
            for place, item in enumerate(points):
                own = next((m for m in measured if m.get("twin") and _same_place(item, m)), None)
                if own is None or item.get("twin"):
                    continue
                why = another(item, own, found["metric"])
                if why is not None:
                    left.append(why)
                    continue
                points[place] = {**item, "twin": own["twin"]}
                done.append(points[place])
            if done:
                record = {**found, "points": points, "notes": [*found.get("notes", []), _note(done, row)]}
                validate(record, path)
                write_with_answers(path, record, found, True, None)
    except LockTimeout as error:
        raise ResultError(str(error)) from error
    return done, left


def _row_of(path: Path, row: Record) -> Record:
    found = stored(path)
    if found is None:
        raise ResultError(f"{path}: there is no such file; measure the row, which tests the quantised networks, too")
    where = _difference({n: found[n] for n in _ROW}, {n: row[n] for n in _ROW})
    if where is not None:
        name, then, now = where
        raise ResultError(
            f"{path}: {name} is {then!r:.80} there and {now!r:.80} now, so the quantised network would be that of "
            "another row; measure the row again"
        )
    return found


def _difference(then: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first field that both have and that differs. One that only one has came later; the metric must tell."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in then:
            if key in now:
                found = _difference(then[key], now[key], f"{name}.{key}" if name else key)
                if found is not None:
                    return found
        return None
    same = list(then) == list(now) if isinstance(then, list | tuple) and isinstance(now, list | tuple) else then == now
    return None if same else (name, then, now)


def _same_place(found: Point, measured: Point) -> bool:
    steps, before, window = key_of(measured)
    return key_of(found) in ((steps, before, window), (steps, before, ()))


def _steps(point: Point) -> str:
    before = point["pre_timesteps"]
    return f"{before} + {point['timesteps']}" if before else str(point["timesteps"])


def _note(points: Sequence[Point], row: Record) -> str:
    steps = ", ".join(map(_steps, points))
    return (
        f"The quantised networks of T = {steps} were measured by a later run, whose {row['metric']} was the same: "
        f"{row['command']} (commit {row['commit'] or 'not known'})."
    )
