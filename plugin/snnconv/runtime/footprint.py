"""What a run holds in memory at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from snnconv.runtime.executor import Executor
from snnconv.runtime.values import wrapped

__all__ = ["Footprint", "footprint"]


class Footprint(NamedTuple):
    """Bytes that one input takes.

    Attributes:
        constant: values that do not depend on a neuron; they are kept from the first step to the last.
        step: for each time step, the most that depends on neurons and is held at once.
    """

    constant: int
    step: int


def footprint(executor: Executor, x: Tensor) -> Footprint:
    """What one pass without time over a single input holds, operator by operator.

    A run over T steps folds time into the batch, so that it holds ``constant + T·step`` bytes an input at most; sums
    written over their operands hold less.

    >>> from torch import nn
    >>> from snnconv.graph.capture.fx import source_graph
    >>> source = source_graph(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    >>> footprint(Executor(source, lambda site, x: x.clamp(min=0)), torch.zeros(1, 4))
    Footprint(constant=32, step=40)
    """
    constant: dict[int, Tensor] = {}
    held: dict[fx.Node, list[Tensor]] = {}
    most = 0
    given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(x) if isinstance(leaf, Tensor)}

    def note(node: fx.Node, value: Any) -> None:
        nonlocal most
        tensors = [leaf.data for leaf in tree_leaves(value, wrapped) if wrapped(leaf) and hasattr(leaf, "data")]
        tensors = [t for t in tensors if t.untyped_storage().data_ptr() not in given]
        if node in executor.temporal:
            held[node] = tensors
            most = max(most, _bytes([t for kept in held.values() for t in kept], set(constant)))
            for done in executor.expires.get(node, ()):
                held.pop(done, None)
        else:
            constant.update({t.untyped_storage().data_ptr(): t for t in tensors})

    executor.observers.append(note)
    try:
        with torch.no_grad():
            executor(x)
    finally:
        executor.observers.remove(note)
    return Footprint(_bytes(list(constant.values()), set()), most)


def _bytes(tensors: list[Tensor], known: set[int]) -> int:
    """Bytes of memory behind tensors, views counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(size for pointer, size in storages.items() if pointer not in known)
