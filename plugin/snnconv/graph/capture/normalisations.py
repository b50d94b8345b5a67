"""Normalisations that a network writes out, ``x·rsqrt(mean(x²) + ε)``, as the functions that they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconv.graph.arguments import arguments
from snnconv.graph.ops import Operator, find
from snnconv.graph.source import SourceGraph

__all__ = ["see_normalisations"]

_MUL, _DIV, _ADD, _SUB, _MEAN, _POW, _SQUARE, _SQRT, _RSQRT, _RECIPROCAL, _VAR = (
    find(function)
    for function in (
        torch.mul, torch.div, torch.add, torch.sub, torch.mean, torch.pow, torch.square, torch.sqrt, torch.rsqrt,
        torch.reciprocal, torch.var,
    )
)  # fmt: skip
_CASTS = tuple(find(method, method=True) for method in ("to", "type_as", "float", "contiguous"))


@dataclass(frozen=True)
class _Written:
    """A normalisation over one axis.

    Attributes:
        function: ``layer_norm`` or ``rms_norm``.
        input: what is normalised.
        axis: along which.
        eps: what is added to the mean square.
    """

    function: Any
    input: fx.Node
    axis: int
    eps: float


class _Unlike(Exception):
    """It is no normalisation of a form that is known."""


def see_normalisations(source: SourceGraph) -> None:
    """Replace normalisations written as arithmetic by ``F.layer_norm`` and ``F.rms_norm``.

    Those along the last axis, and of images along their channels, that are multiplied by a weight, which says how long
    a row is; the weight stays a factor of its own.

    Args:
        source: the network, changed in place.
    """
    for node in list(source.graph.nodes):
        try:
            found = _normalisation(source, node)
            length = _length(source, node, found.axis)
        except _Unlike:
            continue
        with source.graph.inserting_before(node):
            first = found.axis == -1
            x = found.input if first else source.graph.call_method("movedim", (found.input, found.axis, -1))
            y = source.graph.call_function(found.function, (x, [length]), {"eps": found.eps})
            new = y if first else source.graph.call_method("movedim", (y, -1, found.axis))
        for made in {x, y, new} - {found.input}:
            made.meta = dict(node.meta)
        node.replace_all_uses_with(new)
    source.prune()


def _normalisation(source: SourceGraph, node: fx.Node) -> _Written:
    """What is divided by the root of its mean square."""
    record, given = _call(node)
    if record is _MUL:
        ways = [(given["input"], given["other"]), (given["other"], given["input"])]
        for c, factor in ways:
            try:
                return _by(source, c, _inverse_root(source, factor))
            except _Unlike:
                continue
    elif record is _DIV and given.get("rounding_mode") is None:
        return _by(source, given["input"], _root(given["other"]))
    raise _Unlike


def _by(source: SourceGraph, c: Any, mean_square: fx.Node) -> _Written:
    record, given = _call(mean_square)
    if record is not _ADD or given.get("alpha") is not None:
        raise _Unlike
    for v, added in ((given["input"], given["other"]), (given["other"], given["input"])):
        eps = _number(source, added)
        if eps is not None and isinstance(v, fx.Node) and isinstance(c, fx.Node):
            return _of(source, c, v, eps)
    raise _Unlike


def _of(source: SourceGraph, c: fx.Node, v: fx.Node, eps: float) -> _Written:
    record, given = _call(v)
    centred = _centred(c)
    if record is _MEAN and given.get("keepdim") is True:
        if not _same(_squared(source, given["input"]), c):
            raise _Unlike
        axis = _axis(given)
        if centred is not None and centred[1] == axis:
            return _Written(F.layer_norm, centred[0], axis, eps)
        return _Written(F.rms_norm, c, axis, eps)
    if record is _VAR and centred is not None and given.get("keepdim") is True and given["input"] is centred[0]:
        biased = given.get("correction") == 0 or given.get("unbiased") is False
        if biased and _axis(given) == centred[1]:
            return _Written(F.layer_norm, centred[0], centred[1], eps)
    raise _Unlike


def _centred(c: fx.Node) -> tuple[fx.Node, int] | None:
    """A value and the axis along which its mean is taken from it."""
    try:
        record, given = _call(c)
        if record is not _SUB or given.get("alpha") is not None:
            return None
        taken, mean = _call(given["other"])
        if taken is not _MEAN or mean.get("keepdim") is not True or mean["input"] is not given["input"]:
            return None
        return given["input"], _axis(mean)
    except _Unlike:
        return None


def _inverse_root(source: SourceGraph, node: Any) -> fx.Node:
    """What one over the root of is taken."""
    record, given = _call(node)
    if record is _RSQRT or (record is _POW and _number(source, given["exponent"]) == -0.5):
        return _node(given["input"])
    if record is _RECIPROCAL:
        return _root(given["input"])
    if record is _MUL and _number(source, given["other"]) == 1:  # as torch.export writes one over a value
        return _inverse_root(source, given["input"])
    if record is _DIV and _number(source, given["input"]) == 1 and given.get("rounding_mode") is None:
        return _root(given["other"])
    raise _Unlike


def _root(node: Any) -> fx.Node:
    record, given = _call(node)
    if record is _SQRT or (record is _POW and given["exponent"] == 0.5):
        return _node(given["input"])
    raise _Unlike


def _squared(source: SourceGraph, node: Any) -> fx.Node:
    record, given = _call(node)
    once = record is _MUL and given["input"] is given["other"]
    if once or record is _SQUARE or (record is _POW and _number(source, given["exponent"]) == 2):
        return _node(given["input"])
    raise _Unlike


def _same(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes are one value: one node, or one operator of the same values written twice."""
    return a is b or (_call(a)[0] is _call(b)[0] and a.args == b.args and a.kwargs == b.kwargs)


def _axis(given: dict[str, Any]) -> int:
    dim = given.get("dim")
    dim = dim[0] if isinstance(dim, (list, tuple)) and len(dim) == 1 else dim
    if dim not in (-1, 1) or isinstance(dim, bool):
        raise _Unlike
    return int(dim)


def _length(source: SourceGraph, node: fx.Node, axis: int) -> int:
    """Of a row, from the weight that multiplies it."""
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        record = find(user.target, user.op == "call_method") if user.op.startswith("call") else None
        if record in _CASTS and record is not None:
            waiting += user.users
        for other in user.all_input_nodes if record is _MUL else ():
            weight = source.tensors.get(str(other.target)) if other.op == "get_attr" else None
            if weight is not None and (length := _row(weight, axis)):
                return length
    raise _Unlike


def _row(weight: Tensor, axis: int) -> int:
    """How long the rows are that a weight fits; 0 for none."""
    if axis == -1:
        return weight.numel() if weight.dim() == 1 else 0
    kept = tuple(weight.shape[-3:])
    return weight.numel() if weight.dim() in (3, 4) and kept == (weight.numel(), 1, 1) else 0


def _number(source: SourceGraph, value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, fx.Node) and value.op == "get_attr":
        tensor = source.tensors.get(str(value.target))
        return float(tensor.detach()) if tensor is not None and tensor.numel() == 1 else None
    return None


def _node(value: Any) -> fx.Node:
    if isinstance(value, fx.Node):
        return value
    raise _Unlike


def _call(node: Any) -> tuple[Operator, dict[str, Any]]:
    """The operator of a call, and its arguments by name."""
    if not isinstance(node, fx.Node) or node.op not in ("call_function", "call_method"):
        raise _Unlike
    record = find(node.target, node.op == "call_method")
    if record is None:
        raise _Unlike
    given = arguments(node)
    missing = {"other": None, "exponent": None, "input": None}
    return record, {**missing, **given}
