"""Networks that do not trace: every call of their forward is watched, activations are replaced.

The forward runs as it is. A call that the operator table knows as a ReLU becomes a site, named by the module it
happens in and its number there; what is not linear acts on the mean of all steps so far, as in the graph executor
(:mod:`snnconv.runtime.tree_run`).
"""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.activations.base import TrainedActivation
from snnconv.graph.ops import ACTIVATIONS
from snnconv.graph.source import ConversionError, Site
from snnconv.graph.store import Store
from snnconv.graph.trace import check_finite
from snnconv.report import AnalogSite
from snnconv.runtime.executor import NeuronFn, RunState
from snnconv.runtime.program import Program
from snnconv.runtime.tree_run import Found, Place, TreeRun

__all__ = ["TreeProgram"]

_LONG = 1000  # of a module's lists: what is longer holds data, not modules
_PLAIN = frozenset({bool, int, float, str, type(None), Tensor, nn.Parameter, set, frozenset, torch.dtype})


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
        self.model = copy.deepcopy(model).eval()
        for name, tensor in self.model.state_dict().items():
            check_finite(name, tensor)
        for path, module in list(self.model.named_modules()):
            if isinstance(module, TrainedActivation):
                parent, _, leaf = path.rpartition(".")
                site = module.site(path) if sites is None else sites.get(path)
                if site is not None:
                    setattr(self.model.get_submodule(parent), leaf, Place(site))
        self.coding = coding
        self.max_pool = max_pool
        self.sites: dict[str, Site] = dict(sites or {})
        self.notes: list[str] = []
        self.analog: dict[str, str] = {}
        self.analog_sites: list[AnalogSite] = []
        self.synapses: list[str] = []
        self._biases = Store()
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

    def static(self, x: Any, neuron: NeuronFn) -> Any:
        return self._run(x, neuron, 0, RunState())

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
        run = TreeRun(neuron, timesteps, state, self.sites, self._biases, self.max_pool, found)
        return run(_twin(self.model, run), x)

    def store(self) -> nn.Module:
        holder = nn.Module()
        holder.model = self.model
        holder.biases = self._biases
        return holder

    def trainable(self) -> list[Tensor]:
        return [p.requires_grad_(True) for p in self.model.parameters()]

    @property
    def biases(self) -> Store:
        """Constant currents by site; they move and save with the network."""
        return self._biases

    @biases.setter
    def biases(self, values: Mapping[str, Tensor]) -> None:
        unknown = [name for name in values if name not in self.sites]
        if unknown:
            raise ConversionError(f"there is no site {unknown[0]!r} to take a bias")
        self._biases = Store(dict(values))

    def shift(self, site: str, current: Tensor) -> None:
        self._biases[site] = self._biases[site] + current if site in self._biases else current

    def misplaced(self) -> list[str]:
        """Sites that the module tree has no place for, as sentences."""
        modules = dict(self.model.named_modules())
        found = []
        for name, site in self.sites.items():
            path = name.partition(":")[0]
            owner = modules.get(path)
            if owner is None and site.kind == "relu":
                owner = modules.get(path.rpartition(".")[0])
            if owner is None or (site.kind != "relu" and not isinstance(owner, Place)):
                found.append(f"there is no place for site {name!r}")
        return found

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over a state dictionary of the same architecture, dtypes included."""
        self.model.load_state_dict(weights, assign=True)


def _twin(model: nn.Module, run: TreeRun) -> nn.Module:
    """Modules of their own for one run, with the same weights, that say when they are entered and left."""
    paths = {id(module): path for path, module in model.named_modules()}
    known: dict[int, Any] = {}

    def copied(value: Any) -> Any:
        kind = type(value)
        if isinstance(value, nn.Module):
            return module_of(value)
        if kind in (list, tuple, dict, OrderedDict) and 0 < len(value) < _LONG:
            if id(value) in known:
                return known[id(value)]
            if kind is tuple:
                return tuple(map(copied, value))
            new = known[id(value)] = copy.copy(value)
            for key in value if isinstance(value, dict) else range(len(value)):
                new[key] = copied(value[key])
            return new
        if kind is MethodType and isinstance(value.__self__, nn.Module):
            return MethodType(value.__func__, module_of(value.__self__))
        if kind is functools.partial:
            return functools.partial(copied(value.func), *map(copied, value.args), **copied(value.keywords))
        return value

    def module_of(module: nn.Module) -> nn.Module:
        if id(module) in known:
            return known[id(module)]  # type: ignore[no-any-return]
        new = known[id(module)] = object.__new__(type(module))
        contents = new.__dict__
        for key, value in module.__dict__.items():
            plain = type(value) in _PLAIN or key.endswith("_hooks")
            contents[key] = value if plain else dict(value) if key in ("_parameters", "_buffers") else copied(value)
        if not type(module).__module__.startswith("torch."):  # a forward may write into its own buffers
            contents["_buffers"] = {k: b if b is None else buffer_of(b) for k, b in module._buffers.items()}
        if id(module) in paths:
            _watch(new, paths[id(module)], run)
        return new

    def buffer_of(buffer: Tensor) -> Tensor:
        if id(buffer) not in known:
            known[id(buffer)] = run.value(buffer)
        return known[id(buffer)]  # type: ignore[no-any-return]

    return module_of(model)


def _watch(module: nn.Module, path: str, run: TreeRun) -> None:
    """Hooks of one run on a module of its own."""

    def enter(module: nn.Module, args: Any) -> None:
        run.places.append((path, module))

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        if run.places and run.places[-1][1] is module:
            run.places.pop()

    hooks = module.__dict__
    hooks["_forward_pre_hooks"] = OrderedDict({-1: enter, **hooks["_forward_pre_hooks"]})
    hooks["_forward_hooks"] = OrderedDict({**hooks["_forward_hooks"], -1: leave})
    hooks["_forward_hooks_always_called"] = OrderedDict({**hooks["_forward_hooks_always_called"], -1: True})
