"""What a converted network runs: a traced graph, or a module tree whose activations are intercepted."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from snnconv.graph.fold import shift_bias
from snnconv.graph.source import Site, SourceGraph
from snnconv.graph.store import Store
from snnconv.runtime import ladders  # noqa: F401 - registers its operators, which a file may name
from snnconv.runtime.batch import Batch, entries
from snnconv.runtime.executor import Executor
from snnconv.runtime.readout import Held, opened
from snnconv.runtime.run import RunState
from snnconv.runtime.values import NeuronFn

__all__ = ["GraphProgram", "Program"]


class Program(ABC):
    """A network with open places for neurons.

    Attributes:
        sites: those places, by name, in execution order.
        notes: sentences for the conversion report.
    """

    sites: dict[str, Site]
    notes: list[str]

    @abstractmethod
    def static(self, x: Any, neuron: NeuronFn, run: RunState | None = None) -> Any:
        """One pass without time; ``neuron`` maps ``[B, ...]`` to ``[B, ...]``."""

    @abstractmethod
    def steps(self, x: Any, timesteps: int, neuron: NeuronFn, state: RunState) -> Any:
        """``timesteps`` steps; ``neuron`` maps ``[T, B, ...]`` to the same, outputs are ``[T, B, ...]`` or `Held`."""

    def totals(self, x: Any, neuron: NeuronFn, run: RunState | None = None) -> Any:
        """`static`, with outputs as `steps` gives them, of a single step."""

        def of_one_step(value: Tensor) -> Any:
            counts = value.is_floating_point() or value.is_complex()
            return value.unsqueeze(0) if counts else Held(value.unsqueeze(0))

        return tree_map_only(Tensor, of_one_step, opened(self.static(x, neuron, run)))

    @abstractmethod
    def store(self) -> nn.Module:
        """Weights, as a module that moves with the network."""

    @abstractmethod
    def shift(self, site: str, current: Tensor) -> None:
        """Add a constant current to a site's input for good: one value per channel, shaped to broadcast against it."""

    @abstractmethod
    def trainable(self) -> list[Tensor]:
        """Weights and biases as leaves that require gradients."""

    def moved(self, fn: Callable[[Tensor], Tensor]) -> None:  # noqa: B027 - most programs hold nothing else
        """Called after the network's tensors were moved."""


class GraphProgram(Program):
    """Program of a traced network."""

    def __init__(self, source: SourceGraph, coding: str = "rate", max_pool: str = "accumulated") -> None:
        self.source = source
        self.sites = source.sites
        self.notes = source.notes
        self.coding = coding
        self.max_pool = max_pool
        if not isinstance(source.tensors, Store):
            source.tensors = Store(source.tensors)  # type: ignore[assignment]
        self._opaque = Store(dict(source.modules))
        self.executor = Executor(source, _unset, coding, max_pool)

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphProgram:
        source = self.source.copy()
        source.tensors = copy.deepcopy(self.source.tensors, memo)
        source.modules = copy.deepcopy(self.source.modules, memo)
        return GraphProgram(source, self.coding, self.max_pool)

    def __copy__(self) -> GraphProgram:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["executor"]  # made of the graph, with what a run left in it
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.executor = Executor(self.source, _unset, self.coding, self.max_pool)

    def static(self, x: Any, neuron: NeuronFn, run: RunState | None = None) -> Any:
        self._check_sizes(x)
        return self._executor(neuron, run)(x)

    def totals(self, x: Any, neuron: NeuronFn, run: RunState | None = None) -> Any:
        self._check_sizes(x)
        return self._executor(neuron, run).totals(x)

    def steps(self, x: Any, timesteps: int, neuron: NeuronFn, state: RunState) -> Any:
        self._check_sizes(x)
        return self._executor(neuron, state).steps(x, timesteps, state)

    def _check_sizes(self, x: Any) -> None:
        """Refuse inputs for which the graph was not captured."""
        if self.source.sizes is not None:
            named = Batch(dict(zip(self.source.placeholders(), x, strict=False))) if isinstance(x, tuple) else x
            self.source.sizes.check(entries(named))

    def _executor(self, neuron: NeuronFn, run: RunState | None) -> Executor:
        """An executor of one run: what it knows of the graph is shared, neurons and observers are its own."""
        executor = self.executor.for_run(neuron)
        if run is not None:
            executor.may_overwrite = run.may_overwrite
            executor.observers = [*executor.observers, *run.observers]
        return executor

    def shift(self, site: str, current: Tensor) -> None:
        node = next(n for n in self.source.site_nodes() if n.kwargs["site"] == site)
        shift_bias(self.source, node, current)
        self.executor = Executor(self.source, _unset, self.coding, self.max_pool)

    def trainable(self) -> list[Tensor]:
        return [t.requires_grad_(True) for t in self.source.tensors.values() if t.is_floating_point() and t.dim() > 0]

    def store(self) -> nn.Module:
        holder = nn.Module()
        holder.tensors = self.source.tensors  # type: ignore[assignment]
        holder.modules_ = self._opaque
        return holder


def _unset(site: str, x: Tensor) -> Tensor:
    raise RuntimeError("no neuron function was set")
