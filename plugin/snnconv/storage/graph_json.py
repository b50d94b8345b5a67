"""A graph's records as JSON, and what the graph of a file may hold."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snnconv import limits
from snnconv.files.refusal import brief
from snnconv.graph import activation
from snnconv.graph.ops import METHODS, SHAPE_ATTRIBUTES, VIEW_ATTRIBUTES, resolve
from snnconv.graph.records import META, SITE, NodeRecord, Reference, where
from snnconv.graph.source import ConversionError

__all__ = ["DTYPES", "check_nodes", "decode", "encode", "node_of"]

_ATTRIBUTES = SHAPE_ATTRIBUTES | VIEW_ATTRIBUTES
"""What ``getattr`` in a saved network may ask for."""
DTYPES = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
"""Data types by their names."""
_FORMATS = {
    str(v).removeprefix("torch."): v
    for v in (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)
}
_OPS = ("placeholder", "get_attr", "call_function", "call_method", "output")
_ON_NUMBERS = (operator.pow, operator.mul, operator.imul, operator.add, operator.iadd)
"""Operators that on plain numbers or sequences give results of any size."""


# --- values ------------------------------------------------------------------------------------------------


def encode(value: Any, place: str) -> Any:
    """A value as JSON: what JSON lacks becomes an object with one key that names its type.

    Raises:
        ConversionError: a value of a type that files do not have, by its place.

    >>> encode((1, float("inf"), torch.int8), "here")
    {'tuple': [1, {'float': 'inf'}, {'dtype': 'int8'}]}
    """
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, NodeRecord):
        return encode(vars(value), where(value))
    if isinstance(value, Reference):
        return {"node": value.name}
    if isinstance(value, torch.Size):
        return {"size": [int(v) for v in value]}
    if type(value) is tuple:
        return {"tuple": [encode(v, place) for v in value]}
    if isinstance(value, list):
        return [encode(v, place) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": [[k, encode(v, place)] for k, v in value.items()]}
    if isinstance(value, slice):
        return {"slice": [encode(v, place) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, torch.memory_format):
        return {"memory_format": str(value).removeprefix("torch.")}
    if value is ...:
        return {"ellipsis": True}
    raise ConversionError(
        f"{place}: a {type(value).__name__} ({value!r:.80}) as an argument cannot be written to a file; "
        "pass a number, a string, a tuple or a registered tensor instead"
    )


def decode(text: str) -> dict[str, Any]:
    """A record of names and encoded values, from its JSON: the inverse of :func:`encode`, one level down.

    Raises:
        ConversionError: what is no JSON, or what `encode` does not write.

    >>> decode('{"a": {"slice": [null, 3, null]}, "b": 1}')
    {'a': slice(None, 3, None), 'b': 1}
    """
    records: list[dict[str, Any]] = []

    def of(pairs: list[tuple[str, Any]]) -> Any:
        if len(pairs) == 1:
            kind, content = pairs[0]
            decoder = _DECODERS.get(kind)
            if decoder is not None:
                return decoder(content)
        records.append(dict(pairs))
        if len(records[-1]) < len(pairs):
            raise ConversionError(f"damaged header: {[key for key, _ in pairs][:3]} are not different names")
        return records[-1]

    try:
        found = json.loads(text, object_pairs_hook=of)
    except RecursionError as error:
        raise ConversionError("damaged header: its values lie too deep in each other") from error
    except ConversionError:
        raise
    except ValueError as error:
        raise ConversionError(f"damaged header: it is no JSON ({brief(error)})") from error
    if not records or found is not records[-1]:  # the outermost comes last
        raise ConversionError("damaged header: it is no record of names and values")
    if len(records) > 1:
        raise ConversionError(f"damaged header: {list(records[0])[:3]} is no encoded value")
    return records[0]


def _decoder(kind: str, function: Callable[[Any], Any], *types: type) -> Callable[[Any], Any]:
    """What makes a value of its content, which is of these types."""

    def decoder(content: Any) -> Any:
        cause = None
        if type(content) in types:
            try:
                return function(content)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                cause = error
        raise ConversionError(f"damaged header: {content!r:.60} is no {kind}") from cause

    return decoder


_LISTS, _TEXTS = frozenset({list}), frozenset({str})


def _record(content: Any) -> dict[str, Any]:
    if not content:
        return {}
    found = dict(content)
    if not (_LISTS.issuperset(map(type, content)) and _TEXTS.issuperset(map(type, found))):
        raise TypeError
    return found


_DECODERS: dict[str, Callable[[Any], Any]] = {
    kind: _decoder(kind, function, of)
    for kind, function, of in (
        ("node", Reference, str),
        ("tuple", tuple, list),
        ("dict", _record, list),
        ("float", float, str),
        ("slice", lambda content: slice(*content), list),
        ("size", torch.Size, list),
        ("dtype", DTYPES.__getitem__, str),
        ("device", torch.device, str),
        ("memory_format", _FORMATS.__getitem__, str),
        ("ellipsis", lambda content: ..., bool),
    )
}


_FIELDS: dict[str, type] = {"op": str, "name": str, "target": str, "args": tuple, "kwargs": dict, "meta": dict}
_META_FIELDS: dict[str, type] = {"path": str, "pre_neuron": bool, "ndim": int}
"""What a node's ``meta`` may say; ``ndim`` in former files."""
_META_KEPT = frozenset((key, _META_FIELDS[key]) for key in META)
_AS_WRITTEN = tuple(_FIELDS.items())
"""The fields in the order of the record."""


def node_of(values: Any, number: int) -> NodeRecord:
    """A node of a file's list.

    Raises:
        ConversionError: a field that is missing, unknown or of another type.
    """
    if (
        type(values) is dict
        and _types_of(values) == _AS_WRITTEN
        and (not values["meta"] or _META_KEPT.issuperset(_types_of(values["meta"])))
    ):
        return NodeRecord(*values.values())
    place = f"nodes[{number}]"
    if not isinstance(values, dict) or {*values} != {*_FIELDS}:
        shown = ", ".join(values) if isinstance(values, dict) else repr(values)[:60]
        raise ConversionError(f"{place} has the fields {', '.join(_FIELDS)}, got {shown}")
    if isinstance(values["name"], str):
        place = f"node {values['name']!r:.200}"
    _check_types(values, _FIELDS, place)
    _check_types(values["meta"], _META_FIELDS, f"{place}.meta")
    return NodeRecord(**{**values, "meta": {key: value for key, value in values["meta"].items() if key in META}})


def _types_of(values: dict[str, Any]) -> tuple[tuple[str, type], ...]:
    return tuple(zip(values, map(type, values.values()), strict=True))


def _check_types(values: dict[str, Any], kinds: dict[str, type], place: str) -> None:
    for key, value in values.items():
        if key not in kinds:
            raise ConversionError(f"{place} has a field {key!r:.200}; known: {', '.join(kinds)}")
        if type(value) is not kinds[key]:
            raise ConversionError(f"{place}.{key} must be a {kinds[key].__name__}, got {value!r:.60}")


# --- graphs ------------------------------------------------------------------------------------------------


def check_nodes(nodes: Sequence[NodeRecord], tensors: dict[str, Tensor], sites: Sequence[str]) -> None:
    """Refuse what no converted network holds: foreign operators, endless ones, what nobody reads.

    Raises:
        ConversionError: names the node.
    """
    known: set[str] = set()
    read: set[str] = set()
    seen: list[str] = []
    for node in nodes:
        if node.op not in _OPS:
            raise ConversionError(f"{where(node)}: unknown kind of node {node.op!r:.200}")
        if node.name in known:
            raise ConversionError(f"{where(node)}: there are two nodes of that name")
        leaves = _leaves((node.args, node.kwargs))
        reads = False
        for value in leaves:
            if isinstance(value, Reference):
                reads = True
                if value.name not in known:
                    raise ConversionError(f"{where(node)}: node {value.name!r:.200} is read before it is computed")
                read.add(value.name)
            elif isinstance(value, int) and abs(value) > limits.SIZE:
                raise ConversionError(f"{where(node)}: a number of {value.bit_length()} bits: see snnconv.limits.SIZE")
            elif isinstance(value, torch.device):
                _check_device(node, value)
        known.add(node.name)
        _check_target(node, tensors, sites)
        if node.target == SITE and node.op == "call_function":
            seen.append(node.kwargs["site"])
        if node.op == "call_function" and not reads:
            _check_constant(node)
    if sorted(seen) != sorted(sites):
        odd = next(iter({*sites} ^ {*seen}), None) or next(name for name in seen if seen.count(name) > 1)
        raise ConversionError(f"site {odd!r:.200} does not stand in the graph exactly once")
    if [node.op for node in nodes if node.op == "output"] != ["output"] or nodes[-1].op != "output":
        raise ConversionError("damaged header: the network has no output, or something behind it")
    unread = [n for n in nodes if n.name not in read and n.op not in ("placeholder", "output")]
    if unread:
        raise ConversionError(f"{where(unread[0])} is computed, and nobody reads it")
    spare = {*tensors} - {node.target for node in nodes if node.op == "get_attr"}
    if spare:
        raise ConversionError(f"weight {min(spare)!r:.200} is read by no node")


def _check_target(node: NodeRecord, tensors: dict[str, Tensor], sites: Sequence[str]) -> None:
    target = node.target
    if not isinstance(target, str):
        raise ConversionError(f"{where(node)}: its target is {target!r:.60}, no name")
    if node.op == "call_function" and target == SITE:
        if not isinstance(node.kwargs.get("site"), str) or node.kwargs["site"] not in sites:
            raise ConversionError(f"{where(node)}: unknown site {node.kwargs.get('site')!r:.200}")
        if list(node.kwargs) != ["site"] or len(node.args) != 1 or not isinstance(node.args[0], Reference):
            raise ConversionError(f"{where(node)}: neurons read one value")
    elif node.op == "call_function":
        try:
            function = resolve(target)
        except ValueError as error:
            raise ConversionError(f"{where(node)}: {brief(error)}") from error
        if function is getattr:
            check_attribute(node)
        if function is activation.activated:
            activation.get(str(node.kwargs.get("kind")))
        if function in _ON_NUMBERS and not any(isinstance(v, Reference) for v in _leaves(node.args)):
            raise ConversionError(f"{where(node)}: {target} of numbers, which no network computes at every call")
    elif node.op == "call_method" and target not in METHODS:
        raise ConversionError(f"{where(node)}: method {target!r:.200} is not one that a saved network may use")
    elif node.op == "call_method" and not (node.args and isinstance(node.args[0], Reference)):
        raise ConversionError(f"{where(node)}: method {target!r:.200} of nothing")
    elif node.op == "get_attr" and target not in tensors:
        raise ConversionError(f"{where(node)}: weight {target!r:.200} is missing")
    elif node.op == "output" and (len(node.args) != 1 or node.kwargs):
        raise ConversionError(f"{where(node)}: an output is one value, or one tree of values")


def _check_device(node: NodeRecord, device: torch.device) -> None:
    try:
        torch.zeros(0, device=device)
    except Exception as error:  # a missing device is a RuntimeError, an AssertionError or a NotImplementedError
        raise ConversionError(f"{where(node)}: it makes a tensor on {device}, which this machine lacks") from error


def check_attribute(node: NodeRecord) -> None:
    """Refuse to ask for an attribute that is no shape and no view."""
    if len(node.args) != 2 or node.kwargs or node.args[1] not in _ATTRIBUTES:
        raise ConversionError(f"{where(node)}: attribute {node.args[1:2]} is not one that a saved network may use")


def _check_constant(node: NodeRecord) -> None:
    """Whether a tensor that numbers alone make is of a size that somebody means; none is made to find out."""
    kwargs = {key: value for key, value in node.kwargs.items() if key != "device"}
    try:
        with torch.device("meta"):
            made = resolve(node.target)(*node.args, **kwargs)
    except Exception as error:  # whatever torch says to arguments that nobody wrote
        raise ConversionError(f"{where(node)}: {node.target} fails: {brief(error)}") from error
    if isinstance(made, Tensor) and made.numel() > limits.CONSTANT:
        raise ConversionError(
            f"{where(node)}: {node.target} makes {made.numel()} elements, more than snnconv.limits.CONSTANT = "
            f"{limits.CONSTANT}"
        )


def _leaves(value: Any) -> list[Any]:
    """Members of containers, whatever lies in whatever."""
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    elif not isinstance(value, (tuple, list)):
        return [value]
    return [leaf for item in value for leaf in ((item,) if type(item) is Reference else _leaves(item))]
