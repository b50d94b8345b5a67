"""Where a value's channels stand: the axis of the layer with weights that it comes from, followed to where it is used.

Lengths, heights and widths may be others in the next call; the channels of a layer may not. So what holds one value a
channel, a threshold or a bias, goes along that axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from snnconv.graph.ops import SYNAPSES, op_name

__all__ = ["Place", "channel_axes", "place_after"]

LAST = frozenset({"layer_norm", "rms_norm", "embedding", "scaled_dot_product_attention"})
SECOND = frozenset({"batch_norm", "group_norm", "instance_norm"})
PRODUCTS = frozenset({"matmul", "bmm", "addmm", "baddbmm"})
SEVERAL = frozenset({"chunk", "split", "tensor_split", "unbind", "topk", "sort", "std_mean", "var_mean"})
"""Operators whose result is a tuple."""
LAST_MODULES = frozenset(
    {"MultiheadAttention", "LSTM", "GRU", "RNN", "TransformerEncoderLayer", "TransformerDecoderLayer"}
)

Place = tuple[int | None, int | None]
"""Channel axis, negative where it counts from the end, and number of dimensions; ``None`` where not known."""


def place_after(name: str, args: Sequence[Any], kwargs: dict[str, Any], places: list[Place]) -> Place:
    """Where the channels are behind an operator.

    Args:
        name: of the operator: ``permute``, ``mean``, ``cat``.
        args, kwargs: what it is called with.
        places: of the tensors among its arguments that depend on the input, in order.

    >>> place_after("permute", (None, 0, 2, 3, 1), {}, [(1, 4)])
    (3, 4)
    >>> place_after("mean", (None, 1), {}, [(-1, 3)])
    (-1, 2)
    """
    known = [place for place in places if place[0] is not None]
    axis, dims = known[0] if known else (places[0] if places else (None, None))
    if name in LAST and len(_ints(kwargs.get("normalized_shape", args[1:2]))) < 2:
        return -1, dims
    if name in PRODUCTS:  # with a matrix of weights, or with values that have their channels last
        return (-1 if len(places) == 1 or _is_last(*places[-1]) else None), dims
    if name in SECOND:
        return 1, dims
    if name in ("view", "reshape"):
        return _reshaped(args, axis, dims)
    if axis is None:
        return None, dims
    if dims is not None:
        axis %= dims
    rule = _RULES.get(name)
    return (axis, dims) if rule is None else rule(args, kwargs, axis, dims)


def channel_axes(graph: fx.Graph, modules: dict[str, Any]) -> dict[fx.Node, int | None]:
    """The channel axis of every value of a graph that comes from a layer with weights; ``None``: of no other."""
    places: dict[fx.Node, Place] = {}
    several: set[fx.Node] = set()
    for node in graph.nodes:
        kind = SYNAPSES.get(node.target) if node.op == "call_function" else None
        before = [places[n] for n in node.all_input_nodes if n.op != "get_attr"]
        if kind is not None:
            dims = next((int(c) + 2 for c in op_name(node) if c.isdigit()), None)
            places[node] = (-1, None) if kind == "linear" else (1, dims)
        elif node.op == "call_module":
            place = before[0] if before else (None, None)
            last = type(modules.get(str(node.target))).__name__ in LAST_MODULES
            places[node] = (-1, place[1]) if last else place
            several |= {node} if last else set()
        elif node.op in ("call_function", "call_method"):
            name = op_name(node).strip("._")
            if name == "getattr":
                name = str(node.args[1])
            if name == "getitem" and node.args[0] in several:
                places[node] = before[0]
                continue
            places[node] = place_after(name, node.args, dict(node.kwargs), before)
            if name in SEVERAL or (name in ("max", "min") and _dims_given(node.args, dict(node.kwargs), "dim")):
                several.add(node)
        else:
            places[node] = (None, None)
    return {node: axis for node, (axis, _) in places.items()}


# --- rules -------------------------------------------------------------------------------------------------


def _ints(values: Any) -> list[int]:
    flat: list[int] = []
    for value in values if isinstance(values, (tuple, list)) else [values]:
        flat += _ints(value) if isinstance(value, (tuple, list)) else [value] if type(value) is int else []
    return flat


def _dims_given(args: Sequence[Any], kwargs: dict[str, Any], *names: str) -> list[int]:
    found = next((kwargs[name] for name in names if name in kwargs), args[1:])
    return _ints(found)


def _at(axis: int, dims: int | None, largest: int = 0) -> tuple[int, int]:
    """An axis counted from the front, and the number of dimensions: where it is not known, the least there can be."""
    count = dims if dims is not None else max(largest + 1, 2, axis + 1, -axis)
    return axis % count, count


def _permuted(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    order = _dims_given(args, kwargs, "dims")
    if not order:
        return axis, dims
    count = len(order)
    return [d % count for d in order].index(axis % count), count


def _swapped(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    named = [kwargs[k] for k in ("dim0", "dim1", "axis0", "axis1") if k in kwargs]
    pair = (_ints(list(args[1:])) + _ints(named))[:2]
    if len(pair) < 2:
        return axis, dims
    if dims is None and all((d < 0) == (axis < 0) for d in pair):
        return {pair[0]: pair[1], pair[1]: pair[0]}.get(axis, axis), None
    here, count = _at(axis, dims, max(pair))
    first, second = (d % count for d in pair)
    return {first: second, second: first}.get(here, here), count


def _turned(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    behind = axis if axis < 0 or dims is None else axis - dims
    return {-1: -2, -2: -1}.get(behind, axis), dims


def _moved(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    given = [_ints(v) for v in (kwargs.get("source", args[1:2]), kwargs.get("destination", args[2:3]))]
    if not all(given):
        return axis, dims
    here, count = _at(axis, dims, max(d for side in given for d in side))
    order = [d for d in range(count) if d not in [s % count for s in given[0]]]
    for source, target in sorted(zip(*given, strict=False), key=lambda pair: pair[1] % count):
        order.insert(target % count, source % count)
    return order.index(here), count


def _reduced(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    gone = _dims_given(args, kwargs, "dim", "axis")
    keep = kwargs.get("keepdim", kwargs.get("keepdims", any(v is True for v in args[1:])))
    if not gone:  # over all, or an operator on two tensors: max(a, b)
        return (axis, dims) if keep or len(args) > 1 else (None, None)
    here, count = _at(axis, dims, max(gone))
    removed = {d % count for d in gone}
    if keep:
        return axis, dims
    if here in removed:
        return None, count - len(removed)
    if dims is None and axis < 0:
        return axis + sum(d < 0 and d > axis for d in gone), None
    return here - sum(d < here for d in removed), None if dims is None else count - len(removed)


def _added(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    where = (_dims_given(args, kwargs, "dim") or [0])[0]
    if dims is None:
        if axis < 0:
            return axis - (where < 0 and where >= axis), None
        return axis + (0 <= where <= axis), None
    return axis + (where % (dims + 1) <= axis), dims + 1


def _removed(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    gone = _dims_given(args, kwargs, "dim")
    return _reduced((None, *gone), {}, axis, dims) if gone else (axis, None)


def _flattened(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    given = _ints(list(args[1:]))
    start = kwargs.get("start_dim", given[0] if given else 0)
    end = kwargs.get("end_dim", given[1] if len(given) > 1 else -1)
    if dims is None and axis < 0:
        return axis, None
    here, count = _at(axis, dims, start)
    first, last = start % count, end % count
    if here < first:
        return here, None if dims is None else dims - (last - first)
    return max(first, here - (last - first)), None if dims is None else dims - (last - first)


def _picked(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    index = args[1] if len(args) > 1 else None
    if isinstance(index, str):
        return axis, dims
    items = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(i, fx.Node) for i in items):
        return axis, dims
    if Ellipsis in items:
        behind = items[items.index(Ellipsis) + 1 :]
        gone = [i - len(behind) for i, item in enumerate(behind) if type(item) is int]
        gone += [i for i, item in enumerate(items[: items.index(Ellipsis)]) if type(item) is int]
    else:
        at = [i for i, item in enumerate(items) if item is not None]
        gone = [at.index(i) for i, item in enumerate(items) if type(item) is int]
    return _reduced((None, *gone), {}, axis, dims) if gone else (axis, dims)


def _stacked(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    return _added((None, *args[1:]), kwargs, axis, dims)


def _is_last(axis: int | None, dims: int | None) -> bool:
    return axis == -1 or (axis is not None and dims is not None and axis % dims == dims - 1)


def _reshaped(args: Sequence[Any], axis: int | None, dims: int | None) -> Place:
    """Sizes that are written as numbers do not vary: of those the second axis, or the last."""
    sizes = list(args[1]) if len(args) == 2 and isinstance(args[1], (tuple, list)) else list(args[1:])
    if len(sizes) < 2:
        return (None, 1) if _ints(sizes) else (axis, None)
    fixed = [type(size) is int and size > 0 for size in sizes]
    last = len(sizes) - 1
    if fixed[1]:
        return 1, len(sizes)
    return (last if fixed[-1] or _is_last(axis, dims) else 1), len(sizes)


def _unflattened(args: Sequence[Any], kwargs: dict[str, Any], axis: int, dims: int | None) -> Place:
    where = _ints(kwargs.get("dim", args[1:2]))
    sizes = kwargs.get("sizes", args[2] if len(args) > 2 else ())
    if not where or not sizes:
        return axis, dims
    here, count = _at(axis, dims, where[0])
    more = len(sizes) - 1
    return here + (more if here > where[0] % count else 0), None if dims is None else dims + more


_RULES: dict[str, Callable[[Sequence[Any], dict[str, Any], int, int | None], Place]] = {
    "permute": _permuted,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _swapped),
    **dict.fromkeys(("t", "mT", "T", "adjoint"), _turned),
    **dict.fromkeys(("movedim", "moveaxis"), _moved),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "prod", "std", "var", "logsumexp"), _reduced),
    "unsqueeze": _added,
    "stack": _stacked,
    "squeeze": _removed,
    "select": lambda args, kwargs, axis, dims: _reduced(args[:2], kwargs, axis, dims),
    "flatten": _flattened,
    "unflatten": _unflattened,
    "unbind": _removed,
    "norm": lambda args, kwargs, axis, dims: _reduced((None, *args[2:]), kwargs, axis, dims),
    "getitem": _picked,
}
