"""What an executor hands from operator to operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import register_pytree_node, tree_any, tree_leaves, tree_map, tree_map_only

from snnconv.graph.source import broadcast

__all__ = [
    "Accumulated", "Args", "Fired", "Kwargs", "NeuronFn", "Pair", "Record", "Sized", "Spikes", "Static", "Temporal",
    "Tree", "Wrapped",
]  # fmt: skip


class Static(NamedTuple):
    """A tensor ``[B, ...]`` that does not change over time."""

    data: Tensor


class Sized(Static):
    """A tensor ``[B, ...]`` made from sizes, not from the input: a constant, as a weight is."""


class Temporal(NamedTuple):
    """A tensor over time, folded: ``[T·B, ...]``, time outermost. Its mean (sum) over the steps is its value.

    Attributes:
        scalar: a step is a single number: ``[T]``.
    """

    data: Tensor
    scalar: bool = False


@dataclass(eq=False)
class Accumulated:
    """A tensor over time that says at each step what holds up to there, not what the step adds to it.

    Attributes:
        data: ``[T·B, ...]``, as of `Temporal`.
        name: under which a run remembers what of it was handed on step by step.
        scalar: as of `Temporal`.
        shares: the same as a `Temporal`, where it was asked for.
    """

    data: Tensor
    name: str
    scalar: bool = False
    shares: Temporal | None = None


class Pair(NamedTuple):
    """A value derived from shapes: one for a batch of B, one for the folded batch of T·B."""

    static: object
    folded: object


@dataclass
class Spikes:
    """What neurons put out, as whole numbers.

    Attributes:
        int8_spikes: ``int8`` (-1, 0, 1) or sums of the weights 1, 2, 4, ..., ``uint8`` or, of both signs, ``int8``.
        amplitude: what a spike is worth, ``[1]`` or one value a channel.
        axis: channel axis of ``int8_spikes``; negative where time comes before the batch.
        world: `Static` or `Temporal`.
        bytes: the same as a layer takes them, where they were made.
    """

    int8_spikes: Tensor
    amplitude: Tensor
    axis: int
    world: type[Static] | type[Temporal] | None = None
    bytes: list[Tensor] = field(default_factory=list)
    _floats: list[Tensor] = field(default_factory=list)

    def floats(self) -> Tensor:
        """The same as numbers, made once.

        >>> import torch
        >>> Spikes(torch.tensor([[1, 0]], dtype=torch.int8), torch.tensor([0.5]), 1).floats()
        tensor([[0.5000, 0.0000]])
        """
        if not self._floats:
            amplitude = broadcast(self.amplitude, self.int8_spikes.dim(), self.axis)
            self._floats.append(self.int8_spikes.to(self.amplitude.dtype).mul_(amplitude))
        return self._floats[0]


Fired = Tensor | Spikes
"""What neurons put out: numbers, or for layers in 8 bits whole numbers."""
NeuronFn = Callable[[str, Tensor], Fired]
"""Outputs of a site's neurons for their currents."""


def numbers(fired: Fired) -> Tensor:
    """What neurons put out ``[B, ...]`` as numbers."""
    return fired.floats() if isinstance(fired, Spikes) else fired


def plain(value: object) -> object:
    """A value as every operator takes it: spikes as numbers."""
    if isinstance(value, Spikes):
        assert value.world is not None
        return value.world(value.floats())
    return value


Wrapped = Static | Temporal | Pair | Accumulated
"""What an operator's value is wrapped in."""
Args = tuple[object, ...]
"""Positional arguments of an operator: values, wrapped or not, and containers of them."""
Kwargs = dict[str, object]
"""Arguments of an operator by name."""
_WRAPPERS = (Static, Temporal, Pair, Accumulated)
_PLAIN = frozenset((Tensor, nn.Parameter, int, float, bool, str, type(None), torch.dtype, torch.device))
"""Types of values that hold no others: most of what operators take, looked at without a walk through a tree."""


def wrapped(value: object) -> TypeGuard[Wrapped]:
    return isinstance(value, _WRAPPERS)


def is_pair(value: object) -> TypeGuard[Pair]:
    return isinstance(value, Pair)


Tree = TypeVar("Tree")


def leafwise(function: Callable[[Wrapped], object], tree: Tree) -> Tree:
    """Replace every wrapped value of a tree, those in slices too; its containers stay what they are."""

    def at(value: object) -> object:
        if isinstance(value, slice):
            return slice(at(value.start), at(value.stop), at(value.step))
        return function(value) if wrapped(value) else value

    def walked(value: object) -> object:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if isinstance(value, _WRAPPERS):
            return function(value)
        if kind is tuple:
            return tuple([walked(v) for v in cast("tuple[object, ...]", value)])
        if kind is dict:
            return {key: walked(v) for key, v in cast("dict[object, object]", value).items()}
        return tree_map(at, value, is_leaf=wrapped)

    return cast("Tree", walked(tree))


def leaves(tree: object) -> list[object]:
    """All values of a tree, wrapped ones whole, and those in slices."""
    kind = type(tree)
    if kind in _PLAIN or isinstance(tree, _WRAPPERS):
        return [tree]
    if kind is tuple:
        return [leaf for value in cast("tuple[object, ...]", tree) for leaf in leaves(value)]
    if kind is dict:
        return [leaf for value in cast("dict[object, object]", tree).values() for leaf in leaves(value)]
    found: list[object] = []
    for value in tree_leaves(tree, wrapped):
        found += (value.start, value.stop, value.step) if isinstance(value, slice) else (value,)
    return found


def mapped(
    function: Callable[[object], object], tree: object, is_leaf: Callable[[object], bool] | None = None
) -> object:
    """``function`` of every leaf of a tree; of a tensor, wrapped or not, as most networks take and give, at once.

    >>> mapped(lambda v: v + 1, torch.zeros(1)), mapped(lambda v: v + 1, (1, [2]))
    (tensor([1.]), (2, [3]))
    """
    return function(tree) if isinstance(tree, (Tensor, *_WRAPPERS)) else tree_map(function, tree, is_leaf=is_leaf)


def has_pair(value: object) -> bool:
    """Whether there is a `Pair` in a tree of values."""
    if value is None or isinstance(value, Tensor | Static | Temporal | Accumulated | Spikes | int):
        return False
    return tree_any(is_pair, value, is_leaf=wrapped)


def unfolded(value: Temporal | Accumulated, timesteps: int) -> Tensor:
    """``[T, B, ...]``.

    >>> unfolded(Temporal(torch.zeros(6, 5)), 3).shape
    torch.Size([3, 2, 5])
    """
    data = value.data
    return data if value.scalar else data.reshape(timesteps, -1, *data.shape[1:])


def folded(seq: Tensor) -> Temporal:
    """Inverse of :func:`unfolded`."""
    return Temporal(seq, True) if seq.dim() == 1 else Temporal(seq.flatten(0, 1))


class Record:
    """A dataclass's fields by name, as a tree that holds anything.

    >>> Record(slice, {"start": 1}).fields
    {'start': 1}
    """

    def __init__(self, kind: type, fields: dict[str, object]) -> None:
        self.kind = kind
        self.fields = fields


register_pytree_node(
    Record,
    lambda record: (list(record.fields.values()), (record.kind, list(record.fields))),
    lambda values, context: Record(context[0], dict(zip(context[1], values, strict=True))),
)


class Versions:
    """Tensors, and how often each had been written to: whether what was made of them still holds.

    >>> import torch
    >>> tensors = [torch.zeros(2)]
    >>> versions = Versions(tensors)
    >>> versions.unchanged(tensors), tensors[0].add_(1) is None, versions.unchanged(tensors)
    (True, False, False)
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._seen = [(tensor, _version(tensor)) for tensor in tensors]

    def unchanged(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the same tensors, and none was written to."""
        if len(tensors) != len(self._seen):
            return False
        return all(t is seen and _version(t) == n for t, (seen, n) in zip(tensors, self._seen, strict=True))


def _version(tensor: Tensor) -> int:
    return 0 if not isinstance(tensor, Tensor) or tensor.is_inference() else tensor._version


def without_time(value: object) -> object:
    """What a wrapped value of a pass without time holds; anything else as it is."""
    if isinstance(value, Pair):
        return value.static
    return value.data if isinstance(value, Static | Temporal | Accumulated) else value


def channels_last(x: object) -> object:
    """Images as the layers want them; a part of a batch at a time, so that no batch lies in memory twice."""

    def laid_out(v: Tensor) -> Tensor:
        return v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v

    return laid_out(x) if isinstance(x, Tensor) else tree_map_only(Tensor, laid_out, x)
