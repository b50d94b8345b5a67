"""What one call of a network takes: a tensor, or a batch of several inputs by the names of forward's arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import BoundArguments, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import (
    keystr,
    register_pytree_node,
    tree_flatten_with_path,
    tree_leaves,
    tree_map,
    tree_map_only,
    tree_unflatten,
)

__all__ = ["Batch", "Whole", "batch_of", "call", "entries", "same_shapes", "unbatched", "whole_names"]


class Whole:
    """A tensor without a batch dimension: the same for every sample, so that no part of a batch cuts it."""

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"Whole({tuple(self.data.shape)})"


class Batch:
    """Inputs by the names of forward's arguments, counted and cut along dimension 0 like one tensor ``[B, ...]``.

    Args:
        values: for each argument a tensor ``[B, ...]``, a `Whole`, a plain value, or a tree of these.

    >>> batch = Batch({"x": torch.zeros(4, 2), "mask": Whole(torch.ones(2, 2))})
    >>> len(batch), [len(part) for part in batch.split(3)], batch[:1]
    (4, [3, 1], Batch(x=[1, 2], mask=[2, 2]))
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = dict(values)

    def __len__(self) -> int:
        return len(next(self.tensors()))

    def __getitem__(self, index: Any) -> Batch:
        return self.map(lambda v: v[index])

    def __repr__(self) -> str:
        return f"Batch({', '.join(f'{name}={list(v.shape)}' for name, v in entries(self).items())})"

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(self.tensors()).device

    def tensors(self) -> Iterator[Tensor]:
        """The tensors that have a batch dimension."""
        return (v for v in tree_leaves(self.values) if isinstance(v, Tensor))

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """A batch with ``function`` of every tensor that has a batch dimension."""
        return Batch(tree_map_only(Tensor, function, self.values))

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device, what has no batch dimension too."""

        def moved(value: Any) -> Any:
            if isinstance(value, Whole):
                return Whole(value.data.to(device))
            return value.to(device) if isinstance(value, Tensor) else value

        return Batch(tree_map(moved, self.values))

    def split(self, size: int | Sequence[int]) -> list[Batch]:
        """Consecutive parts of ``size`` samples, or of the sizes given."""
        sizes = [size] * -(-len(self) // size) if isinstance(size, int) else list(size)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [self[start : start + count] for start, count in zip(starts, sizes, strict=True)]


register_pytree_node(
    Batch,
    lambda batch: (list(batch.values.values()), list(batch.values)),
    lambda values, names: Batch(dict(zip(names, values, strict=True))),
)


def named_leaves(x: Any) -> dict[str, Any]:
    """Every leaf of an input by its name: the argument, and its place where the argument holds several."""
    if isinstance(x, Tensor):
        return {"": x}
    values = x.values if isinstance(x, Batch) else dict(x)
    found = tree_flatten_with_path(values)[0]
    return {str(getattr(path[0], "key", path[0])) + keystr(path[1:]): value for path, value in found}


def entries(x: Any) -> dict[str, Tensor]:
    """The tensors among `named_leaves`.

    >>> list(entries(Batch({"x": torch.zeros(1), "pair": (torch.zeros(1), Whole(torch.zeros(2))), "scale": 2.0})))
    ['x', 'pair[0]', 'pair[1]']
    """
    leaves = {name: v.data if isinstance(v, Whole) else v for name, v in named_leaves(x).items()}
    return {name: v for name, v in leaves.items() if isinstance(v, Tensor)}


def whole_names(x: Any) -> set[str]:
    """Names of the tensors that have no batch dimension."""
    return {name for name, value in named_leaves(x).items() if isinstance(value, Whole)}


def unbatched(values: dict[str, Any]) -> set[str]:
    """Names of the tensors whose dimension 0 has another size than the first one's, which is the batch.

    >>> sorted(unbatched({"x": torch.zeros(4, 2), "mask": torch.zeros(2, 2), "scale": torch.tensor(1.0)}))
    ['mask', 'scale']
    """
    found = entries(Batch(values))
    size = next((v.shape[0] for v in found.values() if v.dim()), None)
    return {name for name, v in found.items() if not v.dim() or v.shape[0] != size}


def batch_of(values: dict[str, Any], whole: set[str]) -> Batch:
    """A batch in which the tensors named in ``whole`` have no batch dimension."""
    leaves = named_leaves(values)
    structure = tree_flatten_with_path(values)[1]
    marked = [Whole(v) if name in whole and isinstance(v, Tensor) else v for name, v in leaves.items()]
    return Batch(tree_unflatten(marked, structure))


def same_shapes(batches: Sequence[Any]) -> bool:
    """Whether all batches have inputs of one shape, so that they can be joined into one.

    >>> same_shapes([torch.zeros(2, 3), torch.zeros(1, 3)]), same_shapes([torch.zeros(2, 3), torch.zeros(2, 4)])
    (True, False)
    """
    return len({sample_shapes(batch) for batch in batches}) <= 1


def sample_shapes(x: Any) -> tuple[Any, ...]:
    """Shapes of one sample's inputs, in order; what has no batch dimension counts with its identity."""
    if isinstance(x, Tensor):
        return tuple(x.shape[1:])
    leaves = tree_leaves(x)
    return tuple(tuple(v.shape[1:]) if isinstance(v, Tensor) else id(v) for v in leaves)


def call(model: nn.Module, x: Any) -> Any:
    """``model`` on an input: a tensor as its first argument, a `Batch` by name.

    >>> call(nn.Bilinear(1, 1, 1), Batch({"input1": torch.ones(2, 1), "input2": torch.ones(2, 1)})).shape
    torch.Size([2, 1])
    """
    if not isinstance(x, Batch):
        return model(*x) if isinstance(x, tuple) else model(x)
    values = tree_map(lambda v: v.data if isinstance(v, Whole) else v, x.values)
    bound = BoundArguments(signature(model.forward), dict(values))
    named = {k: v for k, v in values.items() if k not in bound.signature.parameters}
    return model(*bound.args, **{**bound.kwargs, **named})
