"""Normalisations that a network writes out, ``x·rsqrt(mean(x²) + ε)``, as the functions that they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconv.graph.arguments import arguments
from snnconv.graph.capture.constants import Constants
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

_CASTS = ("to", "type_as", "float", "double")


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
    constants = Constants(source)
    for node in list(source.graph.nodes):
        if constants.note(node):
            continue
        try:
            found = _normalisation(constants, node)
            length = _length(source, node, found.axis)
        except _Unlike:
            continue
        last = found.axis == -1
        with source.graph.inserting_before(node):
            x = found.input if last else source.graph.call_method("movedim", (found.input, found.axis, -1))
            y = source.graph.call_function(found.function, (x, [length]), {"eps": found.eps})
            new = y if last else source.graph.call_method("movedim", (y, -1, found.axis))
        for made in {x, y, new} - {found.input}:
            made.meta = dict(node.meta)
        node.replace_all_uses_with(new)
    source.prune()


def _normalisation(constants: Constants, node: fx.Node) -> _Written:
    """What is divided by the root of its mean square."""
    record, given = _call(node)
    if record is _MUL:
        for c, factor in ((given["input"], given["other"]), (given["other"], given["input"])):
            try:
                return _divided(constants, c, _inverse_root(constants, factor))
            except _Unlike:
                continue
    elif record is _DIV and given.get("rounding_mode") is None:
        return _divided(constants, given["input"], _root(constants, given["other"]))
    raise _Unlike


def _divided(constants: Constants, c: Any, square: fx.Node) -> _Written:
    """A value over the root of a mean square and what is added to it."""
    record, given = _call(square)
    if record is not _ADD or given.get("alpha") is not None or not isinstance(c, fx.Node):
        raise _Unlike
    for mean, added in ((given["input"], given["other"]), (given["other"], given["input"])):
        eps = _number(constants, added)
        if eps is not None:
            return _by_its_own(constants, c, mean, eps)
    raise _Unlike


def _by_its_own(constants: Constants, c: fx.Node, mean: Any, eps: float) -> _Written:
    """A value by its own mean square; where its mean is taken from it along the same axis, by its variance."""
    record, given = _call(mean)
    if given.get("keepdim") is not True:
        raise _Unlike
    axis, centred = _axis(given), _centred(c)
    if record is _MEAN:
        squared = _squared(constants, given["input"])
        if _uncast(squared) is _uncast(c):
            plain = centred is None or centred[1] != axis
        else:
            plain = False
            if centred is None or _centred(squared) != centred:
                raise _Unlike
    elif record is _VAR and (given.get("correction") == 0 or given.get("unbiased") is False):
        plain = False
        if centred is None or centred[0] is not given["input"]:
            raise _Unlike
    else:
        raise _Unlike
    if plain or centred is None:
        return _Written(F.rms_norm, c, axis, eps)
    if centred[1] != axis:
        raise _Unlike
    return _Written(F.layer_norm, centred[0], axis, eps)


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


def _inverse_root(constants: Constants, node: Any) -> fx.Node:
    """What one over the root of is taken."""
    record, given = _call(node)
    if record is _RSQRT or (record is _POW and _number(constants, given.get("exponent")) == -0.5):
        return _node(given["input"])
    if record is _RECIPROCAL:
        return _root(constants, given["input"])
    if record is _MUL and _number(constants, given["other"]) == 1:  # as torch.export writes one over a value
        return _inverse_root(constants, given["input"])
    if record is _DIV and _number(constants, given["input"]) == 1 and given.get("rounding_mode") is None:
        return _root(constants, given["other"])
    raise _Unlike


def _root(constants: Constants, node: Any) -> fx.Node:
    record, given = _call(node)
    if record is _SQRT or (record is _POW and _number(constants, given.get("exponent")) == 0.5):
        return _node(given["input"])
    raise _Unlike


def _squared(constants: Constants, node: Any) -> fx.Node:
    record, given = _call(node)
    once = record is _MUL and given["input"] is given["other"]
    if once or record is _SQUARE or (record is _POW and _number(constants, given.get("exponent")) == 2):
        return _node(given["input"])
    raise _Unlike


def _uncast(node: fx.Node) -> fx.Node:
    """What a value was before it became one of other floating-point numbers."""
    cast = node.op == "call_method" and node.target in _CASTS and len(node.all_input_nodes) == 1
    dtypes = [v for v in (*node.args, *node.kwargs.values()) if isinstance(v, torch.dtype)]
    return _uncast(node.all_input_nodes[0]) if cast and all(d.is_floating_point for d in dtypes) else node


def _axis(given: dict[str, Any]) -> int:
    dim = given.get("dim")
    dim = dim[0] if isinstance(dim, (list, tuple)) and len(dim) == 1 else dim
    if dim not in (-1, 1) or isinstance(dim, bool):
        raise _Unlike
    return int(dim)


def _length(source: SourceGraph, node: fx.Node, axis: int) -> int:
    """Of a row, from the weight that multiplies it, behind casts."""
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        if user.op == "call_method" and user.target in _CASTS:
            waiting += user.users
        record = find(user.target, user.op == "call_method") if user.op.startswith("call") else None
        for other in user.all_input_nodes if record is _MUL else ():
            weight = source.tensors.get(str(other.target)) if other.op == "get_attr" else None
            if weight is not None and (length := _row(weight, axis)) > 1:  # one number fits rows of any length
                return length
    raise _Unlike


def _row(weight: Tensor, axis: int) -> int:
    """How long the rows are that a weight fits; 0 for none."""
    if axis == -1:
        return weight.numel() if weight.dim() == 1 else 0
    kept = tuple(weight.shape[-3:])
    return weight.numel() if weight.dim() in (3, 4) and kept == (weight.numel(), 1, 1) else 0


def _number(constants: Constants, value: Any) -> float | None:
    if isinstance(value, fx.Node):
        return constants.get(value)
    return float(value) if isinstance(value, (int, float)) else None


def _node(value: Any) -> fx.Node:
    if isinstance(value, fx.Node):
        return value
    raise _Unlike


def _call(node: Any) -> tuple[Operator, dict[str, Any]]:
    """The operator of a call, and its arguments by name."""
    record = None
    if isinstance(node, fx.Node) and node.op in ("call_function", "call_method"):
        record = find(node.target, node.op == "call_method")
    if record is None:
        raise _Unlike
    return record, {"input": None, "other": None, **arguments(node)}
