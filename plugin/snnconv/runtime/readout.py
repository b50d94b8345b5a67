"""Readouts: from the outputs of each step to the network's answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node, tree_flatten, tree_map, tree_unflatten

from snnconv.runtime.over_time import so_far
from snnconv.runtime.values import Record, mapped

__all__ = [
    "Held", "Output", "Readout", "StepReadout", "behind", "delay_steps", "join_batches", "native", "opened",
    "output_leaves", "presented", "step_of", "window_mean",
]  # fmt: skip

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


@dataclass(eq=False)
class Held:
    """An output over time that is not the mean (sum) of its steps: its value at a step is the answer up to there.

    Attributes:
        values: ``[T, ...]``: classes, comparisons, functions of the mean so far; a constant at every step.
        shares: ``[T, ...]``: what each step adds, where that makes sense.
        constant: no input has to do with it.
    """

    values: Tensor
    shares: Tensor | None = None
    constant: bool = False

    def map(self, function: Callable[[Tensor], Tensor]) -> Held:
        """The same with ``function`` of its tensors."""
        return Held(function(self.values), None if self.shares is None else function(self.shares), self.constant)

    def over(self, first: int, last: int) -> Tensor:
        """The answer of the steps ``first`` to ``last``, counted from 1."""
        now = self.values[last - 1]
        if self.shares is None or first == 1:
            return now
        return torch.where(torch.isfinite(now), self.shares[first - 1 : last].mean(0), now)


class _Constant(NamedTuple):
    """A readout that is the same for all slices of a batch."""

    value: Any


@dataclass(frozen=True)
class Readout:
    """Mean over the steps after ``delay``, or in sum coding the sum over all steps.

    In differential coding a network's outputs come as steps of a mean already; those of its neurons do not (`of_site`).

    >>> Readout("rate", 4, delay=2).final(torch.tensor([[9.0], [9.0], [1.0], [2.0]]))
    tensor([1.5000])
    """

    coding: str
    timesteps: int
    delay: int = 0

    def final(self, seq: Any) -> Any:
        """Readout of outputs ``[T, B, ...]``."""
        return presented(self.of_slice(seq))

    def of_site(self, out: Tensor) -> Tensor:
        """What the outputs ``[T, B, ...]`` of neurons come to, in the units of their outputs.

        >>> Readout("differential", 2).of_site(torch.tensor([[4.0], [2.0]]))  # 4 + 2/2
        tensor([5.])
        """
        if self.coding == "differential":
            return so_far(out, 0, None, self.coding)[1]
        result: Tensor = self.final(out)
        return result

    def of_slice(self, seq: Any) -> Any:
        """Readout of a slice of a batch, for :func:`join_batches`."""

        def read(value: Any) -> Any:
            if isinstance(value, Held):
                last = len(value.values)
                found = value.over(1 if self.coding == "sum" else self.delay + 1, last)
                return _Constant(found) if value.constant else found
            if not isinstance(value, Tensor):
                return value
            if not (value.is_floating_point() or value.is_complex()):
                return value[-1]
            return value.sum(0) if self.coding == "sum" else value[self.delay :].mean(0)

        return mapped(read, opened(seq))


class StepReadout:
    """Readouts after each step of a run whose steps come one by one.

    >>> readout = StepReadout("rate")
    >>> [float(readout.after(torch.tensor([y]))) for y in (1.0, 0.0)]
    [1.0, 0.5]
    """

    def __init__(self, coding: str, delay: int = 0) -> None:
        self.coding = coding
        self.delay = delay
        self.steps = 0
        self._first = 1
        self._totals: list[Any] = []

    def after(self, step: Any) -> Any:
        """Readout after one more step ``[1, B, ...]``."""
        self.steps += 1
        leaves, spec = tree_flatten(opened(step))
        added = [self._added(leaf) for leaf in leaves]
        if self.steps == 1 or (self.coding != "sum" and self.steps <= self.delay + 1):
            # the mean begins behind the delay; before that, the step alone
            self._totals, self._first = added, self.steps
        else:
            self._totals = [a if a is None else total + a for total, a in zip(self._totals, added, strict=True)]
        return presented(
            tree_unflatten([self._read(leaf, total) for leaf, total in zip(leaves, self._totals, strict=True)], spec)
        )

    @staticmethod
    def _added(leaf: Any) -> Tensor | None:
        seq = leaf.shares if isinstance(leaf, Held) else leaf
        return seq[0] if isinstance(seq, Tensor) and (seq.is_floating_point() or seq.is_complex()) else None

    def _read(self, leaf: Any, total: Tensor | None) -> Any:
        count = self.steps - self._first + 1
        if isinstance(leaf, Held):
            now = leaf.values[0]
            if total is None or self._first == 1 or self.coding == "sum":
                return now
            return torch.where(torch.isfinite(now), total / count, now)
        if total is None:
            return leaf[0] if isinstance(leaf, Tensor) else leaf
        return total if self.coding == "sum" else total / count


def delay_steps(delay: int | str | None, estimate: float, timesteps: int) -> int:
    """Steps to leave out: ⌊estimate⌋, but at least the last four steps are read (arXiv 2409.03368, algorithm 2).

    >>> delay_steps("auto", 5.7, 64), delay_steps("auto", 5.7, 8), delay_steps(None, 5.7, 8)
    (5, 4, 0)
    >>> delay_steps("auto", float("inf"), 8)
    4
    """
    if delay is None:
        return 0
    wanted = int(min(estimate, timesteps)) if delay == "auto" else int(delay)
    if delay == "auto" and timesteps < wanted + MIN_WINDOW:
        return max(0, timesteps - MIN_WINDOW)
    return wanted


def join_batches(slices: list[Any]) -> Any:
    """Concatenate readouts of consecutive slices of a batch, whatever their structure."""
    if len(slices) == 1:
        return presented(slices[0])
    flat = [tree_flatten(opened(p), lambda v: isinstance(v, _Constant)) for p in slices]

    def joined(column: tuple[Any, ...]) -> Any:
        return torch.cat(column) if isinstance(column[0], Tensor) and column[0].dim() else column[0]

    leaves = [joined(column) for column in zip(*(leaves for leaves, _ in flat), strict=True)]
    return presented(tree_unflatten(leaves, flat[0][1]))


def step_of(seq: Any, t: int) -> Any:
    """Step t, from 0, of outputs ``[T, B, ...]``, as a run of one step gives it.

    >>> step_of(torch.tensor([[1.0], [2.0]]), 1)
    tensor([[2.]])
    """

    def cut(value: Any) -> Any:
        if isinstance(value, Held):
            return value.map(cut)
        return value[t : t + 1] if isinstance(value, Tensor) else value

    return tree_map(cut, seq)


def behind(*slices: Any) -> Any:
    """Outputs of consecutive slices of a run, one behind the other in time.

    >>> behind(torch.zeros(1, 2), torch.ones(2, 2)).shape
    torch.Size([3, 2])
    """

    def joined(*values: Any) -> Any:
        first = values[0]
        if isinstance(first, Held):
            shares = None if first.shares is None else torch.cat([v.shares for v in values])
            return Held(torch.cat([v.values for v in values]), shares, first.constant)
        return torch.cat(values) if isinstance(first, Tensor) else first  # what is no tensor is the same in each

    return tree_map(joined, *slices)


def window_mean(seq: Any, first: int, last: int) -> Any:
    """Mean of outputs ``[T, B, ...]`` over the steps ``first`` to ``last``, counted from 1, both included.

    >>> window_mean(torch.tensor([[1.0], [2.0], [4.0]]), 2, 3)
    tensor([3.])
    """

    def mean(value: Any) -> Any:
        if isinstance(value, Held):
            return value.over(first, last)
        if not isinstance(value, Tensor):
            return value
        counts = value.is_floating_point() or value.is_complex()
        return value[first - 1 : last].mean(0) if counts else value[last - 1]

    return presented(tree_map(mean, opened(seq)))


# --- structures --------------------------------------------------------------------------------------------


def native(tree: Any) -> Any:
    """A traced network's outputs in lists and dictionaries that can be changed; by name at the top: an `Output`."""

    def at(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: at(v) for key, v in value.items()}
        if isinstance(value, list):
            return [at(v) for v in value]
        if type(value) is tuple:
            return tuple(at(v) for v in value)
        return Record(value.kind, at(value.fields)) if isinstance(value, Record) else value

    found = at(tree)
    return Output(found) if isinstance(found, dict) else found


def presented(tree: Any) -> Any:
    """The same as the network's own code would return it: dataclasses as such."""

    def at(value: Any) -> Any:
        if isinstance(value, _Constant):
            return value.value
        return value.kind(**presented(value.fields)) if isinstance(value, Record) else value

    return mapped(at, tree, lambda v: isinstance(v, (_Constant, Record)))


def opened(tree: Any) -> Any:
    """The inverse of `presented`: dataclasses as trees, so that what is in them is found."""

    def at(value: Any) -> Any:
        if isinstance(value, Held) or not dataclasses.is_dataclass(value) or isinstance(value, type):
            return value
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return Record(type(value), {name: opened(getattr(value, name)) for name in fields})

    return mapped(at, tree, lambda v: isinstance(v, _Constant))


def output_leaves(tree: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """What a network returns, leaf by leaf, each with how Python's code would reach it.

    >>> [name for name, _ in output_leaves({"cls": 1, "box": (2, 3)})]
    ["output['cls']", "output['box'][0]", "output['box'][1]"]
    """
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from output_leaves(value, f"{name}[{key!r}]")
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        for key in tree._fields:
            yield from output_leaves(getattr(tree, key), f"{name}.{key}")
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from output_leaves(value, f"{name}[{index}]")
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for f in dataclasses.fields(tree):
            yield from output_leaves(getattr(tree, f.name), f"{name}.{f.name}")
    else:
        yield name, tree
