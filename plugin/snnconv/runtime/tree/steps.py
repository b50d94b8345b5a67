"""One call of a forward on all steps at once: each step as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from snnconv.runtime.over_time import at_each_step
from snnconv.runtime.shapes import ELEMENTWISE, PER_SAMPLE
from snnconv.runtime.tree.functions import Arguments, Function

__all__ = ["over_steps", "step_by_step"]


def over_steps(
    function: Function,
    run: Callable[..., Any],
    given: Arguments,
    leaves: list[Any],
    sequences: Mapping[int, Tensor],
    kind: str,
) -> Any:
    """What ``run(*args, **kwargs)`` gives at each step; every tensor of it is ``[T, ...]``.

    Args:
        function: what is called.
        run: calls it.
        given, leaves: how the arguments nest, and the arguments of one step.
        sequences: the arguments that differ from step to step, ``[T, ...]``, by their position in ``leaves``.
        kind: of the call, as :func:`snnconv.graph.ops.op_kind` has it.

    Raises:
        ValueError: what it gives has another shape at each step.
    """
    if function.bare in ELEMENTWISE and not (function.bare == "where" and len(leaves) < 3):
        aligned = _aligned(leaves, sequences)
        if aligned is not None:
            return _called(run, given, aligned)
    elif list(sequences) == [0] and _per_sample(function, sequences[0].dim() - 1, kind):
        steps = sequences[0].shape[:2]
        out = _called(run, given, [sequences[0].flatten(0, 1), *leaves[1:]])
        return _mapped(lambda v: v.unflatten(0, steps), out)
    elif function.bare == "linear" and list(sequences) == [0]:
        return _called(run, given, [sequences[0], *leaves[1:]])
    elif function.bare == "scaled_dot_product_attention" and sorted(sequences) == [0, 1, 2]:
        return _called(run, given, [sequences.get(i, leaf) for i, leaf in enumerate(leaves)])

    def step(*now: Tensor) -> Any:
        filled = list(leaves)
        for position, value in zip(sequences, now, strict=True):
            filled[position] = value
        return _called(run, given, filled)

    return at_each_step(step, list(sequences.values()))


def step_by_step(
    run: Callable[..., Any], given: Arguments, leaves: list[Any], sequences: Mapping[int, Tensor]
) -> list[Any]:
    """What a call gives at each step, one after the other."""
    steps = len(next(iter(sequences.values())))
    return [
        _called(run, given, [sequences[i][t] if i in sequences else leaf for i, leaf in enumerate(leaves)])
        for t in range(steps)
    ]


def _called(run: Callable[..., Any], given: Arguments, leaves: list[Any]) -> Any:
    args, kwargs = given.filled(leaves)
    return run(*args, **kwargs)


def _mapped(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return change(tree)
    leaves, spec = tree_flatten(tree)
    return tree_unflatten([change(v) if isinstance(v, Tensor) else v for v in leaves], spec)


def _aligned(leaves: list[Any], sequences: Mapping[int, Tensor]) -> list[Any] | None:
    """Arguments that broadcast within a step, with time in front; None where number types could differ by it."""
    inner = {i: sequences[i].dim() - 1 if i in sequences else v.dim() for i, v in _tensors(leaves)}
    if len({v.dtype for _, v in _tensors(leaves)}) > 1 and 0 in inner.values():
        return None
    most = max(inner.values())
    if any(isinstance(v, torch.memory_format) for v in leaves):
        return None
    found = list(leaves)
    for i, sequence in sequences.items():
        found[i] = sequence[(slice(None), *[None] * (most - inner[i]))]
    return found


def _tensors(leaves: list[Any]) -> list[tuple[int, Tensor]]:
    return [(i, v) for i, v in enumerate(leaves) if isinstance(v, Tensor)]


def _per_sample(function: Function, dims: int, kind: str) -> bool:
    if function.method:
        return False
    if function.bare == "batch_norm":
        return kind == "affine" and dims > 1
    return PER_SAMPLE.get(function.bare) == dims
