"""Values over time: means of the steps so far, and the steps that make such means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from snnconv.dynamics.pooling import running_sum
from snnconv.runtime.run import RunState
from snnconv.runtime.tree.values import MEANS, STEPS, Value

__all__ = ["Time"]


class Time:
    """The steps of one run, which go on from those that ``state`` remembers.

    Args:
        timesteps: steps of this run.
        state: what the steps before left; a place in the forward finds it by its key.

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
        total = running_sum(steps, before)
        self.state.accumulated[key] = (total[-1], None)
        return total / self._clock(total)

    def means(self, value: Value, key: str) -> Tensor:
        """At each step, the value of the mean of all steps so far."""
        if value.memory.time == MEANS:
            return value.raw
        if value.means is None:
            value.means = self.running(value.raw, key)
        return value.means

    def steps(self, value: Value, path: str, last: bool = False) -> Tensor:
        """What each step brings: t·y_t − (t−1)·y_(t−1) of means y.

        Before the first spike y_t may be no number (log 0, 0/0): such a step brings nothing, and the next one what it
        lacked. ``last``: no steps follow, so that the last one brings what is not finite.
        """
        if value.memory.time is None:
            return value.raw.expand(self.timesteps, *value.raw.shape)
        if value.memory.time == STEPS:
            return value.raw
        key = self.key(path, "steps")
        total = value.raw * self._clock(value.raw)
        before, _ = self.state.accumulated.get(key, (None, None))
        start = torch.zeros_like(total[0]) if before is None else before
        finite = torch.isfinite(total)
        if not bool(finite.all()):
            rows = [start]
            for t, row in enumerate(total):
                rows.append(row if last and t == len(total) - 1 else torch.where(finite[t], row, rows[-1]))
            total = torch.stack(rows[1:])
        self.state.accumulated[key] = (total[-1], None)
        return torch.cat([total[:1] - start, total[1:] - total[:-1]])

    def on_sums(self, key: str, steps: Mapping[int, Tensor], run: Callable[[Mapping[int, Tensor]], Any]) -> Any:
        """``run`` on the sums of all steps so far, as differences from step to step."""
        before, previous = self.state.accumulated.get(key, ({}, []))
        sums = {i: running_sum(v, before.get(i)) for i, v in steps.items()}
        last: list[Tensor] = []

        def difference(seq: Tensor) -> Tensor:
            first = seq[:1] - previous[len(last)] if previous else seq[:1]
            last.append(seq[-1])
            return torch.cat([first, seq[1:] - seq[:-1]])

        result = tree_map_only(Tensor, difference, run(sums))
        self.state.accumulated[key] = ({i: s[-1] for i, s in sums.items()}, last)
        return result

    def _clock(self, seq: Tensor) -> Tensor:
        """Number of each step, from 1, to be multiplied with ``seq``."""
        start = self.state.steps + 1
        real = seq.real.dtype if seq.is_complex() else seq.dtype
        steps = torch.arange(start, start + len(seq), dtype=torch.float32, device=seq.device).to(real)
        return steps.reshape(-1, *[1] * (seq.dim() - 1))
