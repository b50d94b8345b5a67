"""Values over time: means of the steps so far, and the steps that make such means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from snnconv.runtime.over_time import shares, so_far
from snnconv.runtime.run import RunState
from snnconv.runtime.tree.values import MEANS, STEPS, Value

__all__ = ["Time"]


class Time:
    """The steps of one run, which go on from those that ``state`` remembers.

    Args:
        timesteps: steps of this run.
        state: what the steps before left; a place in the forward finds it by its key.

    >>> import torch
    >>> time = Time(2, RunState(steps=1, accumulated={"x": (torch.tensor(4.0), None)}))
    >>> time.running(torch.tensor([0.0, 2.0]), "x")  # 4, then 0 and 2
    tensor([2., 2.])
    """

    def __init__(self, timesteps: int, state: RunState) -> None:
        self.timesteps = timesteps
        self.state = state
        self._counts: Counter[str] = Counter()

    def key(self, path: str, name: str) -> str:
        """A name for the next of the calls ``name`` in the module at ``path``."""
        key = f"{path}/{name}"
        self._counts[key] += 1
        return f"{key}/{self._counts[key]}"

    def running(self, steps: Tensor, key: str) -> Tensor:
        """Means of all steps so far."""
        before, _ = self.state.accumulated.get(key, (None, None))
        means, total = so_far(steps, self.state.steps, before, "rate")
        self.state.accumulated[key] = (total, None)
        return means

    def means(self, value: Value, key: str) -> Tensor:
        """At each step, the value of the mean of all steps so far."""
        if value.memory.time == MEANS:
            return value.raw
        if value.means is None:
            value.means = self.running(value.raw, key)
        return value.means

    def steps(self, value: Value, path: str) -> Tensor:
        """What each step brings: of means y, t·y_t − (t−1)·y_(t−1) (:func:`snnconv.runtime.over_time.shares`)."""
        if value.memory.time is None:
            return value.raw.expand(self.timesteps, *value.raw.shape)
        if value.memory.time == STEPS:
            return value.raw
        key = self.key(path, "steps")
        before, _ = self.state.accumulated.get(key, (None, None))
        steps, total = shares(value.raw, self.state.steps, before, "rate")
        self.state.accumulated[key] = (total, None)
        return steps

    def on_sums(self, key: str, steps: Mapping[int, Tensor], run: Callable[[Mapping[int, Tensor]], Any]) -> Any:
        """``run`` on the sums of all steps so far, as differences from step to step."""
        before, previous = self.state.accumulated.get(key, ({}, []))
        sums, totals = {}, {}
        for i, seq in steps.items():
            sums[i], totals[i] = so_far(seq, self.state.steps, before.get(i), "sum")
        last: list[Tensor] = []

        def difference(seq: Tensor) -> Tensor:
            seq, total = shares(seq, self.state.steps, previous[len(last)] if previous else None, "sum")
            last.append(total)
            return seq

        result = tree_map_only(Tensor, difference, run(sums))
        self.state.accumulated[key] = (totals, last)
        return result
