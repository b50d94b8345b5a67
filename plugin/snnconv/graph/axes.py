"""Where a value's channels stand: the axis of the layer with weights that it comes from, followed to where it is used.

Lengths, heights and widths may be others in the next call; the channels of a layer may not. So what holds one value a
channel, a threshold or a bias, goes along that axis. Operators' records name the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Place", "Rule"]

Place = tuple[int | None, int | None]
"""Channel axis, negative where it counts from the end, and number of dimensions; ``None`` where not known."""
Rule = Callable[[Sequence[Place], Mapping[str, Any]], Place]
"""``rule(places of the inputs, arguments by name)``: the place behind an operator."""


def same(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """Channels stay where they are.

    >>> same([(None, None), (-1, 3)], {})
    (-1, 3)
    """
    return next((place for place in places if place[0] is not None), places[0] if places else (None, None))


def last(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """Channels are last: embeddings, attention, a norm over the last axis."""
    shape = given.get("normalized_shape")
    over = len(shape) if isinstance(shape, (tuple, list)) else 1
    return (-1, same(places, given)[1]) if over == 1 else same(places, given)


def second(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """Channels follow the batch."""
    return 1, same(places, given)[1]


def product(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """Behind a matrix of weights, or values that have their channels last, these are last."""
    weights = len(places) == 1 or _is_last(*places[-1])
    return (-1 if weights else None), same(places, given)[1]


def permuted(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``permute(*dims)``.

    >>> permuted([(1, 4)], {"dims": (0, 2, 3, 1)})
    (3, 4)
    """
    axis, dims = same(places, given)
    order = _ints(given.get("dims"))
    if axis is None or not order:
        return axis, dims
    count = len(order)
    return [d % count for d in order].index(axis % count), count


def swapped(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``transpose(dim0, dim1)`` and its like."""
    axis, dims = same(places, given)
    pair = _ints([value for name, value in given.items() if name != "input"])
    if axis is None or len(pair) < 2:
        return axis, dims
    if dims is None and all((d < 0) == (axis < 0) for d in pair):
        return {pair[0]: pair[1], pair[1]: pair[0]}.get(axis, axis), None
    here, count = _at(axis, dims, max(pair))
    one, other = (d % count for d in pair)
    return {one: other, other: one}.get(here, here), count


def turned(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``t()``, ``mT``: the last two axes swapped."""
    return swapped(places, {"dim0": -2, "dim1": -1})


def attribute(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``x.mT`` and its like; others are no views."""
    return turned(places, given) if given.get("name") in ("T", "mT", "H", "mH") else (None, None)


def moved(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``movedim(source, destination)``."""
    axis, dims = same(places, given)
    source, target = _ints(given.get("source")), _ints(given.get("destination"))
    if axis is None or not source or len(source) != len(target):
        return axis, dims
    here, count = _at(axis, dims, max(*source, *target))
    order = [d for d in range(count) if d not in [s % count for s in source]]
    for to, of in sorted((t % count, s % count) for s, t in zip(source, target, strict=True)):
        order.insert(to, of)
    return order.index(here), count


def reduced(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """A sum, a mean, a maximum over ``dim``; over all, there are no channels left.

    >>> reduced([(-1, 3)], {"dim": 1}), reduced([(1, 4)], {"dim": (-2, -1)}), reduced([(1, 4)], {"dim": 1})
    ((1, 2), (1, 2), (None, 3))
    """
    axis, dims = same(places, given)
    gone = _ints(given.get("dim"))
    if axis is None or given.get("keepdim") or (given.get("dim") is not None and not gone):
        return axis, dims
    return _without(axis, dims, gone) if gone else (None, None)


def removed(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``squeeze``, ``select`` and ``unbind``; where no axis is named, those behind the channels may be gone."""
    axis, dims = same(places, given)
    gone = _ints(given.get("dim"))
    if axis is None:
        return axis, dims
    return _without(axis, dims, gone) if gone else (axis, None)


def unbound(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``unbind(dim=0)``."""
    return removed(places, {"dim": 0, **given})


def added(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``unsqueeze`` and ``stack``: an axis more."""
    axis, dims = same(places, given)
    where = (_ints(given.get("dim")) or [0])[0]
    if axis is None:
        return axis, dims
    if dims is None:
        shift = -(where < 0 and where >= axis) if axis < 0 else 0 <= where <= axis
        return axis + shift, None
    return axis % dims + (where % (dims + 1) <= axis % dims), dims + 1


def flattened(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``flatten(start_dim, end_dim)``: channels go into the axis that they are flattened to."""
    axis, dims = same(places, given)
    start, end = (given.get(name, default) for name, default in (("start_dim", 0), ("end_dim", -1)))
    if axis is None or (dims is None and axis < 0) or not _ints([start, end]):
        return axis, None
    here, count = _at(axis, dims, start)
    first, last_ = start % count, end % count
    left = None if dims is None else dims - (last_ - first)
    return (here if here < first else max(first, here - (last_ - first))), left


def unflattened(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``unflatten(dim, sizes)``."""
    axis, dims = same(places, given)
    where, sizes = _ints(given.get("dim")), given.get("sizes")
    if axis is None or not where or not isinstance(sizes, (tuple, list)):
        return axis, dims
    more = len(sizes) - 1
    if dims is None and axis < 0 and where[0] < 0:  # counted from the end, whatever stands in front
        return (axis - more if axis <= where[0] else axis), None
    here, count = _at(axis, dims, where[0])
    return here + (more if here > where[0] % count else 0), None if dims is None else dims + more


def reshaped(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``view(*size)``: sizes that are written as numbers do not vary; of those the second axis, or the last.

    >>> reshaped([(1, 4)], {"size": ("n", 8, -1)}), reshaped([(-1, 3)], {"size": ("n", "length", 2, 4)})
    ((1, 3), (3, 4))
    """
    axis, dims = same(places, given)
    size = given.get("size", ())
    sizes = list(size) if isinstance(size, (tuple, list)) else [size]
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = list(sizes[0])
    if len(sizes) < 2:
        return (None, 1) if _ints(sizes) else (axis, None)
    fixed = [type(one) is int and one > 0 for one in sizes]
    if fixed[1]:
        return 1, len(sizes)
    return (len(sizes) - 1 if fixed[-1] or _is_last(axis, dims) else 1), len(sizes)


def picked(places: Sequence[Place], given: Mapping[str, Any]) -> Place:
    """``x[index]``: an axis less for every number in the index, one more for every ``None``."""
    axis, dims = same(places, given)
    index = given.get("index")
    items = list(index) if isinstance(index, tuple) else [index]
    plain = all(item is None or item is ... or type(item) is int or isinstance(item, slice) for item in items)
    if axis is None or not plain:
        return axis, dims
    if ... in items:
        cut = items.index(...)
        front, behind = items[:cut], items[cut + 1 :]
    else:
        front, behind = items, []
    gone = _numbers(front)
    gone += [place - sum(item is not None for item in behind) for place in _numbers(behind)]
    place: Place = _without(axis, dims, gone) if gone else (axis, dims)
    for where, item in enumerate(front):
        if item is None and place[0] is not None:
            place = added([place], {"dim": where - sum(type(i) is int for i in front[:where])})
    return place


# --- arithmetic --------------------------------------------------------------------------------------------


def _ints(values: Any) -> list[int]:
    flat: list[int] = []
    for value in values if isinstance(values, (tuple, list)) else [values]:
        flat += _ints(value) if isinstance(value, (tuple, list)) else [value] if type(value) is int else []
    return flat


def _numbers(items: list[Any]) -> list[int]:
    """Axes that an index takes one element of."""
    there = [item for item in items if item is not None]
    return [place for place, item in enumerate(there) if type(item) is int]


def _at(axis: int, dims: int | None, largest: int = 0) -> tuple[int, int]:
    """An axis counted from the front, and the number of dimensions: where it is not known, the least there can be."""
    count = dims if dims is not None else max(largest + 1, 2, axis + 1, -axis)
    return axis % count, count


def _is_last(axis: int | None, dims: int | None) -> bool:
    return axis == -1 or (axis is not None and dims is not None and axis % dims == dims - 1)


def _without(axis: int, dims: int | None, gone: list[int]) -> Place:
    """The place after some axes are gone."""
    if dims is None and axis < 0:
        return (None, None) if axis in gone else (axis + sum(axis < d < 0 for d in gone), None)
    here, count = _at(axis, dims, max(gone))
    axes = {d % count for d in gone}
    left = None if dims is None else count - len(axes)
    return (None if here in axes else here - sum(d < here for d in axes)), left
