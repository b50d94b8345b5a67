"""What one run holds, and what the executor knows of a call beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from snnconv.runtime.values import Args, Kwargs

__all__ = ["Call", "RunState"]


@dataclass
class RunState:
    """All that one run holds: nothing of it stays on the network, so that several threads may call one.

    Attributes:
        steps: that have run.
        static: values that no neuron changes.
        accumulated: what operators that act on the sum so far remember.
        whole: no steps follow in a phase, so that nothing need be remembered.
        backend: of the kernels.
        may_overwrite: nobody keeps what neurons put out, so that sums may be written over it.
        observers: called with every operator and what it gives.
    """

    steps: int = 0
    static: dict[str, object] = field(default_factory=dict)
    accumulated: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    backend: str = "auto"
    may_overwrite: bool = False
    observers: tuple[Callable[[fx.Node, object], None], ...] = ()

    def restart(self) -> None:
        """Begin a new phase: forget what was accumulated, keep what is constant."""
        self.steps = 0
        self.accumulated.clear()


@dataclass
class Call:
    """An operator's call whose graph values are among its positional arguments, not inside them.

    Attributes:
        args: positional arguments, graph nodes in their places.
        slots: those places, each with its node.
        each_step: in this coding it acts on every step by itself.
        alone: whether it treats the inputs of a batch one by one, by the number of dimensions and whether the batch
            has one input.
    """

    function: Callable[..., object]
    args: Args
    kwargs: Kwargs
    slots: list[tuple[int, fx.Node]]
    each_step: bool = True
    alone: dict[tuple[int, bool], bool] = field(default_factory=dict)
