"""Readouts: from the outputs of each step to the network's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node, tree_flatten, tree_map_only, tree_unflatten

__all__ = ["Output", "Readout", "delay_steps", "join_batches", "window_mean"]

MIN_WINDOW = 4


class Output(dict[str, Any]):
    """A network's outputs by name, as items and as attributes.

    >>> y = Output(logits=torch.zeros(1))
    >>> y.logits is y["logits"]
    True
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the network has no output {name!r}, only {', '.join(self) or 'none'}") from None


register_pytree_node(
    Output, lambda y: (list(y.values()), list(y)), lambda values, names: Output(zip(names, values, strict=True))
)


@dataclass(frozen=True)
class Readout:
    """Mean over the steps after ``delay`` (rate coding), or the sum over all steps (sum coding).

    >>> Readout("rate", 4, delay=2).final(torch.tensor([[9.0], [9.0], [1.0], [2.0]]))
    tensor([1.5000])
    """

    coding: str
    timesteps: int
    delay: int = 0

    def final(self, seq: Any) -> Any:
        """Readout of outputs ``[T, B, ...]``."""
        if self.coding == "sum":
            return tree_map_only(Tensor, lambda v: v.sum(0), seq)
        return tree_map_only(Tensor, lambda v: v[self.delay :].mean(0), seq)


def delay_steps(delay: int | str | None, estimate: float, timesteps: int) -> int:
    """Steps to leave out: ⌊estimate⌋, but at least the last four steps are read (arXiv 2409.03368, algorithm 2).

    >>> delay_steps("auto", 5.7, 64), delay_steps("auto", 5.7, 8), delay_steps(None, 5.7, 8)
    (5, 4, 0)
    """
    if delay is None:
        return 0
    wanted = int(estimate) if delay == "auto" else int(delay)
    if delay == "auto" and timesteps < wanted + MIN_WINDOW:
        return max(0, timesteps - MIN_WINDOW)
    return wanted


def join_batches(parts: list[Any]) -> Any:
    """Concatenate readouts of consecutive parts of a batch, whatever their structure."""
    if len(parts) == 1:
        return parts[0]
    flat = [tree_flatten(p) for p in parts]
    leaves = [
        torch.cat(column) if isinstance(column[0], Tensor) else column[0]
        for column in zip(*(leaves for leaves, _ in flat), strict=True)
    ]
    return tree_unflatten(leaves, flat[0][1])


def window_mean(seq: Any, first: int, last: int) -> Any:
    """Mean of outputs ``[T, B, ...]`` over the steps ``first`` to ``last``, counted from 1, both included.

    >>> window_mean(torch.tensor([[1.0], [2.0], [4.0]]), 2, 3)
    tensor([3.])
    """
    return tree_map_only(Tensor, lambda v: v[first - 1 : last].mean(0), seq)
