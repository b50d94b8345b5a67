"""What a result file must look like: its JSON Schema, and what a schema cannot say."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from snnconv.files.fingerprint import config_hash
from snnconv.files.refusal import brief

__all__ = [
    "SCHEMA",
    "Point",
    "Record",
    "ResultError",
    "beyond_measure",
    "key_of",
    "leaf",
    "schema",
    "sentences",
    "validate",
    "wrong",
]

SCHEMA = "snnconv-result/3"
OLDER = ("snnconv-result/2",)
"""Layouts that `snnbench.results.migration` brings up to date."""

PERCENTAGES = {"top1", "top5", "mIoU", "mAcc", "aAcc"}
"""Metrics that lie between 0 and 100, whatever is measured."""
DEEPEST = 30
"""Lists and objects that a field may lie in."""
LARGEST = 1e30
"""Beyond any measurement; sums and squares of smaller ones stay finite."""

Record = dict[str, Any]
Point = dict[str, Any]


class ResultError(ValueError):
    """A result file that is absent, damaged or not in the layout; the message names the file and the field."""


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema of a result file."""
    from importlib.resources import files

    found: dict[str, Any] = json.loads(
        files("snnbench.results").joinpath("result.schema.json").read_text(encoding="utf-8")
    )
    return found


def validate(record: Any, source: str | os.PathLike[str] | None = None) -> None:
    """Check a result against the schema, and what a schema cannot say.

    The latter: numbers are finite, percentages between 0 and 100; texts are Unicode; ``metric`` is measured everywhere;
    points are sorted and differ; a window lies within its steps; ``config_hash`` is that of ``config``; notes explain
    figures that are null.

    Args:
        record: what a result file holds.
        source: the file, for the message.

    Raises:
        ResultError: a sentence that names the file, the field and what is wrong.

    >>> validate({"schema": "snnconv-benchmark/1"}, "if.json")
    Traceback (most recent call last):
    snnbench.results.validation.ResultError: if.json: schema is 'snnconv-benchmark/1', this release reads ...
    """
    for sentence in wrong(record):
        raise ResultError(f"{os.fspath(source)}: {brief(sentence)}" if source is not None else brief(sentence))


def wrong(record: Any) -> Iterable[str]:
    """What is wrong with a record, a sentence each that begins with the field."""
    if not isinstance(record, dict):
        yield f"holds {_shown(record)} where a result is an object"
        return
    if record.get("schema") != SCHEMA:
        name = f"schema is {record['schema']!r}" if "schema" in record else "schema is missing"
        older = "; python -m snnbench.results.migration FOLDER rewrites it" if record.get("schema") in OLDER else ""
        yield f"{name}, this release reads {SCHEMA!r}{older}"
        return
    beyond = list(beyond_measure(record))
    yield from beyond
    if beyond:
        return
    found = sentences(record, schema)
    yield from found
    if not found:
        yield from _wrong_figures(record)
        yield from _wrong_points(record["points"])


def beyond_measure(record: Any) -> Iterable[str]:
    """What no file of figures holds, in whatever layout, as a sentence: nested too deep, no number, no text.

    >>> list(beyond_measure({"value": 10**400}))
    ['value is beyond 1e+30, no measurement']
    """
    if not isinstance(record, dict):
        return
    deep = _too_deep(record)
    if deep is not None:
        yield f"{deep}: nested in more than {DEEPEST} lists or objects"
        return
    for bad, why in (
        (leaf(record, _is_not_finite), "is not finite; store null and say why in notes"),
        (leaf(record, _is_no_text), "holds half a character of UTF-16, which no file can hold"),
        (leaf({k: v for k, v in record.items() if k != "config"}, _is_huge), f"is beyond {LARGEST:g}, no measurement"),
    ):
        if bad is not None:
            yield f"{bad} {why}"
            return


OPTIONAL = ("thresholds", "bits_per_step", "pipeline", "energies", "errors", "twin")
"""Fields of a point that not every measurement has."""


def _wrong_figures(record: Record) -> Iterable[str]:
    metric, points = record["metric"], record["points"]
    for where, holder in [("ann", record["ann"]), *((f"points[{i}]", p) for i, p in enumerate(points))]:
        if holder["metrics"].get(metric) is None:
            yield f"{where}.metrics.{metric} is missing, and metric says that this is the one to compare"
        for name in PERCENTAGES & holder["metrics"].keys():
            value = holder["metrics"][name]
            if value is not None and not 0 <= value <= 100:
                yield f"{where}.metrics.{name} is {value}: a percentage lies between 0 and 100"
        null = next((name for name, value in holder.items() if value is None and name not in OPTIONAL), None)
        if null is not None and not record.get("notes"):
            yield f"{where}.{null} is null and notes does not say why; add a sentence there"
    if record["config_hash"] != config_hash(record["config"]):
        yield f"config_hash is {record['config_hash']}, that of config is {config_hash(record['config'])}"


def _too_deep(record: Record) -> str | None:
    """The first field of a record that holds further levels than :data:`DEEPEST`."""
    for name, value in record.items():
        level = [value]
        for _ in range(DEEPEST):
            level = [
                item
                for part in level
                if isinstance(part, dict | list | tuple)
                for item in (part.values() if isinstance(part, dict) else part)
            ]
        if level:
            return str(name)
    return None


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _is_no_text(value: Any) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def _is_huge(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) > LARGEST


def _wrong_points(points: Sequence[Point]) -> Iterable[str]:
    for i, item in enumerate(points):
        steps, before, window, latency = (item[k] for k in ("timesteps", "pre_timesteps", "window", "latency"))
        first, last = window or (1, steps)
        if not first <= last <= steps:
            yield f"points[{i}].window is {window}: first to last step within 1 … timesteps = {steps}"
        if not before + (last if window else 1) <= latency <= before + steps:
            yield f"points[{i}].latency is {latency}: it lies between the last step read and τ + T = {before + steps}"
        if i and key_of(points[i - 1]) == key_of(item):
            yield f"points[{i}] has the timesteps, pre_timesteps and window of points[{i - 1}]; keep one of them"
        elif i and key_of(points[i - 1]) > key_of(item):
            yield f"points[{i}] is out of order: points are sorted by timesteps, pre_timesteps and window"


def sentences(value: Any, layout: Callable[[], dict[str, Any]]) -> list[str]:
    """Where ``value`` departs from the JSON Schema that ``layout`` gives, a sentence each that begins with the field.

    >>> sentences({"a": "x"}, lambda: {"properties": {"a": {"type": "integer"}}})
    ["a is 'x', it must be of type integer"]
    """
    errors = _validator(layout).iter_errors(value)
    name = layout().get("properties", {}).get("schema", {}).get("const", "this layout")
    return [_sentence(error, name) for error in sorted(errors, key=lambda e: [str(part) for part in e.absolute_path])]


@functools.cache
def _validator(layout: Callable[[], dict[str, Any]]) -> Any:
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise ImportError('result files need jsonschema: pip install "snnconv-plugin[bench]"') from error
    return Draft202012Validator(_inlined(layout(), layout().get("$defs", {})))


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its definitions in the place of references, which take half of the time when they are looked up."""
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    while isinstance(part.get("$ref"), str):
        part = {**definitions[part["$ref"].removeprefix("#/$defs/")], **{k: v for k, v in part.items() if k != "$ref"}}
    return {key: _inlined(item, definitions) for key, item in part.items() if key != "$defs"}


def _sentence(error: Any, layout: str) -> str:
    """One error of jsonschema as a sentence that begins with the field."""
    path = _joined(error.absolute_path)
    wanted, found = error.validator_value, error.instance
    if error.validator == "required":
        return f"{_joined([*error.absolute_path, next(k for k in wanted if k not in found)])} is missing"
    if error.validator == "additionalProperties" and wanted is False:
        known = error.schema["properties"]
        return f"{_joined([*error.absolute_path, next(k for k in found if k not in known)])} is no field of {layout}"
    if error.validator == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return f"{path} is {_shown(found)}, it must be of type {' or '.join(kinds)}"
    if error.validator == "enum":
        return f"{path} is {found!r}, it must be one of {', '.join(wanted)}"
    return f"{path}: {error.message}"


def _joined(parts: Iterable[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the record"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def leaf(value: Any, wrong: Callable[[Any], bool], path: tuple[Any, ...] = ()) -> str | None:
    """The field of the first leaf, or name of a field, that is ``wrong``."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(key, str) and wrong(key):
                return ascii(_joined((*path, key)))
            if (found := leaf(item, wrong, (*path, key))) is not None:
                return found
        return None
    return _joined(path) if wrong(value) else None


def key_of(point: Point) -> tuple[int, int, tuple[int, ...]]:
    """What tells the points of one row apart: timesteps, pre_timesteps and window (empty where unknown)."""
    return point["timesteps"], point["pre_timesteps"], tuple(point["window"] or ())
