"""One call of a forward, with plain tensors in place of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from snnconv.graph.ops import SYNAPSES, op_kind
from snnconv.runtime.tree.functions import Arguments, Function
from snnconv.runtime.tree.steps import over_steps
from snnconv.runtime.tree.values import INPUT, Value, View

__all__ = ["Call", "kind_of", "others", "tensors"]

_KEEPS_CHANNELS = frozenset({"add", "iadd", "sub", "mul", "batch_norm", "contiguous", "to", "dropout"})


@dataclass(frozen=True)
class Call:
    """A function, with what it is called with.

    Attributes:
        what: what is known of the function.
        func: the function.
        given: how its arguments nest.
        raw: the arguments as plain tensors.
    """

    what: Function
    func: Any
    given: Arguments
    raw: list[Any]

    def plainly(self, raw: list[Any] | None = None) -> Any:
        """What it gives, without time."""
        args, kwargs = self.given.filled(self.raw if raw is None else raw)
        try:
            return self.func(*args, **kwargs)
        except RuntimeError:
            if self.what.name != "view":
                raise
            # a view of what the source network lays out contiguously may be channels-last here
            return args[0].reshape(*args[1:], **kwargs)

    def over_steps(self, sequences: Mapping[int, Tensor], kind: str, raw: list[Any] | None = None) -> Any:
        """What it gives at each step, where the arguments at some positions change from step to step."""
        raw = self.raw if raw is None else raw
        try:
            return over_steps(self.what, self.func, self.given, raw, sequences, kind)
        except RuntimeError:
            if self.what.name != "view":
                raise
            return over_steps(self.what, Tensor.reshape, self.given, raw, sequences, kind)

    def view(self, position: int, number: int) -> View:
        """Its result ``number`` as a view of the argument at ``position``."""
        raw = [None if i == position else leaf for i, leaf in enumerate(self.raw)]

        def view(root: Tensor, over_time: bool) -> Tensor:
            leaves = [root if i == position else leaf for i, leaf in enumerate(raw)]
            out = self.over_steps({position: root}, "linear", leaves) if over_time else self.plainly(leaves)
            return tensors(out)[number]

        return view

    def channels(self, leaves: list[Any]) -> int | None:
        """The axis of its result's channels: last behind a linear layer, second behind a convolution."""
        if not self.what.method and self.what.target in SYNAPSES:
            return -1 if SYNAPSES[self.what.target] == "linear" else 1
        if self.what.bare not in _KEEPS_CHANNELS:
            return None
        return next((v.memory.channels for v in leaves if isinstance(v, Value) and v.memory.channels is not None), None)


def kind_of(what: Function, given: Arguments, origin: int) -> str:
    """Kind of a call in the values of ``origin``, as :func:`snnconv.graph.ops.op_kind` has it."""

    def depends(value: Any) -> bool:
        if isinstance(value, (tuple, list, dict)):
            return any(depends(v) for v in tree_leaves(value))
        return isinstance(value, Value) and value.memory.origin >= max(origin, INPUT)

    args, kwargs = given.filled(given.leaves)
    if what.name == "__setitem__":
        return "nonlinear" if depends(args[1]) else "linear"
    if what.overwrites:
        return "linear"
    if what.view:
        return "nonlinear" if depends(args[1:]) or depends(kwargs) else "linear"
    return op_kind(what.target, what.method, args, kwargs, depends)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of a result, in order."""
    return [v for v in tree_leaves(tree) if isinstance(v, Tensor)]


def others(tree: Any) -> list[Any]:
    """What a result holds besides tensors, in order."""
    return [v for v in tree_leaves(tree) if not isinstance(v, Tensor)]
