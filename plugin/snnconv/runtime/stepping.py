"""Operators of a graph on values over time: on every step by itself, or on what has been accumulated so far."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from snnconv.dynamics.pooling import accumulated_max_pool
from snnconv.graph.flow import Flow
from snnconv.graph.ops import is_synapse, operator_of
from snnconv.graph.source import SourceGraph
from snnconv.runtime.over_time import at_once, clock, each_step, shares, so_far
from snnconv.runtime.run import RunState
from snnconv.runtime.shapes import known_name, one_by_one
from snnconv.runtime.values import (
    Accumulated,
    Args,
    Kwargs,
    Sized,
    Static,
    Temporal,
    Wrapped,
    folded,
    leafwise,
    leaves,
    unfolded,
    wrapped,
)

__all__ = ["Stepping"]


@dataclass(frozen=True, eq=False)
class Stepping:
    """How the operators of one graph act on values over time.

    Attributes:
        source: the network.
        flow: what is known of its nodes.
        coding: ``"rate"``, ``"sum"`` or ``"differential"``.
        max_pool: ``"accumulated"`` (max of the currents accumulated so far) or ``"instantaneous"``.
    """

    source: SourceGraph
    flow: Flow
    coding: str
    max_pool: str

    @property
    def enters_once(self) -> bool:
        """Whether a constant enters with the first step alone, not with every one."""
        return self.coding != "rate"

    @functools.cached_property
    def names(self) -> dict[fx.Node, str]:
        """Names of the operators that are PyTorch's or Python's."""
        return {node: known_name(node) for node in self.flow.nodes}

    def one_by_one(self, node: fx.Node, args: Args, kwargs: Kwargs, timesteps: int) -> bool:
        """Whether a call treats the inputs of a batch one by one, so that it may take all steps at once."""
        module = self.source.modules[str(node.target)] if node.op == "call_module" else None
        return one_by_one(node, self.names[node], module, args, kwargs, timesteps)

    def _apply(
        self, node: fx.Node, function: Callable[..., object], args: Args, kwargs: Kwargs, timesteps: int
    ) -> object:
        """Run an operator on all steps at once, or, where that is not known to be the same, on each as it is."""
        if timesteps == 1 or self.one_by_one(node, args, kwargs, timesteps):
            return at_once(function, args, kwargs, timesteps)
        return each_step(function, args, kwargs, timesteps, vectorised=node.op != "call_module")

    def _stepwise(
        self,
        node: fx.Node,
        function: Callable[..., object],
        args: Args,
        kwargs: Kwargs,
        timesteps: int,
        state: RunState,
    ) -> object:
        """Each step by itself."""
        if self.enters_once:
            args, kwargs = leafwise(lambda v: _entering_once(v, timesteps, state.steps), (args, kwargs))
            parted = _bias_apart(node, args, kwargs)
            if parted is not None:
                positional, named, bias = parted
                out = self._apply(node, function, positional, named, timesteps)
                if state.steps == 0:
                    assert isinstance(out, Temporal)
                    unfolded(out, timesteps)[0].add_(bias)
                return out
        out = self._apply(node, function, args, kwargs, timesteps)
        if self.enters_once and self._has_constant(node, args, kwargs):
            # f(x) - f(0) is the linear part: the constant enters with the first step only
            positional, named = leafwise(_emptied, (args, kwargs))
            constant = self._apply(node, function, positional, named, timesteps)
            first = 1 if state.steps == 0 else 0
            masked = not is_synapse(node) and _infinite((args, kwargs))

            def once(out: object, constant: object) -> object:
                if not isinstance(out, Temporal):
                    return out
                assert isinstance(constant, Temporal)
                late = unfolded(out, timesteps).clone()
                late[first:] -= unfolded(constant, timesteps)[first:]
                if masked:  # a mask of -inf: it is there from the first step on
                    late[first:].nan_to_num_(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
                return folded(late)

            out = tree_map(once, out, constant, is_leaf=wrapped)
        return out

    def _has_constant(self, node: fx.Node, args: Args, kwargs: Kwargs) -> bool:
        """Whether an operator that is stepped adds something that does not come from its input."""
        if self.flow.kinds[node] == "affine":
            return True
        return not is_synapse(node) and any(isinstance(v, Tensor) for v in leaves((args, kwargs)))

    def _pooled(self, node: fx.Node, args: Args, kwargs: Kwargs, timesteps: int, state: RunState) -> Temporal | None:
        """Max-pooling of a whole phase in one pass; ``None`` where it is no such thing."""
        if not state.whole or node.target is not F.max_pool2d or len(args) > 6 or kwargs.get("return_indices"):
            return None
        if not args or not isinstance(args[0], Temporal) or args[0].data.dim() != 4:
            return None
        seq = args[0].data.unflatten(0, (timesteps, -1))
        pool: Callable[..., Tensor] = accumulated_max_pool  # takes what max_pool2d takes
        window = {k: v for k, v in kwargs.items() if k != "return_indices"}
        if self.coding == "differential":
            seq = seq / clock(seq, state.steps)
        pooled = pool(seq, *args[1:], **window, backend=state.backend)
        return folded(pooled * clock(pooled, state.steps) if self.coding == "differential" else pooled)

    def _so_far(
        self,
        node: fx.Node,
        function: Callable[..., object],
        args: Args,
        kwargs: Kwargs,
        timesteps: int,
        state: RunState,
    ) -> object:
        """y_t = f(value so far)."""
        before = state.accumulated.get(node.name, {})
        totals: dict[int, Tensor] = {}

        args, kwargs = leafwise(_accumulating(before, totals, timesteps, state.steps, self.coding), (args, kwargs))
        state.accumulated[node.name] = totals
        out = self._apply(node, function, args, kwargs, timesteps)
        number = iter(range(10_000))

        def kept(value: object) -> object:
            name = f"{node.name}/{next(number)}"
            return Accumulated(value.data, name, value.scalar) if isinstance(value, Temporal) else value

        return leafwise(kept, out)

    def shares(self, value: Accumulated, timesteps: int, state: RunState) -> Temporal:
        """What each step adds to a value that says what holds so far."""
        if value.shares is None:
            seq, before = unfolded(value, timesteps), state.accumulated.get(value.name)
            seq, state.accumulated[value.name] = shares(seq, state.steps, before, self.coding)
            value.shares = folded(seq)
        return value.shares

    def _grown(
        self,
        node: fx.Node,
        function: Callable[..., object],
        args: Args,
        kwargs: Kwargs,
        timesteps: int,
        state: RunState,
    ) -> object:
        """A maximum of the sums so far, as what each step adds to it."""
        before, previous = state.accumulated.get(node.name, ({}, []))
        totals: dict[int, Tensor] = {}

        coding = (
            "sum" if self.coding == "rate" else self.coding
        )  # the largest sum is the largest mean, without division
        args, kwargs = leafwise(_accumulating(before, totals, timesteps, state.steps, coding), (args, kwargs))
        y = self._apply(node, function, args, kwargs, timesteps)
        last: list[Tensor] = []

        def grown(value: Wrapped) -> object:
            assert isinstance(value, Temporal)
            seq, total = shares(
                unfolded(value, timesteps), state.steps, previous[len(last)] if previous else None, coding
            )
            last.append(total)
            return folded(seq)

        result = leafwise(grown, y)
        state.accumulated[node.name] = (totals, last)
        return result

    def currents(self, value: Static | Temporal, timesteps: int, state: RunState) -> Tensor:
        """What neurons get ``[T, B, ...]``; in sum coding a single step of what does not change."""
        if isinstance(value, Temporal):
            return unfolded(value, timesteps)
        if self.coding == "differential":
            entering = _entering_once(value, timesteps, state.steps)
            assert isinstance(entering, Temporal)
            return unfolded(entering, timesteps)
        return value.data.unsqueeze(0).expand(1 if self.coding == "sum" else timesteps, *value.data.shape)

    def outputs(self, value: Temporal | Accumulated, name: str, timesteps: int, state: RunState) -> Tensor:
        """What each step adds to an output ``[T, B, ...]``, whose mean (in sum coding, sum) is the answer."""
        if self.coding != "differential":
            steps = self.shares(value, timesteps, state) if isinstance(value, Accumulated) else value
            return unfolded(steps, timesteps)
        before, last = state.accumulated.get(name, (None, None))
        seq = unfolded(value, timesteps)
        if isinstance(value, Temporal):
            seq, before = so_far(seq, state.steps, before, self.coding)
        added, last = shares(seq, state.steps, last, "rate")
        state.accumulated[name] = (before, last)
        return added

    def run(
        self,
        node: fx.Node,
        function: Callable[..., object],
        args: Args,
        kwargs: Kwargs,
        timesteps: int,
        state: RunState,
    ) -> object:
        """A call of which at least one argument changes over time, at ``timesteps`` steps."""
        kind = self.flow.kinds[node]
        accumulated = any(isinstance(v, Accumulated) for v in leaves((args, kwargs)))
        pools = kind == "homogeneous" and self.max_pool == "accumulated"
        if pools and not accumulated:
            pooled = self._pooled(node, args, kwargs, timesteps, state)
            return self._grown(node, function, args, kwargs, timesteps, state) if pooled is None else pooled
        if kind == "nonlinear" or pools or (accumulated and not is_synapse(node)):
            return self._so_far(node, function, args, kwargs, timesteps, state)
        if accumulated:

            def per_step(value: object) -> object:
                return self.shares(value, timesteps, state) if isinstance(value, Accumulated) else value

            args, kwargs = leafwise(per_step, (args, kwargs))
        return self._stepwise(node, function, args, kwargs, timesteps, state)


def _accumulating(
    before: dict[int, Tensor], totals: dict[int, Tensor], timesteps: int, start: int, coding: str
) -> Callable[[Wrapped], object]:
    """A function that makes of a `Temporal` what it comes to at each step, and notes in ``totals`` what to remember."""

    def accumulated(value: object) -> object:
        if not isinstance(value, Temporal):
            return value
        key = len(totals)
        seq, totals[key] = so_far(unfolded(value, timesteps), start, before.get(key), coding)
        return folded(seq)

    return accumulated


def _bias_apart(node: fx.Node, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs, Tensor] | None:
    """The call of a layer with weights without its bias, and the bias, shaped to be added; None where it has none."""
    if not is_synapse(node):
        return None
    record = operator_of(node.target, node.op == "call_method")
    given = record.bind(args, kwargs)
    bias, weight = given.get("bias"), given.get("weight")
    if not isinstance(bias, Tensor) or not isinstance(weight, Tensor):
        return None
    rest = {name: value for name, value in given.items() if name not in ("bias", "input")}
    return (given["input"],), rest, bias.reshape(-1, *[1] * (weight.dim() - 2))


def _infinite(tree: object) -> bool:
    """Whether a constant among a call's arguments is infinite somewhere."""
    tensors = [v for v in leaves(tree) if isinstance(v, Tensor) and v.is_floating_point()]
    return any(bool(v.isinf().any()) for v in tensors)


def _entering_once(value: Wrapped, timesteps: int, start: int) -> object:
    """What no neuron changes, as a sequence of which the first step has it all; what is as a weight is there always."""
    if isinstance(value, Sized) or not isinstance(value, Static):
        return value.data if isinstance(value, Sized) else value
    data = value.data.unsqueeze(0)
    first = data if start == 0 else torch.zeros_like(data)
    return folded(torch.cat([first, data.new_zeros((timesteps - 1, *data.shape[1:]))]))


def _emptied(value: object) -> object:
    return value._replace(data=torch.zeros_like(value.data)) if isinstance(value, Temporal) else value
