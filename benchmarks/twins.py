"""``--twins``: the quantised network beside stored points, where a conversion made now gives their accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from snnbench import results
from snnbench.results import Point
from snnbench.results.twins import another, lacking, put

from .classification import Entry, Task, device_of, has_levels, header, labels, predictions, top1, twin_figures

__all__ = ["add"]


def add(task: Task, entries: Sequence[Entry]) -> Iterator[tuple[str, Point | str]]:
    """The label of each row with a point that has its quantised network now, or with why one was left as it is.

    Rows that have no file, and those of SpikingJelly's recipes, have nothing to put one beside.

    Raises:
        ResultError: a file that is no result, or cannot be written.
    """
    provenance = results.provenance(task.seed, device_of(task.model))
    for entry in entries:
        path = results.path_of(task.folder, entry.label)
        if not entry.methods or not has_levels(entry.methods[0]) or not path.exists():
            continue
        model = (entry.model if entry.model is not None else task.model).eval()
        row = header(task, entry, results.digest(model), provenance)
        try:
            places = {(p["timesteps"], p["pre_timesteps"]): p for p in lacking(path, row)}
        except results.ResultError as error:
            yield entry.label, str(error)
            continue
        for method in entry.methods:
            found = places.get((method.timesteps, method.pre_timesteps_))
            if found is not None:
                yield entry.label, _added(task, entry, model, method, found, row)


def _added(task: Task, entry: Entry, model: Any, method: Any, found: Point, row: results.Record) -> Point | str:
    """The stored point with its quantised network; why it has none."""
    import snnconv

    test = task.test_of(entry)
    snn: Any = snnconv.convert(model, method, calibration=list(task.calibration), progress=False)
    predicted = predictions(snn, test)
    measured = results.point(
        method.timesteps,
        {"top1": top1(predicted, labels(test))},
        {"convert": None, "evaluate": None},
        pre_timesteps=method.pre_timesteps_,
        window=(snn.delay + 1, method.timesteps),
    )
    why = another(found, measured, "top1")
    if why is not None:
        return why
    measured["twin"] = twin_figures(model, snn, task, test, predicted)
    done, left = put(results.path_of(task.folder, entry.label), row, [measured])
    return done[0] if done else "; ".join(left) or f"T = {method.timesteps}: the readout has another window now"
