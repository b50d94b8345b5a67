"""Networks that do not trace: every call of their forward is watched, activations are replaced.

The forward runs as it is. A call that the operator table knows as a ReLU becomes a site, named by the module it
happens in and its number there; what is not linear acts on the mean of all steps so far, as in the graph executor
(:mod:`snnconv.runtime.tree.run`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.graph.activation import ReLU
from snnconv.graph.capture.fx import check_weights
from snnconv.graph.ops import ACTIVATIONS
from snnconv.graph.source import ConversionError, Site
from snnconv.graph.store import Store
from snnconv.graph.trained import TrainedActivation
from snnconv.graph.unwrap import copied
from snnconv.report import AnalogSite
from snnconv.runtime.program import Program
from snnconv.runtime.run import RunState
from snnconv.runtime.tree.found import Found, Place
from snnconv.runtime.tree.run import TreeRun
from snnconv.runtime.tree.twin import twin
from snnconv.runtime.values import NeuronFn

__all__ = ["TreeProgram"]


class TreeProgram(Program):
    """Program of a network that cannot be traced.

    Each run has modules of its own, which share the weights: what a forward keeps in ``self`` is gone when the run is
    over, and several threads may run one program.

    Args:
        model: the network (copied; evaluation mode).
        example: an input, to find the sites; not read where ``sites`` are given.
        coding, max_pool: as for the graph executor.
        sites: the sites, where they are known (a saved network).

    Attributes:
        analog: what has no spiking equivalent, name → operator.
        synapses: paths of the modules in which layers with weights are.
        biases: constant currents by site.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Any,
        coding: str = "rate",
        max_pool: str = "accumulated",
        sites: dict[str, Site] | None = None,
    ) -> None:
        self.model = copied(model)[0].eval()
        check_weights(self.model)
        places: dict[nn.Module, Place] = {}  # one a module, whatever its names
        for path, module in list(self.model.named_modules(remove_duplicate=False)):
            if isinstance(module, TrainedActivation):
                parent, _, leaf = path.rpartition(".")
                site = module.site(path) if sites is None else sites.get(path)
                if module not in places and site is not None:
                    places[module] = Place(site)
                if module in places:
                    setattr(self.model.get_submodule(parent), leaf, places[module])
        self.coding = coding
        self.max_pool = max_pool
        self.sites: dict[str, Site] = dict(sites or {})
        self.notes: list[str] = []
        self.analog: dict[str, str] = {}
        self.analog_sites: list[AnalogSite] = []
        self.synapses: list[str] = []
        self.biases = Store()
        self._asks: bool | None = None  # for numbers that depend on neurons; the first run tells
        if sites is None:
            self._find(example)

    def _find(self, example: Any) -> None:
        found = Found(self.sites)
        with torch.no_grad():
            self._run(example, lambda site, z: self.sites[site].activation(z), 0, RunState(), found)
        self.synapses = found.synapses
        for number, (path, name, on_neurons) in enumerate(found.operators):
            activation = name in ACTIVATIONS
            if number in found.inside:
                reason = "no spiking equivalent: acts on the running mean of its input"
                if not on_neurons:
                    reason = "before the first neuron: computed once, on the analog input"
                activation |= on_neurons
            elif number in found.at_output and activation:
                reason, activation = "at the output: acts on the readout", False
            else:
                continue
            where = path or name
            if self.analog.get(where, name) != name:
                where = f"{where}.{name}"
            if where not in self.analog:
                self.analog[where] = name
                self.analog_sites.append(AnalogSite(where, name, reason, activation))

    def check_steps(self, example: Any) -> None:
        """Run two steps, the first without a spike.

        Raises:
            ConversionError: the forward does what cannot be done over time; the message says what, and where.
        """
        if self.coding == "sum":
            return

        def neuron(site: str, x_seq: Tensor) -> Tensor:
            out = self.sites[site].activation(x_seq)
            return torch.cat([torch.zeros_like(out[:1]), 2 * out[1:]])

        with torch.no_grad():
            self.steps(example, 2, neuron, RunState())

    def static(self, x: Any, neuron: NeuronFn, run: RunState | None = None) -> Any:
        return self._run(x, neuron, 0, run or RunState())

    def steps(self, x: Any, timesteps: int, neuron: NeuronFn, state: RunState) -> Any:
        if self.coding == "sum":
            raise ConversionError(
                "this network does not trace, so its shifted-threshold spikes cannot be sent through the "
                "layers one step at a time; call snn(x), which sends each neuron's weighted sum (by "
                "linearity, the same values)"
            )
        out = self._run(x, neuron, timesteps, state)
        state.steps += timesteps
        return out

    def _run(self, x: Any, neuron: NeuronFn, timesteps: int, state: RunState, found: Found | None = None) -> Any:
        keeps = timesteps > 0 and self._asks is not False
        run = TreeRun(neuron, timesteps, state, self.sites, self.biases, self.max_pool, found, keeps)
        out = run(functools.partial(twin, self.model), x)
        if self._asks is None:
            self._asks = run.asked.asks
        return out

    def store(self) -> nn.Module:
        holder = nn.Module()
        holder.model = self.model
        holder.biases = self.biases
        return holder

    def trainable(self) -> list[Tensor]:
        return [p.requires_grad_(True) for p in self.model.parameters()]

    def shift(self, site: str, current: Tensor) -> None:
        self.biases[site] = self.biases[site] + current if site in self.biases else current

    def misplaced(self) -> list[str]:
        """Sites that the module tree has no place for, as sentences."""
        modules = dict(self.model.named_modules())
        found = []
        for name, site in self.sites.items():
            path = name.partition(":")[0]
            owner = modules.get(path)
            if owner is None and isinstance(site.function, ReLU):
                owner = modules.get(path.rpartition(".")[0].removesuffix("functional").removesuffix("."))
            if owner is None or (not isinstance(site.function, ReLU) and not isinstance(owner, Place)):
                found.append(f"there is no place for site {name!r}")
        return found

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over a state dictionary of the same architecture, dtypes included."""
        self.model.load_state_dict(weights, assign=True)
