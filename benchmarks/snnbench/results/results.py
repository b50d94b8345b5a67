"""Result files: one JSON file a row of a benchmark, from which every table, plot and page is made.

A row is a network, a data set and a method; ``result.schema.json`` beside this file describes its fields.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnbench.results.answers import Answers
from snnbench.results.files import check_out, stored, unwritten
from snnbench.results.provenance import command, describe, peak_memory, provenance
from snnbench.results.storing import write_with_answers
from snnbench.results.validation import SCHEMA, Point, Record, ResultError, key_of, leaf, schema, validate
from snnconv.files import fingerprint
from snnconv.files.fingerprint import canonical, digest, plain
from snnconv.files.lock import LockTimeout, locked

if TYPE_CHECKING:
    from snnconv.metrics import Profile
    from snnconv.report import ConversionReport

__all__ = [
    "SCHEMA", "Point", "Record", "ResultError", "begin", "check_place", "chosen", "command", "config_hash",
    "counted", "describe", "digest", "finished", "path_of", "peak_memory", "plain", "point", "provenance", "schema",
    "sites", "slug", "thresholds", "validate", "with_point", "write",
]  # fmt: skip

_RUN = ("versions", "machine", "commit", "command")
_FIGURES = (
    "latency", "pipelined_latency", "pipeline", "bits_per_step", "errors", "spikes", "spikes_per_neuron", "sops",
    "macs", "energy_joule", "energy_ratio", "energies", "twin", "memory_mib", "thresholds",
)  # fmt: skip


def config_hash(config: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of ``config`` as JSON with sorted keys.

    Raises:
        ResultError: it is nested too deep.

    >>> config_hash({"a": 1, "b": (2, 3)}) == config_hash({"b": [2, 3], "a": 1})
    True
    """
    try:
        return fingerprint.config_hash(dict(config))
    except RecursionError as error:
        raise ResultError("config is nested too deep") from error


def slug(label: str) -> str:
    """A label as a file name: lower case, letters and digits with single hyphens.

    >>> slug("SRP, τ = T/2")
    'srp-t-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def chosen(labels: Sequence[str], words: Iterable[str]) -> list[bool]:
    """Which rows words name: a whole label its row alone, other words the rows whose label contains them.

    >>> chosen(["IF", "signed IF", "SRP"], ["if"]), chosen(["IF", "signed IF", "SRP"], ["sign", "rp"])
    ([True, False, False], [False, True, True])
    """
    slugs = [slug(label) for label in labels]
    wanted = {slug(word) for word in words} - {""}
    parts = wanted - set(slugs)
    return [label in wanted or any(part in label for part in parts) for label in slugs]


def path_of(folder: str | os.PathLike[str], label: str) -> Path:
    """The file of the row ``label``.

    Raises:
        ResultError: a label without letter or digit.

    >>> path_of("results", "signed IF").name
    'signed-if.json'
    """
    if not slug(label):
        raise ResultError(f"the label {label!r} names no file: give it a letter or digit of ASCII")
    return Path(folder) / f"{slug(label)}.json"


# --- files -------------------------------------------------------------------------------------------------


def check_place(path: str | os.PathLike[str]) -> None:
    """Refuse a file that :func:`write` could not write, before the work whose result is to go there.

    Raises:
        ResultError: there is a file that is no result, or the folder cannot be made or takes no new files.
    """
    stored(Path(path))
    check_out(path)


def write(path: str | os.PathLike[str], record: Record, answers: Answers | None = None) -> None:
    """Check ``record`` and write it, whole or not at all, beside the points of another run of its config.

    Args:
        path: the file.
        record: the row.
        answers: of its networks to every sample, for a file beside it; those that are stored of the row's other points
            stay. Not kept where they take more than 32 MiB: a note says so.

    Raises:
        ResultError: a record or a stored file that is no result, or one that cannot be written: it is as it was.
    """
    path = Path(path)
    foreign = leaf(record, lambda value: value is not None and not isinstance(value, bool | int | float | str))
    if foreign is not None:
        raise ResultError(f"{path}: {foreign} is neither number nor text; convert it first, for instance with .item()")
    values: Record = json.loads(json.dumps(record))  # tuples become lists
    validate(values, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            found = stored(path)
            same = found is not None and canonical(found["config"]) == canonical(values["config"])
            if found is not None and same:
                values = _with_stored(values, found)
            write_with_answers(path, values, found, same, answers)
    except LockTimeout as error:
        raise ResultError(str(error)) from error
    except OSError as error:
        raise unwritten(path, error) from error


# --- rows --------------------------------------------------------------------------------------------------


def point(
    timesteps: int,
    metrics: Mapping[str, float | None],
    seconds: Mapping[str, float | None],
    *,
    pre_timesteps: int = 0,
    window: Sequence[int] | None = None,
    **figures: Any,
) -> Point:
    """One measurement. Figures that are not given are null; the latency is τ + the last step read.

    Args:
        timesteps: T, steps of the read-out phase.
        metrics: metric → value.
        seconds: ``convert`` and ``evaluate``.
        pre_timesteps: τ.
        window: first and last step that are read, counted from 1 behind τ; all T by default.
        figures: any other field of a point, for instance those that :func:`counted` gives.

    Raises:
        TypeError: a figure that the schema does not have.

    >>> point(8, {"top1": 90.0}, {"convert": 1.0, "evaluate": 2.0}, pre_timesteps=4, sops=100)["latency"]
    12
    """
    unknown = [name for name in figures if name not in _FIGURES]
    if unknown:
        raise TypeError(f"{unknown[0]!r} is no figure of a point; there are {', '.join(_FIGURES)}")
    first, last = window or (1, timesteps)
    given = {
        "timesteps": timesteps,
        "pre_timesteps": pre_timesteps,
        "latency": pre_timesteps + last,
        "window": [first, last],
        "metrics": dict(metrics),
        "seconds": dict(seconds),
        **figures,
    }
    return {name: given.get(name) for name in schema()["$defs"]["point"]["properties"] if name != "run"}


def counted(profile: Profile) -> dict[str, Any]:
    """A profile's figures for :func:`point`: spikes, operations and energy an inference."""
    return {
        "pipelined_latency": profile.network_latency,
        "spikes": profile.spikes,
        "spikes_per_neuron": profile.spikes_per_neuron,
        "sops": profile.sops,
        "macs": profile.snn_macs,
        "energy_joule": profile.snn_energy,
        "energy_ratio": profile.energy_ratio,
        "energies": {name: figures["snn"] for name, figures in profile.energies.items()},
        "pipeline": list(profile.pipeline) if profile.pipeline else None,
        "bits_per_step": profile.bits_per_step,
    }


def sites(report: ConversionReport) -> dict[str, Any]:
    """A conversion's spiking sites, counted, and what stays analog: the field ``sites``."""
    analog = [{"name": a.name, "operator": a.operator, "reason": a.reason} for a in report.analog]
    return {"spiking": len(report.spiking), "analog": analog}


def thresholds(report: ConversionReport) -> dict[str, list[float]]:
    """Site → smallest, mean and largest threshold: the field ``thresholds`` of a point."""
    return {s.name: [s.threshold_min, s.threshold_mean, s.threshold_max] for s in report.spiking}


def begin(path: str | os.PathLike[str], header: Record) -> Record:
    """A row to add points to: ``header``, and the points that ``path`` already holds of exactly this config.

    A file that is absent or of another config gives none. Nothing is written. A point of another run keeps that run's
    versions, machine, commit and command as ``run``, where they differ.

    Args:
        path: the row's file.
        header: every field but ``schema``, ``config_hash`` and ``points``; ``ann`` and ``sites`` may be absent or
            null, and are then the stored ones, if there are any.

    Raises:
        ResultError: the file that is there is no result, for instance because it holds marks of a merge.
    """
    identity = config_hash(header["config"])
    config = plain(header["config"])
    record: Record = {**header, "schema": SCHEMA, "config": config, "config_hash": identity, "points": []}
    found = stored(Path(path))
    if found is None or canonical(found["config"]) != canonical(config):
        return record
    record |= {name: found[name] for name in ("ann", "sites", "answers") if record.get(name) is None and name in found}
    return _with_stored(record, found)


def _with_stored(record: Record, found: Record) -> Record:
    """``record`` with the points and notes of ``found``, the same row of another run, that it has none in place of."""
    own = {key_of(item) for item in record["points"]}
    steps = {key[:2] for key in own}
    points = list(record["points"])
    for item in found["points"]:
        key = key_of(item)
        if key in own or (not key[2] and key[:2] in steps):
            continue
        run = {**{name: found[name] for name in _RUN}, **item.get("run", {})}
        differs = {name: value for name, value in run.items() if value != record[name]}
        kept = {name: value for name, value in item.items() if name != "run"}
        points.append({**kept, "run": differs} if differs else kept)
    return _with_notes({**record, "points": sorted(points, key=key_of)}, found.get("notes", []))


def finished(
    record: Record | None,
    config: dict[str, Any],
    timesteps: int,
    pre_timesteps: int = 0,
    window: Sequence[int] | None = None,
) -> Point | None:
    """The point of ``record`` measured with exactly ``config`` at these steps; ``None`` where it is to be measured.

    Args:
        record: a row as :func:`read` or :func:`begin` gives it.
        config: what decides the figures.
        timesteps: T.
        pre_timesteps: τ.
        window: the readout's first and last step; any by default.
    """
    if record is None or canonical(record["config"]) != canonical(config):
        return None
    for item in record["points"]:
        same = (item["timesteps"], item["pre_timesteps"]) == (timesteps, pre_timesteps)
        if same and (window is None or item["window"] == list(window)):
            found: Point = item
            return found
    return None


def with_point(record: Record, point: Point, notes: Iterable[str] = ()) -> Record:
    """``record`` with ``point`` in its place, instead of one at the same steps and window, or of unknown window.

    Args:
        record: the row; it is not changed.
        point: the measurement.
        notes: sentences to add to the row's.
    """
    steps, before, window = key_of(point)
    replaced = ((steps, before, window), (steps, before, ()))
    points = [item for item in record["points"] if key_of(item) not in replaced]
    return _with_notes({**record, "points": sorted([*points, point], key=key_of)}, notes)


def _with_notes(record: Record, notes: Iterable[str]) -> Record:
    every = list(dict.fromkeys([*record.get("notes", []), *notes]))
    return {**record, "notes": every} if every else record
