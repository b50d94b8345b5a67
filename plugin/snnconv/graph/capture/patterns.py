"""ReLUs and quantised ReLUs that are written as arithmetic: ``where``, ``maximum``, masks, chains of clamps, floors.

Each value that is a function of one other value, element by element, is followed as a :class:`Curve` of it. Where the
curve is that of a ReLU or of a quantiser, the calls in between become one call of that activation: by algebra, the
same function.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from snnconv.graph.activation import ReLU, activated
from snnconv.graph.arguments import arguments
from snnconv.graph.capture.constants import Constants
from snnconv.graph.capture.curves import Curve, Lines, Quantiser, Unknown
from snnconv.graph.flow import Flow
from snnconv.graph.ops import Operator, find, operator_of
from snnconv.graph.sites import relu_of
from snnconv.graph.source import SourceGraph

__all__ = ["see_activations"]

Rule = Callable[[dict[str, Any]], Curve]
NEAREST = 8
"""How many of the values that a value is a function of are kept, beside the farthest."""


@dataclass
class _Followed:
    """A node as a function of another one.

    Attributes:
        root: that one.
        curve: the function.
        unseen: whether some part of it is nonlinear and no ReLU by itself.
    """

    root: fx.Node
    curve: Curve
    unseen: bool

    @cached_property
    def kind(self) -> ReLU | Quantiser | None:
        """The activation that it is, if any."""
        return self.curve.relu() or self.curve.quantiser()


def see_activations(source: SourceGraph, quantisers: bool = True) -> None:
    """Replace ReLUs and quantised ReLUs that are written as arithmetic by calls of these activations.

    The new call's ``meta`` holds, as ``parts``, the modules in which those it stands for happened.

    Args:
        source: the network.
        quantisers: whether quantised ReLUs are replaced, too; else they stay, and what is inside them is no ReLU.
    """
    found = _followed(source)
    covered: set[fx.Node] = set()
    notes: list[str] = []
    order = {node: number for number, node in enumerate(source.graph.nodes)}
    for node in reversed(order):
        seen = _activation(found, node)
        if node in covered or seen is None:
            continue
        kind = seen.kind
        assert kind is not None
        inside = sorted(_between(seen.root, node), key=order.__getitem__)
        own = _alone(inside, node)
        needed = {n for n in inside if n not in own and _activation(found, n) is not None}
        if any(followed.root in needed and not followed.unseen for followed in found[node]):
            continue  # lines of an activation that others read, too
        covered |= own
        if not quantisers and isinstance(kind, Quantiser):
            for part in own:
                part.meta["inside"] = "quantiser"
            continue
        if isinstance(kind, Quantiser):
            notes.insert(0, _words(node, kind))
        with source.graph.inserting_before(node):
            new = _call(source, seen, kind)
        new.meta = {**node.meta, "parts": [part.meta.get("nn_module_stack") or {} for part in inside]}
        node.replace_all_uses_with(new)
    source.notes += notes
    source.prune()


def _activation(found: Mapping[fx.Node, list[_Followed]], node: fx.Node) -> _Followed | None:
    """What a value is an activation of that is written as arithmetic."""
    return next((f for f in found.get(node, ()) if f.unseen and f.kind is not None), None)


def _words(node: fx.Node, kind: Quantiser) -> str:
    shift = f", its input shifted by {kind.shift:.6g}" if kind.shift else ""
    return (
        f"{node.meta.get('path') or node.name}: read as a quantised activation of {kind.levels} levels up to "
        f"{kind.threshold:.6g}{shift}; where a value lies in the middle between two levels it goes up"
    )


def _call(source: SourceGraph, seen: _Followed, kind: ReLU | Quantiser) -> fx.Node:
    graph, root = source.graph, seen.root
    if isinstance(kind, ReLU):
        if kind.cap is None:
            return graph.call_function(torch.relu, (root,))
        return graph.call_function(torch.clamp, (root, 0, kind.cap))
    if kind.shift:
        path = root.meta.get("path", "")
        root = graph.call_function(torch.add, (root, kind.shift))
        root.meta["path"] = path
    parameters: dict[str, Any] = {"kind": "quant", "threshold": kind.threshold, "levels": kind.levels}
    return graph.call_function(activated, (root,), parameters)


def _between(root: fx.Node, node: fx.Node) -> set[fx.Node]:
    """What a value is computed by from another one, without both."""
    inside: set[fx.Node] = set()
    waiting = list(node.all_input_nodes)
    while waiting:
        used = waiting.pop()
        if used is not root and used not in inside:
            inside.add(used)
            waiting += used.all_input_nodes
    return inside


def _alone(inside: list[fx.Node], node: fx.Node) -> set[fx.Node]:
    """Those, of some in the graph's order, that nothing needs once ``node`` is computed otherwise."""
    own: set[fx.Node] = set()
    for part in reversed(inside):
        if all(user in own or user is node for user in part.users):
            own.add(part)
    return own


def _followed(source: SourceGraph) -> dict[fx.Node, list[_Followed]]:
    """Each value as a function of those that it is one of, the farthest first."""
    kinds = Flow(source.graph).kinds
    found: dict[fx.Node, list[_Followed]] = {}
    constants = Constants(source)
    order = {node: number for number, node in enumerate(source.graph.nodes)}
    for node in source.graph.nodes:
        if constants.note(node):
            continue
        record = find(node.target, node.op == "call_method") if node.op in ("call_function", "call_method") else None
        rule = None if record is None else _RULES.get(record)
        if rule is None:
            continue
        varying = {n for n in node.all_input_nodes if n not in constants and kinds[n] not in ("shape", "size")}
        if not varying:
            continue
        direct = relu_of(node.target, node.op == "call_method", node.args, dict(node.kwargs)) is not None
        # a ReLU of a ReLU is one of its own: both are there to become neurons
        closed = {n for n in varying if direct and any(f.kind is not None for f in found.get(n, ()))}
        behind = {n: {} if n in closed else {f.root: f for f in found.get(n, ())} for n in varying}
        roots = sorted(set.intersection(*({n, *behind[n]} for n in varying)), key=order.__getitem__)
        made = [
            _apply(node, rule, root, {n: behind[n].get(root) for n in varying}, constants, direct) for root in roots
        ]
        seen = [followed for followed in made if followed is not None]
        if seen:
            found[node] = seen[:1] + seen[1:][-NEAREST:]
    return found


def _apply(
    node: fx.Node,
    rule: Rule,
    root: fx.Node,
    parts: dict[fx.Node, _Followed | None],
    constants: Mapping[fx.Node, float],
    direct: bool,
) -> _Followed | None:
    """A call as a function of ``root``, of which its varying arguments are the functions ``parts`` (or itself)."""

    def curve(value: Any) -> Any:
        if not isinstance(value, fx.Node):
            return Curve(Lines.constant(value)) if isinstance(value, (int, float)) else value
        if value in constants:
            return Curve(Lines.constant(constants[value]))
        if value is root:
            return Curve(Lines.identity())
        part = parts.get(value)
        return value if part is None else part.curve

    try:
        given = arguments(node)
        places = {k for k, v in given.items() if k == "dim" and not isinstance(v, fx.Node)}  # numbers, but no values
        made = rule({k: v if k in places else curve(v) for k, v in given.items()})
    except Unknown:
        return None
    unseen = any(part is not None and part.unseen for part in parts.values()) or not (direct or rule in _LINEAR)
    return _Followed(root, made, unseen)


# --- rules -------------------------------------------------------------------------------------------------


def _curve(given: dict[str, Any], name: str = "input") -> Curve:
    value = given.get(name)
    if not isinstance(value, Curve):
        raise Unknown(f"{name} is no function of one value")
    return value


def _lines(given: dict[str, Any], name: str = "input") -> Lines:
    curve = _curve(given, name)
    if curve.stairs is not None:
        raise Unknown("a rounding")
    return curve.lines


def _number(given: dict[str, Any], name: str, default: float | None = None) -> float | None:
    if given.get(name) is None:
        return default
    number = _curve(given, name).number()
    if number is None:
        raise Unknown(f"{name} is no number")
    return number


def _same(given: dict[str, Any]) -> Curve:
    if any(isinstance(v, torch.dtype) and not v.is_floating_point for v in given.values()):
        raise Unknown("a rounding to whole numbers")
    return _curve(given)


def _sum(given: dict[str, Any]) -> Curve:
    other = _curve(given, "other")
    return _curve(given) + (other if given.get("alpha") is None else other * _curve(given, "alpha"))


def _difference(given: dict[str, Any]) -> Curve:
    return _sum(given | {"other": -_curve(given, "other")})


def _product(given: dict[str, Any]) -> Curve:
    return _curve(given) * _curve(given, "other")


def _quotient(given: dict[str, Any]) -> Curve:
    divisor = _number(given, "other")
    if not divisor or given.get("rounding_mode") == "trunc":
        raise Unknown("a division")
    curve = _curve(given) * Curve(Lines.constant(1 / divisor))
    return curve if given.get("rounding_mode") is None else curve.floor()


def _compared(sign: str) -> Rule:
    return lambda given: Curve(_lines(given).compare(_lines(given, "other"), sign))


def _where(given: dict[str, Any]) -> Curve:
    return Curve(_lines(given).where(_lines(given, "condition"), _lines(given, "other")))


def _filled(given: dict[str, Any]) -> Curve:
    return Curve(_lines(given, "value").where(_lines(given, "mask"), _lines(given)))


def _larger(given: dict[str, Any]) -> Curve:
    return _bound(given, lambda number: (number, None), Lines.maximum)


def _smaller(given: dict[str, Any]) -> Curve:
    return _bound(given, lambda number: (None, number), Lines.minimum)


def _bound(
    given: dict[str, Any], bounds: Callable[[float], tuple[float | None, float | None]], of_two: Callable[..., Lines]
) -> Curve:
    """max or min of two; of the values along a dimension it is none."""
    second = "other" if "other" in given else "dim"
    one, two = _curve(given), _curve(given, second)
    number = two.number()
    if number is None and one.number() is not None:
        one, two, number = two, one, one.number()
    if number is not None:
        return one.bounded(*bounds(number))
    return Curve(of_two(_lines(given), _lines(given, second)))


def _clamped(low: str | float | None, high: str | float | None, defaults: tuple[Any, Any] = (None, None)) -> Rule:
    def rule(given: dict[str, Any]) -> Curve:
        found = [
            _number(given, bound, default) if isinstance(bound, str) else bound
            for bound, default in zip((low, high), defaults, strict=True)
        ]
        return _curve(given).bounded(*found)

    return rule


def _over_threshold(given: dict[str, Any]) -> Curve:
    condition = _lines(given).compare(_lines(given, "threshold"), ">")
    return Curve(_lines(given).where(condition, _lines(given, "value")))


def _size(given: dict[str, Any]) -> Curve:
    return Curve(_lines(given).maximum(-_lines(given)))


def _rounded(given: dict[str, Any]) -> Curve:
    if given.get("decimals") is not None:
        raise Unknown("a rounding to decimals")
    return (_curve(given) + Curve(Lines.constant(0.5))).floor()


def _toward_zero(given: dict[str, Any]) -> Curve:
    if _lines(given).compare(Lines.constant(0.0), ">=").plain() != ((), ((0.0, 1.0),)):
        raise Unknown("a rounding toward zero")
    return _curve(given).floor()


def _floored_quotient(given: dict[str, Any]) -> Curve:
    return _quotient(given | {"rounding_mode": "floor"})


def _not(given: dict[str, Any]) -> Curve:
    return Curve(Lines.constant(0.0).where(_lines(given), Lines.constant(1.0)))


def _both(given: dict[str, Any]) -> Curve:
    return Curve(_lines(given, "other").where(_lines(given), Lines.constant(0.0)))


def _either(given: dict[str, Any]) -> Curve:
    return Curve(Lines.constant(1.0).where(_lines(given), _lines(given, "other")))


def _table() -> dict[Operator, Rule]:
    by_function: dict[Any, Rule] = {
        torch.add: _sum, torch.sub: _difference, torch.mul: _product, torch.div: _quotient,
        torch.neg: lambda given: -_curve(given), operator.pos: _same, torch.clone: _same,
        torch.gt: _compared(">"), torch.ge: _compared(">="), torch.lt: _compared("<"), torch.le: _compared("<="),
        torch.where: _where, torch.maximum: _larger, torch.minimum: _smaller, torch.max: _larger, torch.min: _smaller,
        torch.logical_not: _not, torch.logical_and: _both, torch.logical_or: _either,
        torch.relu: _clamped(0.0, None), F.relu6: _clamped(0.0, 6.0), torch.clamp: _clamped("min", "max"),
        torch.clip: _clamped("min", "max"), torch.clamp_min: _clamped("min", None),
        torch.clamp_max: _clamped(None, "max"), F.hardtanh: _clamped("min_val", "max_val", (-1.0, 1.0)),
        F.threshold: _over_threshold, torch.abs: _size, torch.floor: lambda given: _curve(given).floor(),
        torch.ceil: lambda given: -(-_curve(given)).floor(), torch.round: _rounded, torch.trunc: _toward_zero,
        operator.floordiv: _floored_quotient,
    }  # fmt: skip
    by_method = {"contiguous": _same, "to": _same, "type_as": _same, "where": _where, "masked_fill": _filled}
    table = {operator_of(function): rule for function, rule in by_function.items()}
    return table | {operator_of(method, method=True): rule for method, rule in by_method.items()}


_RULES = _table()
_LINEAR = (_sum, _difference, _product, _quotient, _same, _RULES[operator_of(torch.neg)])
