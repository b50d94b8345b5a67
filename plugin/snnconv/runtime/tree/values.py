"""What a module tree hands from call to call: tensors that look like one step and may hold all of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["CONSTANT", "INPUT", "MEANS", "NEURONS", "STEPS", "Memory", "Value", "storage_of"]

CONSTANT, INPUT, NEURONS = range(3)
"""What a value depends on: weights and sizes alone, the network's input, what neurons put out."""
STEPS, MEANS = "steps", "means"
"""What a value over time holds: what each step brings, or the value of the mean of all steps so far."""

View = Callable[[Tensor, bool], Tensor]
"""Takes a memory's tensor, and whether it is over time, to one of its views."""


@dataclass(eq=False)
class Memory:
    """What values that are views of one another share.

    Attributes:
        root: the tensor that all are views of.
        origin: ``CONSTANT``, ``INPUT`` or ``NEURONS``.
        time: ``STEPS``, ``MEANS``, or None for a tensor without time.
        analog: operators without spiking equivalent that the values went through since the last layer with weights.
        channels: the axis of one step on which channels stand, where it is known.
    """

    root: Tensor
    origin: int = CONSTANT
    time: str | None = None
    analog: frozenset[int] = frozenset()
    channels: int | None = None
    members: list[weakref.ref[Value]] = field(default_factory=list)

    def alive(self) -> list[Value]:
        """Values that somebody still holds."""
        found = [value for reference in self.members if (value := reference()) is not None]
        self.members = [weakref.ref(value) for value in found]
        return found


class Value(Tensor):
    """A tensor of a forward that runs call by call: it has the shape of one step, ``[B, ...]``.

    It is a handle only: operators see ``raw``, and no operator but those of the run that made it takes it.

    Attributes:
        raw: ``[B, ...]``, or ``[T, B, ...]`` where ``memory.time`` is set.
        memory: what it shares with its views.
        views: the views that lead from ``memory.root`` to it.
        run: the run that it belongs to.
        means: the means that were made of its steps, if they were.
    """

    raw: Tensor
    memory: Memory
    views: tuple[View, ...]
    run: Any
    means: Tensor | None

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, raw: Tensor, memory: Memory, views: tuple[View, ...], run: Any) -> Value:
        over_time = memory.time is not None
        try:
            strides = raw.stride()[over_time:]
        except RuntimeError:  # sparse tensors have none
            strides = None
        value: Value = Tensor._make_wrapper_subclass(
            cls, raw.shape[over_time:], strides=strides, dtype=raw.dtype, device=raw.device
        )
        value.raw, value.memory, value.views, value.run, value.means = raw, memory, views, run, None
        memory.members.append(weakref.ref(value))
        return value

    def __init__(self, *args: Any) -> None:
        super().__init__()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Operators that do not come by Python's way, from compiled code: the run takes them like all others."""
        run = next(v.run for v in tree_leaves((args, kwargs)) if isinstance(v, Value))
        with torch._C.DisableTorchFunction():
            return run.call(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        time = f", {self.raw.shape[0]} steps" if self.memory.time else ""
        return f"Value({list(self.shape)}, {self.dtype}{time})"

    @property
    def changes(self) -> bool:
        """Whether it changes from step to step."""
        return self.memory.time is not None

    def becomes(self, raw: Tensor, memory: Memory) -> None:
        """Hold another tensor from now on, of the same shape, which no other value sees."""
        self.raw, self.memory, self.views, self.means = raw, memory, (), None
        memory.members.append(weakref.ref(self))

    def derived(self, root: Tensor, over_time: bool) -> Tensor:
        """What it is of another root of the same memory."""
        for view in self.views:
            root = view(root, over_time)
        return root


def storage_of(tensor: Tensor) -> int:
    """Address of the memory that a tensor lies in, 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0
