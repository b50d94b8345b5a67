"""One network over time: a program, its neurons, and how a run is cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconv.dynamics.captured import captured
from snnconv.graph.source import ConversionError
from snnconv.runtime.finite import NonFinite
from snnconv.runtime.plan import Plan
from snnconv.runtime.population import Population, over_time
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.readout import behind
from snnconv.runtime.run import RunState
from snnconv.runtime.values import Fired, NeuronFn, channels_last

__all__ = ["Observers", "Simulation"]


@dataclass(frozen=True)
class Observers:
    """Who looks at a run.

    Attributes:
        outputs: called with every site's outputs ``[T, B, ...]``, phase by phase.
        inputs: called with every site's currents, in the same way.
        operators: called with every operator of a graph and what it gives.
    """

    outputs: Callable[[str, Tensor], None] | None = None
    inputs: Callable[[str, Tensor], None] | None = None
    operators: Callable[[fx.Node, Any], None] | None = None

    def __bool__(self) -> bool:
        return self.outputs is not None or self.inputs is not None or self.operators is not None


@dataclass(frozen=True)
class Simulation:
    """What one call runs, with the settings that the network had when it began.

    Attributes:
        program: the network with open places for neurons.
        population: the neurons.
        plan: how a run is cut.
        delay: first steps of the readout phase that are not read.
    """

    program: Program
    population: Population
    plan: Plan
    delay: int = 0

    def outputs(
        self, x: Any, synapses: str = "auto", timesteps: int | None = None, observers: Observers | None = None
    ) -> Any:
        """Outputs of all read-out steps from a fresh state: :meth:`snnconv.SpikingNetwork.run`."""
        x = channels_last(x)
        neurons, method = self.population.for_run(), self.population.method
        seen = observers or Observers()
        steps = timesteps or method.timesteps
        masks: dict[str, Tensor] = {}

        def fired(site: str, x_seq: Tensor) -> Fired:
            if seen.inputs is not None:
                seen.inputs(site, x_seq)
            both = method.pre_timesteps_
            out = neurons.fire_phase(site, x_seq, masks) if both else neurons.fire_all(site, x_seq)
            if seen.outputs is not None:
                seen.outputs(site, over_time(out))
            return out

        def summed(site: str, z: Tensor) -> Fired:
            return over_time(fired(site, z.unsqueeze(0))).sum(0) if seen else neurons.fire_total(site, z)

        by_kernels = neurons.by_kernels
        with neurons.turn(needed=not by_kernels):
            if not by_kernels:  # they remember by themselves: nothing may be left of an earlier run
                neurons.reset()
            free = not seen and (by_kernels or not neurons.watched)
            looking = () if seen.operators is None else (seen.operators,)
            state = self.state(whole=not captured(), observers=looking, may_overwrite=free)
            if method.coding == "sum" and synapses == "auto":
                result = self.program.totals(x, summed, state)
            elif not seen and len(slices := self.time_slices(x, steps)) > 1:
                result = self._in_slices(x, slices)
            else:
                if method.pre_timesteps_:
                    self.program.steps(x, method.pre_timesteps_, fired, state)
                    state.restart()
                result = self.program.steps(x, steps, fired, state)
            neurons.reset()
        return NonFinite(x).mark(result, 1)

    def resume(
        self,
        x: Any,
        steps: int,
        memory: dict[str, Any],
        state: RunState,
        observe: Callable[[str, Tensor], None] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Outputs of ``steps`` more steps, and what the neurons remember after them.

        Args:
            x: inputs ``[B, ...]``.
            steps: how many.
            memory: what they remembered before; empty: a fresh state.
            state: of the run, which goes on.
            observe: called with every site's outputs ``[T, B, ...]``.
        """

        def seen(site: str, x_seq: Tensor) -> Any:
            out = self.population.fire(site, x_seq)
            if observe is not None:
                observe(site, over_time(out))
            return out

        with self.population.turn():
            self.population.reset()
            self.population.restore(memory)
            out = self.program.steps(x, steps, seen, state)
            return out, self.population.remember()

    def state(self, **given: Any) -> RunState:
        """What a run holds at its start; sums may be written over what neurons put out, where nobody looks at it."""
        given.setdefault("may_overwrite", not self.population.watched)
        return RunState(backend=self.population.backend, **given)

    def resumable(self, phases: bool = False) -> bool:
        """Whether the states of all neurons can be kept outside of them; ``phases``: in each of two phases."""
        return self.population.resumable(phases) and isinstance(self.program, GraphProgram)

    def time_slices(self, x: Any, steps: int) -> list[int]:
        """How many steps each slice of a run in time has: one slice where all fit, or nothing can be cut."""
        slices = self.plan.time_slices(x, steps)
        return slices if len(slices) == 1 or self.resumable(phases=True) else [steps]

    def threads(self) -> int:
        """How many slices of a batch may run side by side: on the CPU, where no neuron keeps a state of its own."""
        if captured():
            return 1
        threads = torch.get_num_threads()
        if threads == 1 or self.population.backend == "inductor" or not isinstance(self.program, GraphProgram):
            return 1
        if self.program.executor.observers or torch.is_autocast_enabled("cpu"):
            return 1
        tensors = itertools.chain(self.program.store().buffers(), self.population.neurons.buffers())
        if any(tensor.device.type != "cpu" for tensor in tensors):
            return 1
        return threads if self.population.by_kernels else 1

    @torch.no_grad()
    def try_out(self, x: Any) -> None:
        """One pass without time, which shows whether the network takes inputs of this size.

        Raises:
            ConversionError: a site with the thresholds of another number of channels.
        """

        def fire(site: str, z: Tensor) -> Tensor:
            place = self.program.sites[site]
            count = self.population.threshold(site).numel()
            if count > 1 and count != z.shape[place.axis]:
                raise ConversionError(f"{site} has the thresholds of {count} channels, and here {z.shape[place.axis]}")
            return place.activation(z)

        self.program.static(channels_last(x), fire)

    def _in_slices(self, x: Any, slices: list[int]) -> Any:
        """Outputs ``[T, B, ...]`` of the read-out steps, as a run in one slice gives them.

        What neurons remember takes two values each, between the slices, for all layers at once.
        """
        state = RunState(backend=self.population.backend, may_overwrite=True)
        masks: dict[str, Tensor] = {}
        latency = self.population.method.pre_timesteps_
        if latency:
            memory: dict[str, Any] = {}
            for steps in self.time_slices(x, latency):
                self.program.steps(x, steps, self._firing(memory, None), state)
            masks = {site: self.population.allowed(site, memory.pop(site)) for site in list(memory)}
            state.restart()
        fire = self._firing({}, masks if latency else None)
        return behind(*[self.program.steps(x, steps, fire, state) for steps in slices])

    def _firing(self, memory: dict[str, Any], masks: dict[str, Tensor] | None) -> NeuronFn:
        """Neurons that go on from ``memory``; those that ``masks`` silences put out nothing."""

        def fire(site: str, x_seq: Tensor) -> Fired:
            out = self.population.fire_from(memory, site, x_seq, in_place=True)
            if masks is not None:
                (out if isinstance(out, Tensor) else out.int8_spikes).mul_(masks[site])
            return out

        return fire
