"""What a NIR graph must say before anything is made of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from snnconv import limits
from snnconv.graph.error import ConversionError

__all__ = ["Metadata", "checked_edges", "checked_metadata", "checked_node", "input_shape"]

_COUNTS = {"stride": 1, "dilation": 1, "groups": 1, "kernel_size": 1, "padding": 0}
"""Settings that are whole numbers, one or several, with the smallest."""
_DIMENSIONS = ("start_dim", "end_dim")
LARGEST = 2**20
"""Of a setting: of a kernel, a stride, a padding."""


class Metadata(NamedTuple):
    """What the neurons of a graph do beside what its nodes say."""

    timesteps: int
    delay: int
    v_init: float
    subtract: bool = True
    coding: str = "rate"


def checked_metadata(data: Any, timesteps: int | None = None) -> Metadata:
    """The metadata of a graph.

    Args:
        data: they; a file of another tool has none, and its neurons reset to their ``v_reset``.
        timesteps: in place of the metadata's.

    Raises:
        ConversionError: no number of steps, an unknown reset, or numbers that are none.
    """
    data = dict(data) if isinstance(data, Mapping) else {}
    others = timesteps is not None and not any(key in data for key in ("reset", "made_by", "v_init", "delay"))
    reset, coding = _word(data.get("reset", "zero" if others else None)), _word(data.get("coding", "rate"))
    if timesteps is not None:
        data["timesteps"] = timesteps
    if reset not in ("subtract", "zero") or "timesteps" not in data:
        raise ConversionError(
            "this NIR graph does not say in its metadata that its neurons reset by subtraction, and in how many "
            "timesteps; snnconv.to_nir writes both. A file of another tool, whose neurons reset to v_reset, runs with "
            "from_nir(path, timesteps=...)"
        )
    if coding not in ("rate", "sum"):
        raise ConversionError(f"metadata coding is {coding!r:.200}: it is rate or sum")
    timesteps, delay = _whole("timesteps", data["timesteps"]), _whole("delay", data.get("delay", 0))
    if not 1 <= timesteps <= limits.TIMESTEPS:
        raise ConversionError(f"metadata timesteps is {timesteps}: it must be 1 … snnconv.limits.TIMESTEPS")
    if not 0 <= delay < timesteps:
        raise ConversionError(f"metadata delay is {delay}: it must be 0 … timesteps - 1 = {timesteps - 1}")
    start = _number("v_init", data.get("v_init", 0.0))
    if not 0 <= start < 1:
        raise ConversionError(f"metadata v_init is {start}: it is a part of the threshold, 0 or more and below 1")
    return Metadata(timesteps, delay, start, reset == "subtract", coding)


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(name: str, value: Any) -> float:
    try:
        found = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError, OverflowError) as error:
        raise ConversionError(f"metadata {name} is {value!r:.60}, no number") from error
    if not math.isfinite(found):
        raise ConversionError(f"metadata {name} is {found}, no finite number")
    return found


def _whole(name: str, value: Any) -> int:
    found = _number(name, value)
    if found != int(found):
        raise ConversionError(f"metadata {name} is {found}, no whole number")
    return int(found)


def checked_edges(kinds: Mapping[str, str], edges: Iterable[Sequence[Any]]) -> dict[str, list[str]]:
    """The nodes that each node reads.

    Raises:
        ConversionError: an edge of a node that there is not, twice the same edge, a node without edges, or not exactly
            one input and one output.
    """
    pairs = []
    for edge in edges:
        if len(edge) != 2 or any(str(end) not in kinds for end in edge):
            raise ConversionError(f"edge {' -> '.join(map(str, edge))} leads from or to a node that there is not")
        pairs.append((str(edge[0]), str(edge[1])))
    for kind in ("Input", "Output"):
        found = [name for name, other in kinds.items() if other == kind]
        if len(found) != 1:
            raise ConversionError(f"a graph has one {kind} node, this one {len(found)} ({', '.join(found) or 'none'})")
    twice = next((pair for pair, count in Counter(pairs).items() if count > 1), None)
    if twice:
        raise ConversionError(f"edge {' -> '.join(twice)} is there twice")
    inputs: dict[str, list[str]] = {name: [] for name in kinds}
    for a, b in pairs:
        inputs[b].append(a)
    read = {a for a, _ in pairs}
    for name, kind in kinds.items():
        if bool(inputs[name]) == (kind == "Input"):
            what = "reads another, and is an Input" if kind == "Input" else "reads none: an edge is missing"
            raise ConversionError(f"node {name!r:.200} ({kind}) {what}")
        if (name in read) == (kind == "Output"):
            what = "is read, and is an Output" if kind == "Output" else "is read by none: an edge is missing"
            raise ConversionError(f"node {name!r:.200} ({kind}) {what}")
    return inputs


def checked_node(name: str, node: Any, wanted: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of a node.

    Args:
        name: its name.
        node: the node.
        wanted: names of the tensors that it needs.

    Raises:
        ConversionError: values that are missing, NaN, infinite or of another type; thresholds that are not positive.
    """
    place = f"node {name!r:.200} ({type(node).__name__})"
    tensors, settings = {}, {}
    for key, value in vars(node).items():
        if key in wanted:
            tensors[key] = _tensor(f"{place}: {key}", value)
        elif key in _COUNTS and not isinstance(value, str):
            settings[key] = _counts(f"{place}: {key}", value, _COUNTS[key])
        elif key in _COUNTS and (key != "padding" or value not in ("same", "valid")):
            raise ConversionError(f"{place}: {key} is {value!r:.60}")
        elif key in _DIMENSIONS:
            settings[key] = _counts(f"{place}: {key}", value, -LARGEST)
        elif key not in ("input_type", "output_type", "metadata"):
            settings[key] = value
    missing = [key for key in wanted if key not in tensors]
    if missing:
        raise ConversionError(f"{place}: {missing[0]} is missing")
    if "v_threshold" in tensors and not bool((tensors["v_threshold"] > 0).all()):
        worst = float(tensors["v_threshold"].min())
        raise ConversionError(f"{place}: v_threshold is {worst} somewhere: thresholds must be positive")
    return tensors, settings


def _tensor(place: str, value: Any) -> Tensor:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ConversionError(f"{place} is of type {array.dtype}, no numbers")
    tensor = torch.from_numpy(np.array(array, dtype=np.float32))
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ConversionError(f"{place} has {bad} NaN or infinite value{'s' * (bad > 1)}")
    return tensor


def _counts(place: str, value: Any, least: int) -> Any:
    try:
        found = np.asarray(value)
        whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and bool((found == np.floor(found)).all()))
        if not whole or found.ndim > 1 or not found.size or not bool(((found >= least) & (found <= LARGEST)).all()):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{place} is {value!r:.60}: it must be whole numbers from {least} on") from error
    return found.astype(int).tolist()


def input_shape(name: str, node: Any) -> tuple[int, ...]:
    """Shape of one sample, as the Input node says.

    Raises:
        ConversionError: none, or sizes that are none.
    """
    try:
        found = np.asarray(node.input_type["input"]).reshape(-1)
        shape = tuple(int(size) for size in found)
        good = bool((found == np.floor(found)).all()) and all(size >= 1 for size in shape)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        shape, good = (), False
    if not good or math.prod(shape) > limits.VALUES:
        raise ConversionError(f"node {name!r:.200} (Input) does not say the shape of one sample")
    return shape
